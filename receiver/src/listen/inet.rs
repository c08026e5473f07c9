//! The text after `tcp:`: host, port and options.

use std::fmt;

/// Host and port to listen on, with QEMU's options (`InetSocketAddress`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InetAddress {
    /// Name or number without brackets; empty means every address of the host.
    pub host: String,
    /// Number or service name.
    pub port: String,
    /// The last port of the range to try, `port` being the first.
    pub to: Option<u16>,
    /// On: listen on IPv4 only unless `ipv6` is on too. Off: not on IPv4.
    pub ipv4: Option<bool>,
    /// As `ipv4`, the other way round.
    pub ipv6: Option<bool>,
    /// Host and port are numbers: nothing is looked up.
    pub numeric: bool,
    /// Whether the kernel probes idle connections, and how.
    pub keep_alive: Option<KeepAlive>,
    /// Multipath TCP, which we refuse at bind time.
    pub mptcp: bool,
}

/// `SO_KEEPALIVE` with what QEMU 11 can set of it; nothing means the kernel's
/// values (`net.ipv4.tcp_keepalive_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// Unanswered probes until the connection counts as dead.
    pub count: Option<u32>,
    /// Seconds of silence before the first probe.
    pub idle_secs: Option<u32>,
    /// Seconds between probes.
    pub interval_secs: Option<u32>,
}

impl InetAddress {
    /// Reads `HOST:PORT[,to=N][,ipv4[=on|off]][,ipv6[=on|off]][,keep-alive…][,mptcp…]`
    /// as QEMU's `inet_parse` (`util/qemu-sockets.c`) does, except that options
    /// it passes over in silence and ports over 65535 are refused.
    ///
    /// # Errors
    /// QEMU's text where it has one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, rest) = split_host(text)?;
        let (port, options) = match rest.split_once(',') {
            Some((port, options)) => (port, options),
            None => (rest, ""),
        };
        if port.is_empty() {
            return Err(match text.as_bytes().first() {
                Some(b':') => format!("error parsing port in address '{text}'"),
                Some(b'[') => format!("error parsing IPv6 address '{text}'"),
                _ => format!("error parsing address '{text}'"),
            });
        }
        let mut inet = Self { host: host.to_owned(), port: port.to_owned(), ..Self::default() };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            inet.set_option(option)?;
        }
        inet.check()?;
        Ok(inet)
    }

    /// What no address may say, however it was given.
    ///
    /// # Errors
    /// Both families off, a port out of range, a range that ends before it begins.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.ipv4 == Some(false) && self.ipv6 == Some(false) {
            return Err("Cannot disable IPv4 and IPv6 at same time".into());
        }
        let Some(port) = self.port_number()? else {
            return Ok(());
        };
        match self.to {
            Some(to) if to < port => Err(format!("to={to} is below the first port {port}")),
            _ => Ok(()),
        }
    }

    /// The port if it is given as a number.
    ///
    /// # Errors
    /// A number over 65535, which QEMU's resolver would take modulo 65536.
    pub(super) fn port_number(&self) -> Result<Option<u16>, String> {
        if self.port.is_empty() || !self.port.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        let number = self.port.parse::<u16>();
        number
            .map(Some)
            .map_err(|_| format!("port {} is out of range: the last one is 65535", self.port))
    }

    fn set_option(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        match name {
            "to" => {
                let number = value
                    .and_then(|value| value.parse::<u32>().ok())
                    .ok_or("error parsing to= argument")?;
                let to = u16::try_from(number);
                self.to =
                    Some(to.map_err(|_| {
                        format!("to={number} is out of range: the last port is 65535")
                    })?);
            }
            "ipv4" => self.ipv4 = Some(flag(name, value)?),
            "ipv6" => self.ipv6 = Some(flag(name, value)?),
            "numeric" => self.numeric = flag(name, value)?,
            "mptcp" => self.mptcp = flag(name, value)?,
            "keep-alive" => {
                self.keep_alive = flag(name, value)?.then(|| self.keep_alive.unwrap_or_default())
            }
            "keep-alive-count" => {
                self.keep_alive.get_or_insert_default().count = Some(count(name, value)?)
            }
            "keep-alive-idle" => {
                self.keep_alive.get_or_insert_default().idle_secs = Some(count(name, value)?)
            }
            "keep-alive-interval" => {
                self.keep_alive.get_or_insert_default().interval_secs = Some(count(name, value)?)
            }
            _ => return Err(format!("unknown option '{name}' in a tcp address")),
        }
        Ok(())
    }
}

