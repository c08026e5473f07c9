//! MSG_ZEROCOPY: pages go to the card from where they lie, and the kernel tells on the socket's
//! error queue when it has let go of them, and whether it copied them after all.
//!
//! What is sent so is never changed or freed, so nobody has to wait for the kernel to let go; the
//! queue is read since it must not become full, and to learn whether it pays. On loopback, and where
//! a card or a filter cannot send from anywhere, the kernel copies: then it costs more than an
//! ordinary send, and the connection goes on without.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::{
    cmsg_space,
    errno::Errno,
    libc::{self, sock_extended_err, sockaddr_in6},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::SetBool},
};

/// What became of sends without a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroCopyUse {
    /// Sends that the kernel was asked not to copy.
    pub sends: u64,
    /// Of them, those whose pages the kernel has let go of.
    pub done: u64,
    /// Of these, those that it copied all the same.
    pub copied: u64,
    /// Connections that went on without, since copies were made.
    pub given_up: u32,
}

impl ZeroCopyUse {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            sends: self.sends + other.sends,
            done: self.done + other.done,
            copied: self.copied + other.copied,
            given_up: self.given_up + other.given_up,
        }
    }
}

/// One connection's.
#[derive(Debug)]
pub(super) struct ZeroCopy {
    used: ZeroCopyUse,
    control: Vec<u8>,
}

/// `SO_ZEROCOPY`, which nix does not name.
#[derive(Clone, Copy, Debug)]
struct SendZeroCopy;

nix::setsockopt_impl!(SendZeroCopy, libc::SOL_SOCKET, libc::SO_ZEROCOPY, bool, SetBool);

impl ZeroCopy {
    /// Asks the kernel for it.
    ///
    /// # Errors
    /// A kind of socket that has none.
    pub(super) fn new(fd: &OwnedFd) -> Result<Self, Errno> {
        setsockopt(fd, SendZeroCopy, &true)?;
        let control = cmsg_space!(sock_extended_err, sockaddr_in6);
        Ok(Self { used: ZeroCopyUse::default(), control })
    }

    /// Whether to send so.
    pub(super) fn pays(&self) -> bool {
        self.used.given_up == 0
    }

    /// A send has been taken.
    pub(super) fn sent(&mut self, fd: &OwnedFd) {
        self.used.sends += 1;
        if self.used.sends.is_multiple_of(READ_EVERY) {
            self.read(fd);
        }
    }

    /// The kernel has no room for another: waits a moment until it has let go of one. Where
    /// it has none to let go of, the connection goes on without.
    pub(super) fn wait(&mut self, fd: &OwnedFd) {
        if self.used.done == self.used.sends {
            self.used.given_up = 1;
            return;
        }
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
        let _ = poll(&mut fds, PollTimeout::from(WAIT_MS));
        self.read(fd);
    }

    /// What became of it until now.
    pub(super) fn used(&mut self, fd: &OwnedFd) -> ZeroCopyUse {
        self.read(fd);
        self.used
    }

    /// Reads what the error queue has.
    fn read(&mut self, fd: &OwnedFd) {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        while let Ok(message) =
            recvmsg::<()>(fd.as_raw_fd(), &mut [], Some(&mut self.control), flags)
        {
            let Ok(messages) = message.cmsgs() else { break };
            for message in messages {
                let told = match message {
                    ControlMessageOwned::Ipv4RecvErr(told, _)
                    | ControlMessageOwned::Ipv6RecvErr(told, _) => told,
                    _ => continue,
                };
                if told.ee_origin != ORIGIN_ZEROCOPY {
                    continue;
                }
                // A range of sends, both ends included, as numbers that wrap.
                let sends = u64::from(told.ee_data.wrapping_sub(told.ee_info)) + 1;
                self.used.done += sends;
                if told.ee_code & CODE_COPIED != 0 {
                    self.used.copied += sends;
                }
            }
        }
        if self.used.done >= JUDGED && self.used.copied * 2 > self.used.done {
            self.used.given_up = 1;
        }
    }
}

/// `SO_EE_ORIGIN_ZEROCOPY` (include/uapi/linux/errqueue.h).
const ORIGIN_ZEROCOPY: u8 = 5;
/// `SO_EE_CODE_ZEROCOPY_COPIED`.
const CODE_COPIED: u8 = 1;
/// After so many sends the kernel has shown what it does.
const JUDGED: u64 = 8;
/// How many sends the queue may grow by: some hundred bytes each, of net.core.optmem_max.
const READ_EVERY: u64 = 8;
/// How soon the end of a run is noticed.
const WAIT_MS: u16 = 20;
