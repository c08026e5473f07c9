//! What was opened to receive from, for the accept loop.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    SockaddrLike, SockaddrStorage, getpeername, getsockname, setsockopt, sockopt,
};
use serde_json::{Map, Value, json};

use super::address::{Address, UnixAddress};
use super::command::{self, Running};
use super::error::ListenError;
use super::fdsets::FdSets;
use super::passed::{self, Passed};
use super::peer::{Peer, inet_of};
use super::unix::SocketFile;
use super::{descriptor, tcp, unix, vsock};

/// Listening sockets, and streams that need no accepting. Dropping closes the
/// sockets and removes their files.
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<Listening>,
    streams: VecDeque<Accepted>,
    /// Commands whose output is a stream.
    commands: Vec<Running>,
    /// Where the next round of accepting begins, so that a busy socket cannot
    /// keep another waiting.
    next: usize,
}

/// A connection, or a stream that was given.
#[derive(Debug)]
pub struct Accepted {
    /// The stream: blocking, close-on-exec.
    pub descriptor: OwnedFd,
    /// The other end.
    pub peer: Peer,
}

#[derive(Debug)]
struct Listening {
    socket: OwnedFd,
    /// As query-migrate shows it.
    shown: Value,
    /// Removed on drop.
    _file: Option<SocketFile>,
}

impl Listeners {
    /// Opens every address, or none. `handed_over` takes a descriptor that
    /// getfd stored under a name out of the monitor's store; `fdsets` are those that
    /// add-fd made.
    ///
    /// # Errors
    /// The first address that could not be opened, or the one beside which another is one stream.
    pub fn bind(
        addresses: &[Address],
        handed_over: &mut dyn FnMut(&str) -> Option<OwnedFd>,
        fdsets: &FdSets,
    ) -> Result<Self, ListenError> {
        let mut all = Self::default();
        for address in addresses {
            all.open(address, handed_over, fdsets)?;
            // It is the whole migration: nobody else may come.
            if !all.streams.is_empty() && all.poll_fds().len() > 1 {
                return Err(ListenError::Address(format!(
                    "one stream ({address}) is the whole migration: no other address can stand \
                     beside it"
                )));
            }
        }
        Ok(all)
    }

    fn open(
        &mut self,
        address: &Address,
        handed_over: &mut dyn FnMut(&str) -> Option<OwnedFd>,
        fdsets: &FdSets,
    ) -> Result<(), ListenError> {
        match address {
            Address::Tcp(inet) => {
                for socket in tcp::open(inet)? {
                    self.listen_on(socket)?;
                }
            }
            Address::Unix(path) => {
                let (socket, file) = unix::open(path)?;
                self.sockets.push(Listening { socket, shown: unix_json(path), _file: file });
            }
            Address::Vsock { cid, port } => {
                let socket = vsock::open(*cid, *port)?;
                self.listen_on(socket)?;
            }
            Address::Fd { name } => match passed::open(name, handed_over)? {
                Passed::Listening(socket) => self.listen_on(socket)?,
                Passed::Stream(descriptor) => self.give(descriptor, address),
            },
            Address::Exec { args } => {
                let (descriptor, running) = command::start(args)?;
                self.commands.push(running);
                // A socket without a name: the command is whom it leads to.
                let peer = Peer::Given(address.to_string());
                self.streams.push_back(Accepted { descriptor, peer });
            }
            Address::File { path, offset } => {
                let file = command::open_file(path, *offset, fdsets)?;
                self.give(file, address);
            }
            Address::Defer => {
                return Err(ListenError::Address("defer is no address to listen on".into()));
            }
        }
        Ok(())
    }

    /// QEMU's `socket-address` list of query-migrate; empty if nothing listens.
    #[must_use]
    pub fn socket_addresses(&self) -> Value {
        self.sockets.iter().map(|listening| listening.shown.clone()).collect()
    }

    /// The IP addresses and ports listened on.
    #[must_use]
    pub fn inet_addresses(&self) -> Vec<SocketAddr> {
        let local = |listening: &Listening| {
            getsockname::<SockaddrStorage>(listening.socket.as_raw_fd()).ok()
        };
        self.sockets.iter().filter_map(|listening| inet_of(&local(listening)?)).collect()
    }

    /// Whether more connections than one can come, as multifd needs.
    #[must_use]
    pub fn multi_channel(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// What becomes readable when [`accept`](Self::accept) has something: the
    /// listening sockets, and streams that were given and not yet accepted.
    #[must_use]
    pub fn poll_fds(&self) -> Vec<BorrowedFd<'_>> {
        let listening = self.sockets.iter().map(|listening| listening.socket.as_fd());
        let given = self.streams.iter().map(|given| given.descriptor.as_fd());
        listening.chain(given).collect()
    }

