//! One connection of the source: writes whole steps, counts them, and fails where it was told to.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    thread::sleep,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, Shutdown, sendmsg, setsockopt, shutdown, sockopt::Linger},
};

use super::{fault::Cut, run::Run, tls::Tls};
use crate::script::Stream;

/// A connection that the source writes to.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    /// `None` once it was reset.
    fd: Option<Arc<OwnedFd>>,
    written: u64,
    /// What happens to this stream and after how many bytes.
    cut: Option<(u64, Cut)>,
    /// It was cut: what is written goes nowhere.
    gone: bool,
    tls: Option<Tls>,
    /// Under TLS what is written of a payload is cut into records of so many bytes.
    page: usize,
}

impl Socket {
    /// A new connection for `stream`, with its TLS handshake if the run is under TLS; `run` may
    /// shut it down from now on. Pages have `page` bytes.
    ///
    /// # Errors
    /// The handshake failed.
    pub(super) fn new(stream: Stream, fd: OwnedFd, page: usize, run: &Run<'_>) -> io::Result<Self> {
        let fd = Arc::new(fd);
        run.watch(&fd);
        let tls = run.tls().map(|tls| tls.connect(&fd)).transpose()?;
        let cut = run.cut_of(stream);
        Ok(Self { stream, fd: Some(fd), written: 0, cut, gone: false, tls, page })
    }

    /// A handle for the reader of the other direction.
    pub(super) fn reader(&self) -> Option<(Arc<OwnedFd>, Option<Tls>)> {
        Some((self.fd.clone()?, self.tls.clone()))
    }

    /// Says under TLS that nothing more comes.
    pub(super) fn say_goodbye(&mut self) {
        if let (Some(fd), Some(tls), false) = (&self.fd, &self.tls, self.gone) {
            tls.say_goodbye(fd.as_fd());
        }
    }

    /// Writes head and payload whole.
    ///
    /// # Errors
    /// What the system says, most of all that the peer is gone.
    pub(super) fn write(&mut self, head: &[u8], payload: &[u8], run: &Run<'_>) -> io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let len = head.len() as u64 + payload.len() as u64;
        if let Some((after, how)) = self.cut
            && self.written + len > after
        {
            return self.write_and_cut(head, payload, after, how, run);
        }
        let granted = run.grant(len);
        let (head, payload) = first(head, payload, granted);
        self.write_now(head, payload, run)?;
        if granted < len {
            run.kill();
        }
        Ok(())
    }

    /// Writes up to the cut and cuts.
    fn write_and_cut(
        &mut self,
        head: &[u8],
        payload: &[u8],
        after: u64,
        how: Cut,
        run: &Run<'_>,
    ) -> io::Result<()> {
        let before = after.saturating_sub(self.written);
        let (first_head, first_payload) = first(head, payload, before);
        self.write_now(first_head, first_payload, run)?;
        match how {
            Cut::Slow { bytes, pause } => {
                let rest = [&head[first_head.len()..], &payload[first_payload.len()..]].concat();
                for piece in rest.chunks(bytes.max(1)) {
                    self.write_now(piece, &[], run)?;
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

    fn write_now(&mut self, mut head: &[u8], mut payload: &[u8], run: &Run<'_>) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        if let Some(tls) = &self.tls {
            tls.write(fd.as_fd(), head, payload, self.page)?;
            // In the clear, so that a cut is where it is without TLS.
            let taken = head.len() as u64 + payload.len() as u64;
            self.written += taken;
            run.progress().add_bytes(self.stream, taken);
            return Ok(());
        }
        while !(head.is_empty() && payload.is_empty()) {
            let slices = [IoSlice::new(head), IoSlice::new(payload)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            let taken = match sendmsg::<()>(fd.as_raw_fd(), &slices, &[], flags, None) {
                Ok(taken) => taken,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let of_head = taken.min(head.len());
            head = &head[of_head..];
            payload = &payload[taken - of_head..];
            self.written += taken as u64;
            run.progress().add_bytes(self.stream, taken as u64);
        }
        Ok(())
    }
}

/// The first `len` bytes of the two together.
fn first<'a>(head: &'a [u8], payload: &'a [u8], len: u64) -> (&'a [u8], &'a [u8]) {
    let of_head = head.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    let of_payload = payload.len().min(usize::try_from(len).unwrap_or(usize::MAX) - of_head);
    (&head[..of_head], &payload[..of_payload])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_taken_from_the_head_and_then_from_the_payload() {
        let (head, payload) = ([1, 2, 3], [4, 5]);
        for len in 0..7u64 {
            let (a, b) = first(&head, &payload, len);
            let all: Vec<u8> = a.iter().chain(b).copied().collect();
            assert_eq!(all, (1..=5).take(len as usize).collect::<Vec<u8>>(), "{len}");
        }
    }
}
