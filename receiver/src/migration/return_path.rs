//! The return path: what the destination says to the source, on main's socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use super::ciphertext::SharedTls;
use crate::error::{Family, RunError};
use crate::wire::Reply;

/// The way back. Nothing may be said before the source opened it.
pub(super) struct ReturnPath {
    fd: Arc<OwnedFd>,
    open: bool,
    tls: Option<SharedTls>,
}

impl ReturnPath {
    /// A return path on main's socket that the source has not opened.
    pub(super) fn new(fd: Arc<OwnedFd>, tls: Option<SharedTls>) -> Self {
        Self { fd, open: false, tls }
    }

    /// The source sent OPEN_RETURN_PATH.
    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// True once the source has opened it.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Says `reply`, if the source listens.
    ///
    /// # Errors
    /// Misbehaved: the source does not take a few bytes, or has gone.
    pub(super) fn say(&self, reply: Reply) -> Result<(), RunError> {
        if !self.open {
            return Ok(());
        }
        let encoded = reply.encode();
        let mut sealed = Vec::new();
        let mut rest = match &self.tls {
            None => encoded.as_ref(),
            Some(tls) => {
                tls.borrow_mut().seal(encoded.as_ref(), &mut sealed);
                sealed.as_slice()
            }
        };
        let lost = |why: &dyn std::fmt::Display| {
            RunError::new(Family::Misbehaved, format!("return path, {reply:?}: {why}"))
        };
        let deadline = Instant::now() + PATIENCE;
        while !rest.is_empty() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.fd.as_raw_fd(), rest, flags) {
                Ok(bytes) => rest = &rest[bytes..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if Instant::now() < deadline => {
                    let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::from(POLL_MS));
                }
                Err(error) => return Err(lost(&error)),
            }
        }
        Ok(())
    }
}

/// A source that does not take eight bytes in this time is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_MS: u16 = 100;
