//! Where a monitor lives, in QEMU's `-qmp` syntax.

use std::{fmt, os::fd::RawFd, path::PathBuf, str::FromStr};

use crate::OptionString;

/// One monitor's place: the value of QEMU's `-qmp`, plus `fd:N` for what `-chardev socket,fd=N` says.
///
/// `unix:PATH`, `tcp:HOST:PORT`, `fd:N` (or `fd=N`), each with `,server=on|off` and `,wait=on|off`
/// behind it; `stdio`; `none` or `null`. The old spellings `,server`, `,nowait`, `,wait`, `,noserver`
/// are taken too. A comma inside PATH is written twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorAddress {
    /// No monitor at all.
    None,
    /// Standard input and output of this process.
    Stdio,
    /// A socket.
    Socket {
        /// Which one.
        socket: MonitorSocket,
        /// Who calls whom.
        role: Role,
    },
}

/// A socket for a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorSocket {
    /// A unix socket by its path.
    Unix(PathBuf),
    /// A TCP address. An empty host is any address; a name may stand for several, all of which are
    /// bound, or tried in turn when connecting. Port 0 lets the kernel choose.
    Tcp {
        /// Name or number, an IPv6 address without its brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A descriptor inherited from whoever started us: connected, or listening if our role is that.
    Fd(RawFd),
}

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We connect, once.
    Connect,
    /// We listen: one client at a time, again and again.
    Listen {
        /// Does the start wait for the first client? QEMU's default.
        wait: bool,
    },
}

/// An address that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// None of the forms.
    #[error(
        "'{0}' is no monitor address: unix:PATH, tcp:HOST:PORT or fd:N with ,server=on|off ,wait=on|off; stdio; none"
    )]
    Form(String),
    /// An option that is unknown or not supported.
    #[error("monitor option '{0}' is not supported")]
    Option(String),
    /// An option that must be on or off.
    #[error("monitor option '{name}' expects 'on' or 'off', not '{value}'")]
    Switch {
        /// The option.
        name: String,
        /// What it was set to.
        value: String,
    },
    /// QEMU's refusal of a client that waits.
    #[error("'wait' option is incompatible with socket in client connect mode")]
    WaitNeedsServer,
}

impl FromStr for MonitorAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.to_owned());
        match text {
            "stdio" => return Ok(Self::Stdio),
            "none" | "null" => return Ok(Self::None),
            _ => {}
        }
        let (place, options) = OptionString::behind_value(text);
        let socket = socket(&place).ok_or_else(form)?;
        let role = role(options)?;
        Ok(Self::Socket { socket, role })
    }
}

impl fmt::Display for MonitorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Stdio => f.write_str("stdio"),
            Self::Socket { socket, role } => {
                f.write_str(&socket.to_string().replace(',', ",,"))?;
                match role {
                    Role::Connect => Ok(()),
                    Role::Listen { wait: true } => f.write_str(",server=on"),
                    Role::Listen { wait: false } => f.write_str(",server=on,wait=off"),
                }
            }
        }
    }
}

impl fmt::Display for MonitorSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What would be taken off is put on once more.
            Self::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"path=") => {
                write!(f, "unix:path={}", path.display())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') || host.starts_with('[') => {
                write!(f, "tcp:[{host}]:{port}")
            }
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

fn socket(place: &str) -> Option<MonitorSocket> {
    if let Some(path) = place.strip_prefix("unix:") {
        let path = path.strip_prefix("path=").unwrap_or(path);
        return (!path.is_empty()).then(|| MonitorSocket::Unix(path.into()));
    }
    if let Some(rest) = place.strip_prefix("tcp:") {
        let (host, port) = rest.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return None;
        }
        return Some(MonitorSocket::Tcp {
            host: bare.unwrap_or(host).to_owned(),
            port: port.parse().ok()?,
        });
    }
    let number = place.strip_prefix("fd:").or_else(|| place.strip_prefix("fd="))?;
    let fd: RawFd = number.parse().ok()?;
    (fd >= 0).then_some(MonitorSocket::Fd(fd))
}