    /// The next connection that waits, from each socket in turn. Never blocks.
    ///
    /// # Errors
    /// The host is out of descriptors or memory; later calls may succeed.
    pub fn accept(&mut self) -> Result<Option<Accepted>, ListenError> {
        if let Some(stream) = self.streams.pop_front() {
            return Ok(Some(stream));
        }
        for turn in 0..self.sockets.len() {
            let index = (self.next + turn) % self.sockets.len();
            if let Some(accepted) = self.sockets[index].accept()? {
                self.next = index + 1;
                return Ok(Some(accepted));
            }
        }
        Ok(None)
    }

    fn listen_on(&mut self, socket: OwnedFd) -> Result<(), ListenError> {
        let local = getsockname::<SockaddrStorage>(socket.as_raw_fd());
        let local = local.map_err(|errno| ListenError::environment("getsockname failed", errno))?;
        self.sockets.push(Listening { socket, shown: address_json(&local), _file: None });
        Ok(())
    }

    fn give(&mut self, descriptor: OwnedFd, address: &Address) {
        let peer = match getpeername::<SockaddrStorage>(descriptor.as_raw_fd()) {
            Ok(peer) if passed::is_socket(&descriptor) && peer.family().is_some() => {
                Peer::of(&peer)
            }
            _ => Peer::Given(address.to_string()),
        };
        self.streams.push_back(Accepted { descriptor, peer });
    }
}

impl Listening {
    fn accept(&self) -> Result<Option<Accepted>, ListenError> {
        loop {
            let descriptor = match descriptor::accept(self.socket.as_fd()) {
                Ok(descriptor) => descriptor,
                Err(Errno::EAGAIN) => return Ok(None),
                // Gone before it was accepted: accept(2) says to go on.
                Err(errno) if GONE_AGAIN.contains(&errno) => continue,
                Err(errno) => {
                    return Err(ListenError::Environment {
                        what: "accept failed".into(),
                        errno,
                        hint: matches!(errno, Errno::EMFILE).then_some("raise ulimit -n"),
                    });
                }
            };
            let Ok(address) = getpeername::<SockaddrStorage>(descriptor.as_raw_fd()) else {
                continue; // reset meanwhile
            };
            let peer = Peer::of(&address);
            if peer.ip().is_some() {
                // Answers on the return path are small and must not wait.
                let _ = setsockopt(&descriptor, sockopt::TcpNoDelay, &true);
            }
            return Ok(Some(Accepted { descriptor, peer }));
        }
    }
}

fn address_json(local: &SockaddrStorage) -> Value {
    if let Some(inet) = inet_of(local) {
        let family = if inet.is_ipv4() { "ipv4" } else { "ipv6" };
        let mut shown = Map::new();
        shown.insert("port".into(), inet.port().to_string().into());
        shown.insert(family.into(), true.into());
        shown.insert("host".into(), inet.ip().to_string().into());
        shown.insert("type".into(), "inet".into());
        return Value::Object(shown);
    }
    if let Some(vsock) = local.as_vsock_addr() {
        return json!({"port": vsock.port().to_string(), "cid": vsock.cid().to_string(), "type": "vsock"});
    }
    let Some(unix) = local.as_unix_addr() else {
        return json!({"type": "fd"});
    };
    match (unix.path(), unix.as_abstract()) {
        (Some(path), _) => unix_json(&UnixAddress::at(path)),
        (None, Some(name)) => unix_json(&UnixAddress {
            path: String::from_utf8_lossy(name).into_owned().into(),
            abstract_name: true,
            tight: true,
        }),
        (None, None) => unix_json(&UnixAddress::at("")),
    }
}

fn unix_json(unix: &UnixAddress) -> Value {
    let path = unix.path.to_string_lossy();
    if unix.abstract_name {
        json!({"abstract": true, "path": path, "type": "unix", "tight": unix.tight})
    } else {
        json!({"path": path, "type": "unix"})
    }
}

/// Errors of one connection that accept(2) passes on to the accepting side.
const GONE_AGAIN: [Errno; 9] = [
    Errno::EINTR,
    Errno::ECONNABORTED,
    Errno::EPROTO,
    Errno::ENETDOWN,
    Errno::ENOPROTOOPT,
    Errno::EHOSTDOWN,
    Errno::ENONET,
    Errno::EHOSTUNREACH,
    Errno::ENETUNREACH,
];

#[cfg(test)]
mod tests;
