//! The bytes of one direction of one connection: a file that grows under a mapping, and is read
//! through one.
//!
//! The whole length that it may reach is mapped at once, so that nothing moves; room on the disk
//! is taken in steps before bytes land there, so that a full disk is an error and no signal.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use nix::fcntl::{FallocateFlags, fallocate};

/// A file of a recording while it is written.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    map: MmapMut,
    /// Bytes that have come.
    len: usize,
    /// Bytes that the file has room for.
    room: usize,
}

impl Store {
    /// An empty file at `path` that may become `limit` bytes long.
    ///
    /// # Errors
    /// What the system says; `AlreadyExists` if there is a file.
    pub(super) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let limit = usize::try_from(limit).map_err(|_| too_large())?.max(STEP);
        file.set_len(limit as u64)?;
        // SAFETY: map_mut requires that nobody changes or shortens the file while it is mapped.
        // - create_new has just made it, the descriptor does not leave this struct, and finish,
        //   which shortens it, has unmapped it before. Somebody else who writes to a file of a
        //   recording under way changes bytes that are never more than bytes.
        let map = unsafe { MmapOptions::new().len(limit).map_mut(&file) }?;
        Ok(Self { file, map, len: 0, room: 0 })
    }

    /// Where the next bytes go, at most `most`; empty when the file is full.
    ///
    /// # Errors
    /// `StorageFull` and the like.
    pub(super) fn space(&mut self, most: usize) -> io::Result<&mut [u8]> {
        let most = most.min(self.map.len() - self.len);
        if self.room < self.len + most {
            let step = STEP.max(most).min(self.map.len() - self.room);
            let (at, step_bytes) = (self.room as i64, step as i64);
            fallocate(&self.file, FallocateFlags::empty(), at, step_bytes)?;
            self.room += step;
        }
        Ok(&mut self.map[self.len..][..most])
    }

    /// `bytes` have come where [`Store::space`] said.
    pub(super) fn took(&mut self, bytes: usize) {
        assert!(self.len + bytes <= self.room, "more bytes than there was room for");
        self.len += bytes;
    }

    /// The last `bytes` that came.
    pub(super) fn last(&self, bytes: usize) -> &[u8] {
        &self.map[self.len - bytes..self.len]
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len as u64
    }

    /// Bytes that it may have.
    pub(super) fn limit(&self) -> u64 {
        self.map.len() as u64
    }

    /// The first bytes.
    pub(super) fn first(&self, most: usize) -> &[u8] {
        &self.map[..self.len.min(most)]
    }

    /// Gives back what was too much.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { file, map, len, .. } = self;
        drop(map);
        file.set_len(len as u64)
    }
}

/// A finished file of a recording, mapped: what is sent goes to the socket from the file's own
/// pages.
#[derive(Debug)]
pub(super) struct Stored(Mmap);

impl Stored {
    /// Maps the file at `path` as long as it is.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: map requires that nobody changes or shortens the file while it is mapped.
        // - We never do. Somebody else who writes to it changes bytes that are never more than
        //   bytes: they are handed to the kernel, and nothing here looks at them.
        // - Of a file that somebody has shortened the kernel cannot read the end, and send(2) says
        //   EFAULT: there is no signal, since this process touches none of it.
        let map = unsafe { MmapOptions::new().map(&file) }?;
        // Only a matter of speed.
        let _ = map.advise(Advice::Sequential);
        Ok(Self(map))
    }

    /// Reads all of it now, so that neither the disk nor page faults are in the way later.
    ///
    /// # Errors
    /// What the system says, most of all of a disk that cannot be read.
    pub(super) fn read(&self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { self.0.advise(Advice::PopulateRead) }
    }

    /// To be sent, and for nothing else.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Room is taken on the disk in steps of so many bytes.
const STEP: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::{
        errno::Errno,
        sys::socket::{MsgFlags, send},
    };

    use super::*;

    #[test]
    fn a_finished_file_has_the_bytes_that_came_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let mut store = Store::create(&path, 40 << 20).unwrap();
        let mut wanted = Vec::new();
        for step in 0..40u8 {
            let space = store.space(1_000_000).unwrap();
            let taken = space.len() - usize::from(step);
            space[..taken].fill(step);
            store.took(taken);
            assert_eq!(store.last(taken).first(), Some(&step));
            wanted.resize(wanted.len() + taken, step);
        }
        assert_eq!(store.first(4), [0; 4]);
        store.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == wanted);
        let stored = Stored::open(&path).unwrap();
        stored.read().unwrap();
        assert!(stored.bytes() == wanted);
    }

    #[test]
    fn of_a_file_that_was_shortened_the_kernel_sends_no_more_and_there_is_no_signal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, vec![7; 3 << 16]).unwrap();
        let stored = Stored::open(&path).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 16).unwrap();
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let end = &stored.bytes()[1 << 16..];
        let sent = send(ours.as_raw_fd(), end, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
        assert_eq!(sent, Err(Errno::EFAULT));
    }

    #[test]
    fn an_empty_file_is_mapped_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, b"").unwrap();
        let stored = Stored::open(&path).unwrap();
        stored.read().unwrap();
        assert!(stored.bytes().is_empty());
    }

    #[test]
    fn a_full_file_has_no_space_left() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::create(&directory.path().join("data"), STEP as u64).unwrap();
        let all = store.space(usize::MAX).unwrap().len();
        store.took(all);
        assert_eq!((all, store.space(1).unwrap().len()), (STEP, 0));
    }
}
