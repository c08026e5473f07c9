//! Where clients come from.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{AddressFamily, sockopt};

use crate::{MonitorSocket, inherited, link::Link};

/// Where a monitor can be reached, after binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A unix socket by its path.
    Unix(PathBuf),
    /// A TCP address with the port it really got.
    Tcp(SocketAddr),
    /// A listening descriptor that was inherited.
    Fd(RawFd),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// A listening socket. Dropping a unix one that we bound removes its path.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    bound: Bound,
    /// Device and inode of the path we made.
    made: Option<(u64, u64)>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Binds: one listener, or one per address that a TCP name stands for.
///
/// # Errors
/// The name does not resolve, or none of its addresses can be bound; the descriptor does not listen.
pub(crate) fn listen(place: &MonitorSocket) -> io::Result<Vec<Listener>> {
    match place {
        MonitorSocket::Unix(path) => Ok(vec![bind_unix(path)?]),
        MonitorSocket::Tcp { host, port } => bind_tcp(host, *port),
        MonitorSocket::Fd(fd) => Ok(vec![listening_fd(*fd)?]),
    }
}

/// Connects.
///
/// # Errors
/// Nobody listens there; the name does not resolve; the descriptor is no connected stream socket.
pub(crate) fn connect(place: &MonitorSocket) -> io::Result<Link> {
    match place {
        MonitorSocket::Unix(path) => Ok(Link::Socket(UnixStream::connect(path)?.into())),
        MonitorSocket::Tcp { host, port } => connect_tcp(host, *port),
        MonitorSocket::Fd(fd) => connected_fd(*fd),
    }
}

impl Listener {
    /// Takes the next client.
    ///
    /// # Errors
    /// `WouldBlock` if none is waiting; others such as a lack of descriptors may pass.
    pub(crate) fn accept(&self) -> io::Result<Link> {
        let socket = match &self.socket {
            Socket::Unix(listener) => OwnedFd::from(listener.accept()?.0),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.into()
            }
        };
        Ok(Link::Socket(socket))
    }

    pub(crate) fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(listener) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Bound::Unix(path) = &self.bound else {
            return;
        };
        // Somebody may have put another socket there since.
        if self.made.is_some() && identity(path).ok() == self.made {
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    // A socket left by an earlier run; anything else in the way is for bind() to refuse.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Listener {
        socket: Socket::Unix(listener),
        bound: Bound::Unix(path.to_owned()),
        made: Some(identity(path)?),
    })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn bind_tcp(host: &str, port: u16) -> io::Result<Vec<Listener>> {
    if host.is_empty() {
        // Takes IPv4 as well, where there is IPv6 at all.
        let any = bind_address((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| bind_address((Ipv4Addr::UNSPECIFIED, port).into()))?;
        return Ok(vec![any]);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    let mut failed = None;
    for mut address in (host, port).to_socket_addrs()? {
        // What the kernel chose for the first address serves for all.
        if let Some(Bound::Tcp(first)) = listeners.first().map(Listener::bound) {
            address.set_port(first.port());
        }
        match bind_address(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        None if listeners.is_empty() => Err(io::ErrorKind::AddrNotAvailable.into()),
        _ => Ok(listeners),
    }
}

fn bind_address(address: SocketAddr) -> io::Result<Listener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = Bound::Tcp(listener.local_addr()?);
    Ok(Listener { socket: Socket::Tcp(listener), bound, made: None })
}

fn listening_fd(fd: RawFd) -> io::Result<Listener> {
    let socket = inherited::duplicate(fd)?;
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("the descriptor is not a listening socket"));
    }
    let socket = match sockopt::socket_domain(&socket)? {
        AddressFamily::UNIX => {
            let listener = UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            Socket::Unix(listener)
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let listener = TcpListener::from(socket);
            listener.set_nonblocking(true)?;
            Socket::Tcp(listener)
        }
        _ => return Err(io::Error::other("the descriptor is neither unix nor TCP")),
    };
    Ok(Listener { socket, bound: Bound::Fd(fd), made: None })
}

fn connect_tcp(host: &str, port: u16) -> io::Result<Link> {
    let host = if host.is_empty() { "localhost" } else { host };
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Link::Socket(stream.into()));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn connected_fd(fd: RawFd) -> io::Result<Link> {
    let socket = inherited::duplicate(fd)?;
    if sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("the descriptor is a listening socket: add ,server=on"));
    }
    rustix::net::getpeername(&socket)?;
    if sockopt::socket_domain(&socket)? != AddressFamily::UNIX {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    Ok(Link::Socket(socket))
}

/// For each address of a name. QEMUMachine gives a program 30 seconds to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_stale_socket_gives_way_and_our_own_is_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it behind");
        let listeners = listen(&MonitorSocket::Unix(path.clone())).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(listeners);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let error = listen(&MonitorSocket::Unix(path.clone())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn a_path_taken_over_by_somebody_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let ours = listen(&MonitorSocket::Unix(path.clone())).unwrap();
        let aside = dir.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn port_0_is_one_port_for_all_addresses_of_a_name() {
        let place = MonitorSocket::Tcp { host: "localhost".into(), port: 0 };
        let listeners = listen(&place).unwrap();
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| match listener.bound() {
                Bound::Tcp(address) => address.port(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_ne!(ports[0], 0);
        assert!(ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn descriptors_are_checked_for_what_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = MonitorSocket::Fd(listener.as_raw_fd());
        assert!(listen(&place).is_ok());
        assert!(connect(&place).is_err());
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let place = MonitorSocket::Fd(ours.as_raw_fd());
        assert!(listen(&place).is_err());
        assert!(connect(&place).is_ok());
        let null = fs::File::open("/dev/null").unwrap();
        let place = MonitorSocket::Fd(null.as_raw_fd());
        assert!(listen(&place).is_err());
        assert!(connect(&place).is_err());
    }
}
