//! Listening on tcp: all addresses of a host, on one port.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen,
    setsockopt, socket, sockopt,
};

use super::error::ListenError;
use super::inet::{InetAddress, KeepAlive};
use super::peer::inet_of;
use super::resolve;

/// Connections that may wait to be accepted: 255 channels, main, preempt and
/// strays. The kernel caps it by net.core.somaxconn.
pub(super) const BACKLOG: i32 = 1024;

/// Opens a socket for every address of the host, all on the same port, also
/// when the kernel chooses it. Addresses whose family this host lacks are left
/// out as long as one remains.
///
/// # Errors
/// Resolving fails, every port of the range is taken, or the host refuses.
pub(super) fn open(inet: &InetAddress) -> Result<Vec<OwnedFd>, ListenError> {
    if inet.mptcp {
        return Err(ListenError::Address("mptcp is not supported: leave mptcp= out".into()));
    }
    let first = resolve::port(inet)?;
    let hosts = resolve::hosts(inet)?;
    // A number of tries is only needed where the kernel picks the port of the
    // first address and someone else holds it on another.
    let last = inet.to.unwrap_or(first).max(first);
    let tries = if first == 0 { KERNEL_PORT_TRIES } else { usize::from(last - first) + 1 };
    for attempt in 0..tries {
        let port = if first == 0 { 0 } else { first + u16::try_from(attempt).unwrap_or(0) };
        if let Some(sockets) = open_all(&hosts, port, inet)? {
            return Ok(sockets);
        }
    }
    Err(ListenError::PortsTaken { address: format!("tcp:{inet}") })
}

/// One attempt: nothing if the port is taken on any of the hosts.
fn open_all(
    hosts: &[SocketAddr],
    port: u16,
    inet: &InetAddress,
) -> Result<Option<Vec<OwnedFd>>, ListenError> {
    let mut port = port;
    let mut sockets = Vec::new();
    let mut lacking = None;
    for host in hosts {
        let mut address = *host;
        address.set_port(port);
        match open_one(address, inet) {
            Ok(socket) => {
                if port == 0 {
                    port = local_port(&socket).map_err(|errno| failed(address, errno))?;
                }
                sockets.push(socket);
            }
            Err(Errno::EADDRINUSE) => return Ok(None),
            Err(errno @ (Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) => {
                lacking = Some(failed(address, errno))
            }
            Err(errno) => return Err(failed(address, errno)),
        }
    }
    match lacking {
        Some(why) if sockets.is_empty() => Err(why),
        Some(why) => {
            tracing::debug!("not listened on: {why}");
            Ok(Some(sockets))
        }
        None => Ok(Some(sockets)),
    }
}

fn open_one(address: SocketAddr, inet: &InetAddress) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket =
        socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &!takes_ipv4_too(address, inet))?;
    }
    if let Some(keep_alive) = inet.keep_alive {
        // Accepted sockets inherit these from the listening one (tcp(7)).
        set_keep_alive(&socket, keep_alive)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    // Two sockets may be bound to one port with SO_REUSEADDR; the second one
    // to listen gets EADDRINUSE.
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// `[::]` with both families asked for by name is one socket for both, as in
/// QEMU; an empty host has a socket for each.
fn takes_ipv4_too(address: SocketAddr, inet: &InetAddress) -> bool {
    address.ip() == Ipv6Addr::UNSPECIFIED
        && !inet.host.is_empty()
        && inet.ipv4 == Some(true)
        && inet.ipv6 == Some(true)
}

fn set_keep_alive(socket: &OwnedFd, keep_alive: KeepAlive) -> Result<(), Errno> {
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    if let Some(count) = keep_alive.count {
        setsockopt(socket, sockopt::TcpKeepCount, &count)?;
    }
    if let Some(seconds) = keep_alive.idle_secs {
        setsockopt(socket, sockopt::TcpKeepIdle, &seconds)?;
    }
    if let Some(seconds) = keep_alive.interval_secs {
        setsockopt(socket, sockopt::TcpKeepInterval, &seconds)?;
    }
    Ok(())
}

fn local_port(socket: &OwnedFd) -> Result<u16, Errno> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    inet_of(&address).map(|inet| inet.port()).ok_or(Errno::EAFNOSUPPORT)
}

fn failed(address: SocketAddr, errno: Errno) -> ListenError {
    let what = format!("Failed to bind socket to tcp:{address}");
    match errno {
        // The address is not one of this host's: the command is wrong, not the host.
        Errno::EADDRNOTAVAIL => ListenError::Address(format!("{what}: {}", errno.desc())),
        Errno::EACCES => ListenError::Environment {
            what,
            errno,
            hint: Some("a port under 1024 needs CAP_NET_BIND_SERVICE"),
        },
        _ => ListenError::environment(what, errno),
    }
}

/// Attempts at a port that the kernel picks and that is free on every address.
const KERNEL_PORT_TRIES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(hosts: &[&str], port: u16) -> Option<Vec<u16>> {
        let hosts: Vec<SocketAddr> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let sockets = open_all(&hosts, port, &InetAddress::default()).unwrap()?;
        Some(sockets.iter().map(|socket| local_port(socket).unwrap()).collect())
    }

    #[test]
    fn a_name_with_two_addresses_is_bound_on_both_at_the_port_the_kernel_chose() {
        // As localhost resolves where /etc/hosts names both; two IPv4 addresses
        // stand in for a host that has no IPv6.
        let hosts = if open_all(&["[::1]:0".parse().unwrap()], 0, &InetAddress::default()).is_ok() {
            ["[::1]:0", "127.0.0.1:0"]
        } else {
            ["127.0.0.2:0", "127.0.0.1:0"]
        };
        let bound = ports(&hosts, 0).expect("a free port");
        assert_eq!(bound.len(), 2);
        assert_eq!(bound[0], bound[1]);
        assert_ne!(bound[0], 0);
    }

    #[test]
    fn an_address_this_host_lacks_is_left_out_as_long_as_another_remains() {
        assert_eq!(ports(&["192.0.2.1:0", "127.0.0.1:0"], 0).expect("a free port").len(), 1);
        let only = open_all(&["192.0.2.1:0".parse().unwrap()], 0, &InetAddress::default());
        assert!(only.is_err());
    }

    #[test]
    fn a_port_taken_on_the_second_address_frees_the_first_again() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(ports(&["127.0.0.2:0", "127.0.0.1:0"], port), None);
        assert_eq!(ports(&["127.0.0.2:0"], port), Some(vec![port]));
    }
}
