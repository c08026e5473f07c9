//! The memory that the bare loops receive into: a raw range, never a reference.

use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
};

use memmap2::MmapMut;

/// A range of memory that only the kernel writes and nobody reads.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: sending a Memory to another thread needs that the range is not tied to one thread.
// - It is a plain mapped range; `new`'s caller promised that nobody else touches it.
unsafe impl Send for Memory {}

impl Memory {
    /// The `len` bytes from `base` on.
    ///
    /// # Safety
    /// - The whole range is mapped and writable, until the receive that got it has returned `Ok`,
    ///   and for the rest of the process when it returned an error.
    /// - Meanwhile nobody else reads or writes it, and no Rust reference into it exists.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// The memory of a buffer that is given up for good.
    #[must_use]
    pub fn leak(buffer: Vec<u8>) -> Self {
        let buffer = Box::leak(buffer.into_boxed_slice());
        Self { len: buffer.len(), base: NonNull::from(buffer).cast() }
    }

    /// Mapped memory, hugepages for instance, that is given up for good.
    #[must_use]
    pub fn leak_map(map: MmapMut) -> Self {
        let mut map = ManuallyDrop::new(map);
        let base = NonNull::from(map.as_mut()).cast();
        Self { base, len: map.len() }
    }

    /// Equal parts of it, each of at least `read_bytes`.
    pub(super) fn split(self, parts: usize, read_bytes: usize) -> impl Iterator<Item = Area> {
        assert!(parts > 0, "nothing to receive from");
        let len = self.len / parts / PAGE_BYTES * PAGE_BYTES;
        assert!(len >= read_bytes, "{} bytes of memory are too few for {parts} sockets", self.len);
        (0..parts).map(move |part| {
            let memory = Self { base: self.base, len: self.len };
            Area { memory, start: part * len, len, at: 0, read_bytes }
        })
    }
}

/// One socket's part of the memory, written in a circle.
#[derive(Debug)]
pub(super) struct Area {
    memory: Memory,
    start: usize,
    len: usize,
    at: usize,
    read_bytes: usize,
}

/// How long a receive waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until the whole read is there or the peer closed.
    ForAll,
    /// Not at all.
    No,
}

impl Area {
    /// One receive; `None` at the peer's end (a reset is one too), 0 when nothing was there.
    pub(super) fn receive(&mut self, socket: &OwnedFd, wait: Wait) -> io::Result<Option<usize>> {
        let flags = match wait {
            Wait::ForAll => libc::MSG_WAITALL,
            Wait::No => libc::MSG_DONTWAIT,
        };
        let (at, len) = self.next_read();
        // SAFETY: recv() must get an open descriptor and a range that it may write.
        // - `socket` is open as long as it is borrowed.
        // - `next_read` stays inside the range that `Memory::new`'s caller promised, and areas do
        //   not overlap.
        let taken = unsafe { libc::recv(socket.as_raw_fd(), at.as_ptr().cast(), len, flags) };
        match taken {
            0 => Ok(None),
            taken if taken > 0 => {
                let taken = taken.unsigned_abs();
                self.advance(taken);
                Ok(Some(taken))
            }
            _ => after_error(io::Error::last_os_error()),
        }
    }

    /// Where the next read goes and how long it may be.
    pub(super) fn next_read(&self) -> (NonNull<u8>, usize) {
        let len = self.read_bytes.min(self.len - self.at);
        // SAFETY: add() must stay inside one mapped range.
        // - start + len of every area lies inside the memory (split), and at < len (advance).
        let at = unsafe { self.memory.base.add(self.start + self.at) };
        (at, len)
    }

    /// Moves behind what was received, in a circle.
    pub(super) fn advance(&mut self, taken: usize) {
        self.at += taken;
        assert!(self.at <= self.len, "received behind the area's end");
        if self.at == self.len {
            self.at = 0;
        }
    }
}

/// What a failed receive means: the peer's end, nothing there yet, or an error.
pub(super) fn after_error(error: io::Error) -> io::Result<Option<usize>> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(Some(0)),
        io::ErrorKind::ConnectionReset => Ok(None),
        _ => Err(error),
    }
}

const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_apart_and_written_in_a_circle() {
        let mut areas: Vec<Area> = Memory::leak(vec![0; 100_000]).split(3, 20_000).collect();
        let starts: Vec<usize> = areas.iter().map(|area| area.start).collect();
        assert_eq!(starts, [0, 32_768, 65_536]);
        let area = &mut areas[1];
        assert_eq!(area.next_read().1, 20_000);
        area.advance(20_000);
        assert_eq!(area.next_read().1, 12_768);
        area.advance(12_768);
        assert_eq!(area.next_read().1, 20_000);
    }
}
