//! A saved migration in a file: what it was when the run began, and the
//! descriptors to read it by.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Whence, lseek};

use crate::error::{Family, RunError};
use crate::wire::FileExtent;

/// A regular file that a migration is read from.
#[derive(Clone, Debug)]
pub struct SavedFile {
    fd: Arc<OwnedFd>,
    extent: FileExtent,
    /// What it takes on its disk.
    allocated_bytes: u64,
    modified: Modified,
    /// Handed over with `O_DIRECT` set.
    direct: Option<Arc<OwnedFd>>,
}

/// What changes when somebody writes to a file: `st_mtim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Modified {
    seconds: i64,
    nanoseconds: i64,
}

impl SavedFile {
    /// The file behind `fd`, of which `taken` bytes of the stream have been
    /// read; `None` if it is no regular file.
    ///
    /// # Errors
    /// Environment: the file system does not answer.
    pub fn of(fd: &Arc<OwnedFd>, taken: usize) -> Result<Option<Self>, RunError> {
        let stat = fstat(fd).map_err(|error| RunError::host("fstat", error))?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Ok(None);
        }
        let at = lseek(fd, 0, Whence::SeekCur).map_err(|error| RunError::host("lseek", error))?;
        let offset = at.cast_unsigned().saturating_sub(taken as u64);
        let extent = FileExtent { offset, bytes: stat.st_size.cast_unsigned() };
        let allocated_bytes = stat.st_blocks.cast_unsigned() * STAT_BLOCK_BYTES;
        let fd = Arc::clone(fd);
        Ok(Some(Self { fd, extent, allocated_bytes, modified: modified(&stat), direct: None }))
    }

    /// Where the stream begins, and how long the file was then.
    pub fn extent(&self) -> FileExtent {
        self.extent
    }

    /// Bytes that it had on its disk then.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes
    }

    /// True if it takes less than its length: it has holes.
    pub fn is_sparse(&self) -> bool {
        self.allocated_bytes < self.extent.bytes
    }

    /// The file, to read it through the page cache.
    pub fn buffered(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Takes `direct`, the same file opened with `O_DIRECT`, for [`Self::direct`].
    pub fn have_direct(&mut self, direct: Arc<OwnedFd>) {
        self.direct = Some(direct);
    }

    /// The file once more, to read it past the page cache (open(2),
    /// `O_DIRECT`); `None` where its file system cannot, with a warning.
    pub fn direct(&self) -> Option<Arc<OwnedFd>> {
        if let Some(direct) = &self.direct {
            return Some(Arc::clone(direct));
        }
        match self.reopened(OFlag::O_DIRECT) {
            Ok(fd) => Some(Arc::new(fd)),
            Err(error) => {
                tracing::warn!(
                    "direct-io: the file cannot be opened with O_DIRECT ({error}); it is read \
                     through the page cache"
                );
                None
            }
        }
    }

    /// The file once more, with an offset of its own.
    pub(super) fn reopened(&self, flags: OFlag) -> nix::Result<OwnedFd> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | flags, Mode::empty())
    }

    /// Whether the file is still what it was.
    ///
    /// # Errors
    /// Misbehaved: somebody wrote to it meanwhile, so what was read may be of
    /// two saves, or of an unfinished one.
    pub fn check_unchanged(&self) -> Result<(), RunError> {
        let stat = fstat(&self.fd).map_err(|error| RunError::host("fstat", error))?;
        let (was, is) = (self.extent.bytes, stat.st_size.cast_unsigned());
        let text = if was != is {
            format!("the file changed while it was read: it had {was} bytes and now has {is}")
        } else if modified(&stat) != self.modified {
            "the file changed while it was read: somebody wrote to it".to_owned()
        } else {
            return Ok(());
        };
        Err(RunError::new(Family::Misbehaved, text))
    }
}

fn modified(stat: &nix::sys::stat::FileStat) -> Modified {
    Modified { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec }
}

/// The unit of `st_blocks` (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn saved(file: &std::fs::File, taken: usize) -> Option<SavedFile> {
        let fd = Arc::new(OwnedFd::from(file.try_clone().unwrap()));
        SavedFile::of(&fd, taken).unwrap()
    }

    #[test]
    fn a_stream_begins_where_the_file_stood_before_the_first_bytes_were_taken() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 5000]).unwrap();
        file.seek(SeekFrom::Start(1028)).unwrap();
        let extent = saved(&file, 4).unwrap().extent();
        assert_eq!(extent, FileExtent { offset: 1024, bytes: 5000 });
        let (pipe, _write) = std::io::pipe().unwrap();
        assert!(SavedFile::of(&Arc::new(pipe.into()), 4).unwrap().is_none(), "a pipe is no file");
    }

    #[test]
    fn growing_shrinking_and_writing_in_place_are_changes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 5000]).unwrap();
        // An old file: what is written now has another time.
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let saved_at = |file: &std::fs::File| {
            file.set_modified(old).unwrap();
            saved(file, 0).unwrap()
        };
        let before = saved_at(&file);
        assert_eq!(before.check_unchanged(), Ok(()));
        file.set_len(5001).unwrap();
        let text = before.check_unchanged().unwrap_err().text;
        assert!(text.contains("had 5000 bytes and now has 5001"), "{text}");
        let before = saved_at(&file);
        file.set_len(4999).unwrap();
        let error = before.check_unchanged().unwrap_err();
        assert_eq!(error.family, Family::Misbehaved);
        assert!(error.text.contains("had 5001 bytes and now has 4999"), "{error}");
        let before = saved_at(&file);
        file.rewind().unwrap();
        file.write_all(&[2]).unwrap();
        let text = before.check_unchanged().unwrap_err().text;
        assert!(text.contains("somebody wrote to it"), "{text}");
    }
}
