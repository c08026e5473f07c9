//! One connection of the source: writes whole steps, counts them, and fails where it was told to.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    thread::sleep,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, Shutdown, sendmsg, setsockopt, shutdown, sockopt::Linger},
        uio::writev,
    },
};

use super::{
    fault::Cut,
    run::Run,
    tls::Tls,
    zero_copy::{ZeroCopy, ZeroCopyUse},
};
use crate::{
    config::PAGE_BYTES_MIN, encode::packet::packet_pages, message::Message, script::Stream,
};

/// A connection that the source writes to.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    /// `None` once it was reset or closed.
    fd: Option<Arc<OwnedFd>>,
    /// Else it is a pipe or a file.
    is_socket: bool,
    written: u64,
    /// What happens to this stream and after how many bytes.
    cut: Option<(u64, Cut)>,
    /// It was cut: what is written goes nowhere.
    gone: bool,
    tls: Option<Tls>,
    zero_copy: Option<ZeroCopy>,
    /// Under TLS what is written of a payload is cut into records of so many bytes.
    page: usize,
}

impl Socket {
    /// A new connection for `stream`, with its TLS handshake if the run is under TLS; `run` may
    /// shut it down from now on. Pages have `page` bytes.
    ///
    /// # Errors
    /// The handshake failed, or pages are to be sent without a copy and cannot.
    pub(super) fn new(
        stream: Stream,
        fd: OwnedFd,
        is_socket: bool,
        page: usize,
        run: &Run<'_>,
    ) -> io::Result<Self> {
        let fd = Arc::new(fd);
        run.watch(&fd);
        let tls = run.tls().map(|tls| tls.connect(&fd)).transpose()?;
        let zero_copy = match stream {
            Stream::Channel(_) if run.zero_copy() => Some(ZeroCopy::new(&fd).map_err(|error| {
                io::Error::other(format!("no zero-copy send on this kind of socket: {error}"))
            })?),
            _ => None,
        };
        let cut = run.cut_of(stream);
        let fd = Some(fd);
        Ok(Self { stream, fd, is_socket, written: 0, cut, gone: false, tls, zero_copy, page })
    }

    /// A handle for the reader of the other direction, where there is one.
    pub(super) fn reader(&self) -> Option<(Arc<OwnedFd>, Option<Tls>)> {
        if !self.is_socket {
            return None;
        }
        Some((self.fd.clone()?, self.tls.clone()))
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) {
        self.fd = None;
    }

    /// Says under TLS that nothing more comes.
    pub(super) fn say_goodbye(&mut self) {
        if let (Some(fd), Some(tls), false) = (&self.fd, &self.tls, self.gone) {
            tls.say_goodbye(fd.as_fd());
        }
    }

    /// What became of sends without a copy.
    pub(super) fn zero_copy_use(&mut self) -> ZeroCopyUse {
        match (&mut self.zero_copy, &self.fd) {
            (Some(zero_copy), Some(fd)) => zero_copy.used(fd),
            _ => ZeroCopyUse::default(),
        }
    }

    /// Writes a message whole.
    ///
    /// # Errors
    /// What the system says, most of all that the peer is gone.
    pub(super) fn write(&mut self, message: &Message, run: &Run<'_>) -> io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let len = message.bytes();
        if let Some((after, how)) = self.cut
            && self.written + len as u64 > after
        {
            return self.write_and_cut(message, after, how, run);
        }
        let granted = run.grant(len as u64);
        if granted < len as u64 {
            let [first, _] = message.split(granted as usize);
            self.write_now(&first, run)?;
            run.kill_once_written();
            return Ok(());
        }
        self.write_now(message, run)
    }

    /// Writes up to the cut and cuts.
    fn write_and_cut(
        &mut self,
        message: &Message,
        after: u64,
        how: Cut,
        run: &Run<'_>,
    ) -> io::Result<()> {
        let before = after.saturating_sub(self.written);
        let [first, rest] = message.split(usize::try_from(before).unwrap_or(usize::MAX));
        self.write_now(&first, run)?;
        match how {
            Cut::Slow { bytes, pause } => {
                for piece in rest.concat().chunks(bytes.max(1)) {
                    self.write_now(&Message::of(piece), run)?;
                    run.nap(pause);
                    if run.is_over() {
                        break;
                    }
                }
            }
            Cut::Silence => self.gone = true,
            Cut::Close => {
                self.gone = true;
                if let Some(fd) = &self.fd {
                    shutdown(fd.as_raw_fd(), Shutdown::Both)?;
                }
            }
            Cut::Reset => {
                self.gone = true;
                self.reset()?;
            }
        }
        Ok(())
    }

