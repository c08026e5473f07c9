//! The main stream's bytes: a buffer in front of a socket, pipe or file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::unistd::{self, Whence, lseek};

use super::ciphertext::{Ciphertext, SharedTls};
use crate::clock::now_ns;
use crate::cpu_cache::Level2;
use crate::error::{Family, RunError};
use crate::low_water::{Hope, LowWater, hoped_bytes};
use crate::main_stream::INPUT_BYTES_MAX;
use crate::stats::MainCounters;
use crate::tls::RECORD_BYTES_MAX;
use crate::wake::Wake;

/// Bytes of the main stream that have been read and not been used.
pub(super) struct Input {
    fd: Arc<OwnedFd>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last read emptied the socket: ask poll(2) before the next.
    drained: bool,
    /// The last read brought much: more is probably on its way.
    flowing: bool,
    hope: Hope,
    hoped_bytes: u64,
    low_water: LowWater,
    tls: Option<Ciphertext>,
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
    /// read of it already, in the clear.
    pub(super) fn new(fd: Arc<OwnedFd>, first: &[u8], tls: Option<SharedTls>) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        buffer[..first.len()].copy_from_slice(first);
        let tls = tls.map(Ciphertext::new);
        let low_water = LowWater::of(&fd);
        let end = first.len();
        Self {
            fd,
            buffer,
            start: 0,
            end,
            drained: false,
            flowing: false,
            hope: Hope::ONE,
            hoped_bytes: hoped_bytes(Level2::of(0).as_ref(), 1),
            low_water,
            tls,
        }
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

    /// Goes on at `file_offset` of the file that this is; what has been read and
    /// not been used is dropped.
    ///
    /// # Errors
    /// Environment: the file system does not do it.
    pub(super) fn seek(&mut self, file_offset: u64) -> Result<(), RunError> {
        let to = file_offset.cast_signed();
        lseek(&self.fd, to, Whence::SeekSet).map_err(|error| RunError::host("lseek", error))?;
        (self.start, self.end) = (0, 0);
        Ok(())
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
        #[cfg(test)]
        {
            let bytes = if self.start > 0 { self.end - self.start } else { 0 };
            counters.copies.make_room(&self.buffer, bytes);
        }
        self.make_room();
        loop {
            if let Some(filled) = self.read(counters)? {
                return Ok(filled);
            }
            self.drained = false;
            // Much at once where much is likely, but that is not waited for long.
            let may_hope = self.flowing && self.low_water.is_minded();
            let pieces =
                if may_hope { self.hope.packets(PIECE_BYTES, self.hoped_bytes) } else { 0 };
            let is_patient = pieces > 0;
            self.flowing = false;
            self.low_water.set(&self.fd, pieces * PIECE_BYTES);
            let most = match is_patient {
                true => PATIENCE,
                false => Duration::from_millis(timeout_ms.into()),
            };
            let wake_fd = wake.fd();
            let mut fds = [
                PollFd::new(self.fd.as_fd(), PollFlags::POLLIN),
                PollFd::new(wake_fd.as_fd(), PollFlags::POLLIN),
            ];
            let before_ns = now_ns();
            let ready = ppoll(&mut fds, Some(most.into()), None);
            counters.socket_wait_ns.add(now_ns() - before_ns);
            match ready {
                Ok(0) if is_patient => self.hope.vain(pieces),
                Ok(0) | Err(Errno::EINTR) => return Ok(Filled::Nothing),
                Ok(_) if fds[1].any() == Some(true) => {
                    wake.clear();
                    return Ok(Filled::Nothing);
                }
                Ok(_) if is_patient => self.hope.met(pieces),
                Ok(_) => {}
                Err(error) => return Err(RunError::host("poll", error)),
            }
        }
    }

