//! One connection to a client: bytes and descriptors in, bytes out, never blocking.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, recvmsg, send,
        shutdown,
    },
};

/// A connection. Dropping it ends it, even if the descriptor has duplicates elsewhere.
#[derive(Debug)]
pub(crate) enum Link {
    /// A connected stream socket, unix or TCP.
    Socket(OwnedFd),
    /// Standard input and output.
    Stdio,
}

impl Link {
    /// What becomes readable when the client has sent something.
    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Stdio => rustix::stdio::stdin(),
        }
    }

    /// What becomes writable when there is room for more.
    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Stdio => rustix::stdio::stdout(),
        }
    }

    /// Does a hang-up at the input mean that nobody reads the output either?
    pub(crate) fn is_one_piece(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Reads what is there; 0 bytes at the end. Descriptors that came along replace those in `passed`,
    /// as in QEMU (`tcp_chr_recv`), and are close-on-exec.
    ///
    /// Call it only when [`Link::input`] is readable.
    ///
    /// # Errors
    /// `WouldBlock` if there was nothing after all; anything else ends the connection.
    pub(crate) fn receive(
        &self,
        buffer: &mut [u8],
        passed: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let Self::Socket(socket) = self else {
            return Ok(rustix::io::read(self.input(), buffer)?);
        };
        // Room for all descriptors the kernel lets into one message, so that none is cut off.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            socket,
            &mut [io::IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                *passed = fds.collect();
            }
        }
        Ok(received.bytes)
    }

    /// Hands bytes to the kernel and says how many it took.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; anything else ends the connection.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Socket(socket) = self else {
            return write_stdout(bytes);
        };
        Ok(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Self::Socket(socket) = self {
            // It may be disconnected already, which is as well.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }
}

/// Standard output may be shared, so it is not made non-blocking; a writable pipe takes
/// `PIPE_BUF` bytes without blocking.
fn write_stdout(bytes: &[u8]) -> io::Result<usize> {
    let stdout = rustix::stdio::stdout();
    let mut ready = [PollFd::new(&stdout, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut ready, Some(&now))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let piece = bytes.split_at(bytes.len().min(PIPE_BUF)).0;
    Ok(rustix::io::write(stdout, piece)?)
}

/// Descriptors per message, `include/net/scm.h`.
const SCM_MAX_FD: usize = 253;

/// `pipe(7)`: a write of this size is atomic, and fits when `poll` says writable.
const PIPE_BUF: usize = 4096;