fn role(options: OptionString<'_>) -> Result<Role, AddressError> {
    let mut server = false;
    let mut wait = None;
    for (name, value) in options {
        let (name, value) = match value {
            Some(value) => (name, switch(name, &value)?),
            None => match name {
                "noserver" => ("server", false),
                "nowait" => ("wait", false),
                flag => (flag, true),
            },
        };
        match name {
            "server" => server = value,
            "wait" => wait = Some(value),
            // Monitors never delay what they send, so this changes nothing.
            "nodelay" => {}
            _ => return Err(AddressError::Option(name.to_owned())),
        }
    }
    match (server, wait) {
        (true, wait) => Ok(Role::Listen { wait: wait.unwrap_or(true) }),
        (false, None) => Ok(Role::Connect),
        (false, Some(_)) => Err(AddressError::WaitNeedsServer),
    }
}

/// QAPI's spellings of a boolean, `qapi_bool_parse`.
fn switch(name: &str, value: &str) -> Result<bool, AddressError> {
    match value {
        _ if !["server", "wait", "nodelay"].contains(&name) => {
            Err(AddressError::Option(name.to_owned()))
        }
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(AddressError::Switch { name: name.to_owned(), value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Role = Role::Listen { wait: true };
    const NOWAIT: Role = Role::Listen { wait: false };

    fn unix(path: &str, role: Role) -> MonitorAddress {
        let socket = MonitorSocket::Unix(path.into());
        MonitorAddress::Socket { socket, role }
    }

    fn tcp(host: &str, port: u16, role: Role) -> MonitorAddress {
        let host = host.to_owned();
        let socket = MonitorSocket::Tcp { host, port };
        MonitorAddress::Socket { socket, role }
    }

    fn fd(fd: RawFd, role: Role) -> MonitorAddress {
        let socket = MonitorSocket::Fd(fd);
        MonitorAddress::Socket { socket, role }
    }

    #[test]
    fn every_form_is_read_and_printed_so_that_it_reads_the_same() {
        for (text, expected) in [
            ("unix:/a/b", unix("/a/b", Role::Connect)),
            ("unix:path=/a", unix("/a", Role::Connect)),
            ("unix:path=path=/a", unix("path=/a", Role::Connect)),
            ("tcp:[[x]]:1", tcp("[x]", 1, Role::Connect)),
            ("unix:a,,b,server=on", unix("a,b", WAIT)),
            ("unix:a,server=on,wait=off", unix("a", NOWAIT)),
            ("unix:a,server,nowait", unix("a", NOWAIT)),
            ("unix:a,server,wait", unix("a", WAIT)),
            ("unix:a,wait=no,server=yes,", unix("a", NOWAIT)),
            ("unix:a,server=off", unix("a", Role::Connect)),
            ("tcp:localhost:4444,server=on", tcp("localhost", 4444, WAIT)),
            ("tcp::0,server,nowait", tcp("", 0, NOWAIT)),
            ("tcp:[::1]:80,nodelay", tcp("::1", 80, Role::Connect)),
            ("fd:7", fd(7, Role::Connect)),
            ("fd=7,server=on,wait=off", fd(7, NOWAIT)),
            ("stdio", MonitorAddress::Stdio),
            ("none", MonitorAddress::None),
            ("null", MonitorAddress::None),
        ] {
            let address: MonitorAddress = text.parse().expect(text);
            assert_eq!(address, expected, "{text}");
            assert_eq!(address.to_string().parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "unix:",
            "unix",
            "tcp:",
            "tcp:host",
            "tcp:h:99999",
            "tcp:h:p",
            "tcp:::1:80",
            "telnet:h:1",
            "fd:-1",
            "fd:x",
            "pty",
            "stdio,server",
            ",server",
        ] {
            let error = text.parse::<MonitorAddress>().unwrap_err();
            assert_eq!(error, AddressError::Form(text.into()));
        }
    }

    #[test]
    fn options_are_refused_by_name() {
        let refused = |text: &str| text.parse::<MonitorAddress>().unwrap_err().to_string();
        assert_eq!(refused("unix:a,reconnect=1"), "monitor option 'reconnect' is not supported");
        assert_eq!(refused("unix:a,bogus"), "monitor option 'bogus' is not supported");
        assert_eq!(
            refused("unix:a,server=maybe"),
            "monitor option 'server' expects 'on' or 'off', not 'maybe'"
        );
        assert_eq!(
            refused("unix:a,wait=off"),
            "'wait' option is incompatible with socket in client connect mode"
        );
    }
}
