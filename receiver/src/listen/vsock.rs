//! Listening on vsock.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, listen, socket,
};

use super::error::ListenError;
use super::tcp::BACKLOG;

/// Opens the socket.
///
/// # Errors
/// The host has no vsock, the cid is not its own, or the port is taken.
pub(super) fn open(cid: u32, port: u32) -> Result<OwnedFd, ListenError> {
    let failed = |errno| {
        let what = format!("Failed to bind socket to vsock:{cid}:{port}");
        match errno {
            Errno::EAFNOSUPPORT => ListenError::Environment {
                what,
                errno,
                hint: Some("no vsock here: modprobe vhost_vsock"),
            },
            Errno::EADDRINUSE => ListenError::PortsTaken { address: format!("vsock:{cid}:{port}") },
            Errno::EADDRNOTAVAIL => ListenError::Address(format!(
                "{what}: {} (4294967295 is any cid of this host)",
                errno.desc()
            )),
            _ => ListenError::environment(what, errno),
        }
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Vsock, SockType::Stream, flags, None).map_err(failed)?;
    bind(socket.as_raw_fd(), &VsockAddr::new(cid, port)).map_err(failed)?;
    Backlog::new(BACKLOG).and_then(|backlog| listen(&socket, backlog)).map_err(failed)?;
    Ok(socket)
}
