//! The main stream's bytes: a buffer in front of a socket, pipe or file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

use crate::clock::now_ns;
use crate::error::{Family, RunError};
use crate::main_stream::INPUT_BYTES_MAX;
use crate::stats::MainCounters;
use crate::wake::Wake;

/// Bytes of the main stream that have been read and not been used.
pub(super) struct Input {
    fd: Arc<OwnedFd>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last read emptied the socket: ask poll(2) before the next.
    drained: bool,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There are more bytes.
    Some,
    /// The source closed.
    End,
    /// Nothing came in time, or somebody woke main.
    Nothing,
}

impl Input {
    /// Takes the main stream, whose descriptor does not block; `first` has been
    /// read of it already.
    pub(super) fn new(fd: Arc<OwnedFd>, first: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        buffer[..first.len()].copy_from_slice(first);
        Self { fd, buffer, start: 0, end: first.len(), drained: false }
    }

    /// The socket, pipe or file.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What has been read and not been used.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The first `bytes` of it have been used.
    #[inline]
    pub(super) fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "used more than there was");
        self.start += bytes;
    }

    /// Reads more; waits at most `timeout_ms`, or until `wake`.
    ///
    /// # Errors
    /// Misbehaved: the connection is lost.
    pub(super) fn fill(
        &mut self,
        counters: &MainCounters,
        wake: &Wake,
        timeout_ms: u16,
    ) -> Result<Filled, RunError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        assert!(self.end < self.buffer.len(), "the buffer holds the longest record");
        loop {
            if !self.drained {
                match unistd::read(&self.fd, &mut self.buffer[self.end..]) {
                    Ok(0) => return Ok(Filled::End),
                    Ok(bytes) => {
                        self.drained = bytes < self.buffer.len() - self.end;
                        self.end += bytes;
                        counters.wire_bytes.add(bytes as u64);
                        counters.last_activity_ns.set(now_ns());
                        return Ok(Filled::Some);
                    }
                    Err(Errno::EINTR) => continue,
                    Err(Errno::EAGAIN) => {}
                    Err(error) => {
                        let text = format!(
                            "main stream, byte {}: connection lost: {error}",
                            counters.wire_bytes.get()
                        );
                        return Err(RunError::new(Family::Misbehaved, text));
                    }
                }
            }
            self.drained = false;
            let wake_fd = wake.fd();
            let mut fds = [
                PollFd::new(self.fd.as_fd(), PollFlags::POLLIN),
                PollFd::new(wake_fd.as_fd(), PollFlags::POLLIN),
            ];
            let before_ns = now_ns();
            let ready = poll(&mut fds, PollTimeout::from(timeout_ms));
            counters.socket_wait_ns.add(now_ns() - before_ns);
            match ready {
                Ok(0) | Err(Errno::EINTR) => return Ok(Filled::Nothing),
                Ok(_) if fds[1].any() == Some(true) => {
                    wake.clear();
                    return Ok(Filled::Nothing);
                }
                Ok(_) => {}
                Err(error) => return Err(RunError::host("poll", error)),
            }
        }
    }

    /// True if nothing is waiting, neither here nor in the socket: asked at the
    /// end of a stream, without waiting.
    pub(super) fn is_dry(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        self.start == self.end && poll(&mut fds, PollTimeout::ZERO) == Ok(0)
    }
}

/// One read's worth: large enough to make reads rare, small enough to stay in
/// the L2 cache between the kernel's copy and ours.
const BUFFER_BYTES: usize = 256 * 1024;

const _: () = assert!(BUFFER_BYTES >= 2 * INPUT_BYTES_MAX);
