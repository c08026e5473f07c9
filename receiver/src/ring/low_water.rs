//! How many bytes must be there before TCP wakes whoever waits for them
//! (socket(7), `SO_RCVLOWAT`).
//!
//! Without it a reader is woken for each piece that the network brings, copies that,
//! and waits again: eight times for the 512 KiB of a packet's pages. TCP wakes
//! earlier all the same when its buffers are full, when the peer closes, and on
//! errors.

use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};

/// A socket's low-water mark as it was set last.
pub(super) struct LowWater {
    /// `None`: no TCP socket; others wake for each piece whatever the mark is.
    bytes: Option<i32>,
}

impl LowWater {
    /// The mark of a socket that nobody has set one for.
    pub(super) fn of(socket: &OwnedFd) -> Self {
        // Only TCP knows it.
        let is_tcp = nix::sys::socket::getsockopt(socket, sockopt::TcpMaxSeg).is_ok();
        Self { bytes: is_tcp.then_some(1) }
    }

    /// True if the kernel minds the mark.
    pub(super) fn is_minded(&self) -> bool {
        self.bytes.is_some()
    }

    /// From now on `bytes` must be there. They must all be on their way: nobody is
    /// woken for fewer.
    pub(super) fn set(&mut self, socket: &OwnedFd, bytes: u64) {
        let wanted = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
        if self.bytes.is_some_and(|now| now != wanted) {
            // A socket that refuses it wakes too often, which is no error.
            let set = setsockopt(socket, ReceiveLowWater, &wanted);
            self.bytes = set.is_ok().then_some(wanted);
        }
    }
}

sockopt_impl!(
    /// `SO_RCVLOWAT`, which nix has no name for.
    ReceiveLowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32
);