impl fmt::Display for InetAddress {
    /// `HOST:PORT`, a host with colons in brackets, and one that begins like
    /// that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') || self.host.starts_with('[') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The host and what follows its colon.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    if let Some(bracketed) = text.strip_prefix('[') {
        return match bracketed.split_once(']') {
            Some((host, rest)) if !host.is_empty() && rest.starts_with(':') => {
                Ok((host, &rest[1..]))
            }
            _ => Err(format!("error parsing IPv6 address '{text}'")),
        };
    }
    text.split_once(':').ok_or_else(|| format!("error parsing address '{text}'"))
}

fn flag(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(format!("error parsing '{name}' flag '={other}'")),
    }
}

fn count(name: &str, value: Option<&str>) -> Result<u32, String> {
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| format!("error parsing {name}= argument"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, String) {
        let inet = InetAddress::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        (inet.host, inet.port)
    }

    fn refusal(text: &str) -> String {
        InetAddress::parse(text).expect_err(text)
    }

    #[test]
    fn hosts_and_ports_split_at_the_right_colon() {
        for (text, host, port) in [
            ("0:0", "0", "0"),
            (":4444", "", "4444"),
            ("localhost:http-alt", "localhost", "http-alt"),
            ("[::]:0", "::", "0"),
            ("[::1%lo]:5", "::1%lo", "5"),
            ("[127.0.0.1]:5", "127.0.0.1", "5"),
            ("127.0.0.1:0,", "127.0.0.1", "0"),
            ("127.0.0.1:0,,ipv4=on", "127.0.0.1", "0"),
            // As in QEMU: without brackets the first colon ends the host.
            ("::1:0", "", ":1:0"),
        ] {
            assert_eq!(parse(text), (host.to_owned(), port.to_owned()), "{text}");
        }
    }

    #[test]
    fn broken_addresses_are_refused_in_qemus_words() {
        for (text, why) in [
            ("", "error parsing address ''"),
            ("0", "error parsing address '0'"),
            ("0:", "error parsing address '0:'"),
            (":", "error parsing port in address ':'"),
            ("[::1]", "error parsing IPv6 address '[::1]'"),
            ("[::1", "error parsing IPv6 address '[::1'"),
            ("[]:0", "error parsing IPv6 address '[]:0'"),
            ("h:1,to=x", "error parsing to= argument"),
            ("h:1,to=", "error parsing to= argument"),
            ("h:1,to", "error parsing to= argument"),
            (":0,ipv4=maybe", "error parsing 'ipv4' flag '=maybe'"),
            (":0,ipv6=yes", "error parsing 'ipv6' flag '=yes'"),
            (":0,ipv4=off,ipv6=off", "Cannot disable IPv4 and IPv6 at same time"),
        ] {
            assert_eq!(refusal(text), why, "{text}");
        }
    }

    #[test]
    fn what_qemu_passes_over_in_silence_is_refused_clearly() {
        assert_eq!(refusal("h:99999"), "port 99999 is out of range: the last one is 65535");
        assert_eq!(refusal("h:65536"), "port 65536 is out of range: the last one is 65535");
        assert_eq!(refusal("h:4000,to=70000"), "to=70000 is out of range: the last port is 65535");
        assert_eq!(refusal("h:4000,to=3000"), "to=3000 is below the first port 4000");
        assert_eq!(refusal("h:4000,foo=1"), "unknown option 'foo' in a tcp address");
    }

    #[test]
    fn options_land_in_their_fields() {
        let inet =
            InetAddress::parse("h:1,to=9,ipv4,ipv6=off,keep-alive=on,keep-alive-idle=7,mptcp")
                .unwrap();
        assert_eq!(
            (inet.to, inet.ipv4, inet.ipv6, inet.mptcp),
            (Some(9), Some(true), Some(false), true)
        );
        assert_eq!(inet.keep_alive, Some(KeepAlive { idle_secs: Some(7), ..KeepAlive::default() }));
        assert_eq!(InetAddress::parse("h:1,keep-alive=off").unwrap().keep_alive, None);
    }
}
