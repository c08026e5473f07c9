//! Where the destination listens, and how one more connection to it is made.

use std::{
    collections::VecDeque,
    fmt, io,
    net::TcpStream,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    str::FromStr,
    sync::Mutex,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect, getsockopt, socket, sockopt,
};

use super::opened::Opened;

/// A destination.
#[derive(Debug)]
pub enum Target {
    /// TCP: a name or an address, tried in the resolver's order.
    Tcp {
        /// The host; IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
    /// A socket of another virtual machine or of the host.
    Vsock {
        /// Whose socket.
        cid: u32,
        /// Which one.
        port: u32,
    },
    /// Sockets that are connected already: main first, then one for each channel, taken in the
    /// order in which channels connect. Without TLS they may be non-blocking.
    Connected(Mutex<VecDeque<OwnedFd>>),
    /// A file: the stream of a source that writes to one (`file:`), without channels and return
    /// path.
    File {
        /// Which one; made if it is not there.
        path: PathBuf,
        /// Where in it the stream begins, in bytes. What stands before is kept.
        offset: u64,
    },
    /// A command that gets the stream on its standard input (`exec:`), without channels and return
    /// path. The run ends when it has ended.
    Command {
        /// The program and its arguments.
        args: Vec<String>,
    },
    /// A descriptor that was handed over (`fd:`): one stream, with a return path if it is a
    /// socket.
    Stream(Mutex<Option<OwnedFd>>),
}

impl Target {
    /// Sockets that are connected already, main first.
    #[must_use]
    pub fn connected(sockets: impl IntoIterator<Item = OwnedFd>) -> Self {
        Self::Connected(Mutex::new(sockets.into_iter().collect()))
    }

    /// A descriptor that was handed over.
    #[must_use]
    pub fn stream(descriptor: OwnedFd) -> Self {
        Self::Stream(Mutex::new(Some(descriptor)))
    }

    /// Whether more connections than one can be made, as multifd needs.
    #[must_use]
    pub fn multi_channel(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Command { .. } | Self::Stream(_))
    }

    /// Whether the destination can answer: a return path, TLS.
    #[must_use]
    pub fn answers(&self) -> bool {
        match self {
            Self::File { .. } | Self::Command { .. } => false,
            Self::Stream(stream) => {
                let stream = stream.lock().expect("nobody panics while looking at it");
                stream.as_ref().is_some_and(|fd| getsockopt(fd, sockopt::SockType).is_ok())
            }
            _ => true,
        }
    }

    /// Opens main.
    ///
    /// # Errors
    /// Where to, and what the system says; `NotConnected` when the descriptor was used before.
    pub(super) fn open(&self) -> io::Result<Opened> {
        match self {
            Self::File { path, offset } => {
                Opened::file(path, *offset).map_err(|error| self.named(&error))
            }
            Self::Command { args } => Opened::command(args).map_err(|error| self.named(&error)),
            Self::Stream(stream) => {
                let mut stream = stream.lock().expect("nobody panics while taking it");
                let fd = stream.take().ok_or(io::ErrorKind::NotConnected)?;
                Ok(Opened::of(fd))
            }
            _ => self.connect().map(Opened::of),
        }
    }

    /// Makes one more connection.
    ///
    /// # Errors
    /// Where to, and what the system says; `NotConnected` when no connected socket is left,
    /// `Unsupported` where there is one stream only.
    pub(crate) fn connect(&self) -> io::Result<OwnedFd> {
        self.try_connect().map_err(|error| match self {
            Self::Tcp { .. } | Self::Unix(_) | Self::Vsock { .. } => {
                io::Error::new(error.kind(), format!("cannot connect to {self}: {error}"))
            }
            _ => error,
        })
    }

    /// `error` of what is written to, where that is more than a connection.
    pub(super) fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{self}: {error}"))
    }

    fn try_connect(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                // As QEMU does: what is written goes out.
                stream.set_nodelay(true)?;
                Ok(stream.into())
            }
            Self::Unix(path) => Ok(UnixStream::connect(path)?.into()),
            Self::Vsock { cid, port } => {
                let fd =
                    socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
                connect(fd.as_raw_fd(), &VsockAddr::new(*cid, *port))?;
                Ok(fd)
            }
            Self::Connected(sockets) => {
                let next = sockets.lock().expect("nobody panics while taking a socket").pop_front();
                next.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
            }
            Self::File { .. } | Self::Command { .. } | Self::Stream(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, NOT_MULTI_CHANNEL))
            }
        }
    }
}

