//! Descriptors that whoever started this process left open for it.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

/// Duplicates an inherited descriptor, close-on-exec.
///
/// The original stays open, so closing the duplicate does not end a connection; shutting it down does.
///
/// # Errors
/// `fd` is not open, or the process has no descriptor left.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}"))
        .map_err(|_| rustix::io::Errno::BADF)?;
    // SAFETY: borrow_raw() asks for a descriptor that is open as long as the borrow, and is not -1.
    // - fd >= 0: checked above.
    // - It is open: checked above. The borrow ends with this function, and only the fcntl() below
    //   uses it, which fails cleanly should somebody close the descriptor in between.
    let inherited = unsafe { BorrowedFd::borrow_raw(fd) };
    inherited.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn the_duplicate_is_the_same_connection() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut duplicate = UnixStream::from(duplicate(ours.as_raw_fd()).unwrap());
        duplicate.write_all(b"x").unwrap();
        let mut byte = [0];
        theirs.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn a_closed_descriptor_is_an_error() {
        for fd in [-1, RawFd::MIN, RawFd::MAX] {
            let error = duplicate(fd).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
        }
    }
}
