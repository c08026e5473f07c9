//! Who connected.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// The other end of an accepted connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over tcp. An IPv4 peer of an IPv6 socket shows as IPv4.
    Inet(SocketAddr),
    /// Over a unix socket; they have no useful names.
    Unix,
    /// Over vsock.
    Vsock {
        /// The peer's context id.
        cid: u32,
        /// The peer's port.
        port: u32,
    },
    /// Not a connection that was accepted: a descriptor handed over, a file
    /// or a command, with the address that named it.
    Given(String),
}

impl Peer {
    /// The peer's IP address, if it has one, to judge by networks.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix | Self::Vsock { .. } | Self::Given(_) => None,
        }
    }

    pub(super) fn of(address: &SockaddrStorage) -> Self {
        if let Some(inet) = inet_of(address) {
            return Self::Inet(SocketAddr::new(inet.ip().to_canonical(), inet.port()));
        }
        match address.as_vsock_addr() {
            Some(vsock) => Self::Vsock { cid: vsock.cid(), port: vsock.port() },
            None => Self::Unix,
        }
    }
}

impl fmt::Display for Peer {
    /// `127.0.0.1:53212`, `[::1]:53212`, `unix`, `vsock 3:1234`, `fd:7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Vsock { cid, port } => write!(f, "vsock {cid}:{port}"),
            Self::Given(name) => f.write_str(name),
        }
    }
}

/// The IP address and port of a socket address, if it is one.
pub(super) fn inet_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    address.family()?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::new(v4.ip(), v4.port())));
    }
    let v6 = address.as_sockaddr_in6()?;
    let ip: Ipv6Addr = v6.ip();
    Some(SocketAddr::V6(SocketAddrV6::new(ip, v6.port(), v6.flowinfo(), v6.scope_id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_print_as_people_write_them() {
        let v4: SocketAddr = "127.0.0.1:53212".parse().unwrap();
        assert_eq!(Peer::of(&SockaddrStorage::from(v4)).to_string(), "127.0.0.1:53212");
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:5".parse().unwrap();
        assert_eq!(Peer::of(&SockaddrStorage::from(mapped)).to_string(), "10.0.0.1:5");
        let v6: SocketAddr = "[::1]:5".parse().unwrap();
        assert_eq!(Peer::of(&SockaddrStorage::from(v6)).to_string(), "[::1]:5");
        assert_eq!(Peer::Unix.to_string(), "unix");
        assert_eq!(Peer::Vsock { cid: 3, port: 1234 }.to_string(), "vsock 3:1234");
        assert_eq!(Peer::Given("fd:7".into()).to_string(), "fd:7");
    }
}