/// Why multifd cannot go over one stream, in QEMU's words.
pub const NOT_MULTI_CHANNEL: &str = "Migration requires multi-channel URIs (e.g. tcp)";

impl FromStr for Target {
    type Err = TargetError;

    /// Reads where a destination listens: `tcp:HOST:PORT`, `tcp:[IPV6]:PORT`, `unix:PATH`,
    /// `vsock:CID:PORT`.
    fn from_str(uri: &str) -> Result<Self, TargetError> {
        let bad = || TargetError { uri: uri.to_owned() };
        let (scheme, rest) = uri.split_once(':').ok_or_else(bad)?;
        match scheme {
            "tcp" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
                let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
                let host = if host.is_empty() { "localhost" } else { host };
                let port = port.parse().map_err(|_| bad())?;
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            "unix" if !rest.is_empty() => Ok(Self::Unix(rest.into())),
            "vsock" => {
                let (cid, port) = rest.split_once(':').ok_or_else(bad)?;
                let (cid, port) = (cid.parse(), port.parse());
                Ok(Self::Vsock { cid: cid.map_err(|_| bad())?, port: port.map_err(|_| bad())? })
            }
            _ => Err(bad()),
        }
    }
}

/// The URI; of what was handed over, what it is.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Connected(_) => f.write_str("the sockets that were handed over"),
            Self::File { path, .. } => write!(f, "file:{}", path.display()),
            Self::Command { args } => match args.as_slice() {
                // As `exec:` makes it of its text.
                [_, option, text] if option == "-c" => write!(f, "exec:{text}"),
                args => write!(f, "exec:{}", args.join(" ")),
            },
            Self::Stream(_) => f.write_str("the descriptor that was handed over"),
        }
    }
}

/// A URI that names no destination this source can reach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{uri:?} is no destination; allowed are tcp:HOST:PORT, unix:PATH and vsock:CID:PORT")]
pub struct TargetError {
    /// The URI.
    pub uri: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_as_qemu_reads_them() {
        let tcp = |uri: &str| match uri.parse() {
            Ok(Target::Tcp { host, port }) => (host, port),
            other => panic!("{uri}: {other:?}"),
        };
        assert_eq!(tcp("tcp:127.0.0.1:4444"), ("127.0.0.1".to_owned(), 4444));
        assert_eq!(tcp("tcp:[::1]:1"), ("::1".to_owned(), 1));
        assert_eq!(tcp("tcp::5"), ("localhost".to_owned(), 5));
        assert!(matches!("unix:/a:b".parse(), Ok(Target::Unix(path)) if path == *"/a:b"));
        assert!(matches!("vsock:2:99".parse(), Ok(Target::Vsock { cid: 2, port: 99 })));
        for bad in ["", "tcp", "tcp:host", "tcp:host:70000", "unix:", "vsock:x:1", "rdma:a:1"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_named_as_they_are_read() {
        for uri in ["tcp:h:4444", "tcp:[::1]:1", "unix:/a:b", "vsock:2:99"] {
            assert_eq!(uri.parse::<Target>().expect("a destination").to_string(), uri);
        }
        let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect();
        for (args, says) in [
            (words(&["/bin/sh", "-c", "gzip > a"]), "exec:gzip > a"),
            (words(&["/bin/sleep", "9"]), "exec:/bin/sleep 9"),
        ] {
            assert_eq!(Target::Command { args }.to_string(), says);
        }
    }

    #[test]
    fn a_connection_that_cannot_be_made_is_told_with_its_address() {
        for uri in ["tcp:127.0.0.1:1", "tcp:no-such-host.invalid:1", "unix:/nonexistent/socket"] {
            let error = uri.parse::<Target>().expect("a destination").connect().expect_err(uri);
            let error = error.to_string();
            assert!(error.starts_with(&format!("cannot connect to {uri}: ")), "{error}");
        }
    }
}