    /// Reads what is there, without waiting; `None` if that is nothing.
    fn read(&mut self, counters: &MainCounters) -> Result<Option<Filled>, RunError> {
        loop {
            if self.open(counters)? {
                return Ok(Some(Filled::Some));
            }
            if self.tls.as_ref().is_some_and(Ciphertext::is_closed) {
                return Ok(Some(Filled::End));
            }
            if self.drained {
                return Ok(None);
            }
            let room = self.buffer.len() - self.end;
            let read = match &mut self.tls {
                None => unistd::read(&self.fd, &mut self.buffer[self.end..]),
                Some(tls) => tls.read(&self.fd),
            };
            match read {
                Ok(0) if self.tls.as_ref().is_some_and(Ciphertext::is_inside) => {
                    return Err(misbehaved(counters, "closed by the source inside a TLS record"));
                }
                Ok(0) => return Ok(Some(Filled::End)),
                Ok(bytes) => {
                    counters.wire_bytes.add(bytes as u64);
                    counters.last_activity_ns.set(now_ns());
                    self.flowing = bytes as u64 >= FLOWING_BYTES;
                    if self.tls.is_none() {
                        self.drained = bytes < room;
                        self.end += bytes;
                        return Ok(Some(Filled::Some));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => {
                    return Err(misbehaved(counters, &format!("connection lost: {error}")));
                }
            }
        }
    }

    /// Under TLS: opens what has been received; true if there was something.
    fn open(&mut self, counters: &MainCounters) -> Result<bool, RunError> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let opened = tls.open(&self.fd, &mut self.buffer[self.end..]).map_err(|error| {
            let text = format!("main stream, byte {}: {error}", counters.wire_bytes.get());
            RunError::new(error.family(), text)
        })?;
        self.end += opened;
        Ok(opened > 0)
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        assert!(self.end < self.buffer.len(), "the buffer holds the longest record");
    }

    /// True if nothing is waiting, neither here nor in the socket: asked at the
    /// end of a stream, without waiting. What TLS says for itself is nothing.
    ///
    /// # Errors
    /// Under TLS: what came cannot be opened, or the connection is lost.
    pub(super) fn is_dry(&mut self, counters: &MainCounters) -> Result<bool, RunError> {
        if self.tls.is_some() {
            self.make_room();
            self.drained = false;
            // A record that has begun is more, even if it says something for TLS itself.
            let is_dry = self.start == self.end && self.read(counters)?.is_none();
            return Ok(is_dry && !self.tls.as_ref().is_some_and(Ciphertext::is_inside));
        }
        // Below its mark the socket would say nothing of what is there.
        self.low_water.set(&self.fd, 1);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        Ok(self.start == self.end && poll(&mut fds, PollTimeout::ZERO) == Ok(0))
    }
}

fn misbehaved(counters: &MainCounters, what: &str) -> RunError {
    let text = format!("main stream, byte {}: {what}", counters.wire_bytes.get());
    RunError::new(Family::Misbehaved, text)
}

/// One read's worth: large enough to make reads rare, small enough to stay in
/// the L2 cache between the kernel's copy and ours.
const BUFFER_BYTES: usize = 256 * 1024;

/// A read of so much was one of many.
const FLOWING_BYTES: u64 = 64 * 1024;

/// What is waited for behind it, once or several times: two reads' worth.
const PIECE_BYTES: u64 = 512 * 1024;

/// But not longer than this, in which one comes at 8 Gbit/s: the guest may be stopped, and
/// nobody knows where the stream ends.
const PATIENCE: Duration = Duration::from_micros(500);

const _: () = assert!(BUFFER_BYTES >= 2 * INPUT_BYTES_MAX);
const _: () = assert!(BUFFER_BYTES >= INPUT_BYTES_MAX + RECORD_BYTES_MAX);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_input_is_not_dry_with_fewer_bytes_in_its_socket_than_were_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut source = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        let mut input = Input::new(Arc::new(OwnedFd::from(socket)), b"", None);
        let counters = MainCounters::default();
        input.low_water.set(&input.fd, PIECE_BYTES);
        assert_eq!(input.is_dry(&counters), Ok(true));
        input.low_water.set(&input.fd, PIECE_BYTES);
        source.write_all(b"more").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(input.is_dry(&counters), Ok(false));
    }
}