    /// Closes by RST: no lingering, and the last handle dropped.
    fn reset(&mut self) -> io::Result<()> {
        let Some(fd) = self.fd.take() else { return Ok(()) };
        setsockopt(&*fd, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        // Wakes a reader of the other direction without a byte to the peer; it drops its handle.
        let _ = shutdown(fd.as_raw_fd(), Shutdown::Read);
        let mut fd = fd;
        while let Err(shared) = Arc::try_unwrap(fd) {
            fd = shared;
            sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }

    fn write_now(&mut self, message: &Message, run: &Run<'_>) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        let fd = Arc::clone(fd);
        if let Some(tls) = &self.tls {
            tls.write(fd.as_fd(), message, self.page)?;
            // In the clear, so that a cut is where it is without TLS.
            self.count(message.bytes(), run);
            return Ok(());
        }
        if message.payload_lies() && self.zero_copy.as_ref().is_some_and(ZeroCopy::pays) {
            // The header's bytes are the next packet's soon: they are copied.
            let [head, payload] = message.parts();
            self.send(&fd, head, MORE, run)?;
            return self.send(&fd, payload, ZERO_COPY, run);
        }
        self.send(&fd, message.slices(), MsgFlags::empty(), run)
    }

    /// Sends pieces from where they lie, as many together as the system takes.
    fn send<'a>(
        &mut self,
        fd: &OwnedFd,
        mut pieces: impl Iterator<Item = &'a [u8]>,
        mut flags: MsgFlags,
        run: &Run<'_>,
    ) -> io::Result<()> {
        loop {
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            let filled = all.iter_mut().zip(&mut pieces).fold(0, |filled, (slot, piece)| {
                *slot = IoSlice::new(piece);
                filled + 1
            });
            if filled == 0 {
                return Ok(());
            }
            let mut left = &mut all[..filled];
            IoSlice::advance_slices(&mut left, 0); // empty ones in front
            while !left.is_empty() {
                let now = flags | MsgFlags::MSG_NOSIGNAL;
                let taken = if self.is_socket {
                    sendmsg::<()>(fd.as_raw_fd(), left, &[], now, None)
                } else {
                    writev(fd, left)
                };
                match taken {
                    Ok(taken) => {
                        IoSlice::advance_slices(&mut left, taken);
                        self.count(taken, run);
                        if flags.contains(ZERO_COPY) {
                            self.zero_copy_state().sent(fd);
                        }
                    }
                    Err(Errno::EINTR) => {}
                    Err(Errno::ENOBUFS) if flags.contains(ZERO_COPY) && !run.is_over() => {
                        self.zero_copy_state().wait(fd);
                    }
                    // What was handed over need not be one that waits, and a pipe never is.
                    Err(Errno::EAGAIN) if !run.is_over() => {
                        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
                        let _ = poll(&mut fds, PollTimeout::from(TICK_MS));
                    }
                    Err(error) => return Err(error.into()),
                }
                if flags.contains(ZERO_COPY) && !self.zero_copy_state().pays() {
                    flags.remove(ZERO_COPY);
                }
            }
        }
    }

    fn zero_copy_state(&mut self) -> &mut ZeroCopy {
        self.zero_copy.as_mut().expect("nobody asks for a send without a copy but with this state")
    }

    fn count(&mut self, taken: usize, run: &Run<'_>) {
        self.written += taken as u64;
        run.progress().add_bytes(self.stream, taken as u64);
    }
}

/// `MSG_ZEROCOPY` and `MSG_MORE`, which nix does not name.
const ZERO_COPY: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_ZEROCOPY);
const MORE: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_MORE);
/// How soon the end of a run is noticed.
const TICK_MS: u16 = 20;
/// What is sent in one call: on main an item's head and its page for as many pages as a packet has,
/// which is more than a packet has pieces; and far from the system's limit (`IOV_MAX`).
const SLICES_MAX: usize = 2 * packet_pages(PAGE_BYTES_MIN) as usize;
