//! Descriptors that arrive as bare numbers become owned here and nowhere else.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockFlag, accept4};

/// Accepts a connection: a blocking socket, closed on exec.
///
/// # Errors
/// As accept4(2).
pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: from_raw_fd() wants an open descriptor that nobody else owns.
    // - accept4 succeeded: the number is open, and new to this process.
    // - nix hands out the number only, and it goes nowhere but here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes over a descriptor that the parent process left open for us, and marks
/// it close-on-exec. What survived our exec has no close-on-exec flag and
/// everything this program opens has it, so the flag tells an inherited
/// descriptor that nobody has taken from one of our own.
///
/// # Errors
/// EBADF if it is not open, or is ours, or was taken already.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    // Between looking at the flag and setting it, nobody else may look.
    let _one_at_a_time = TAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if number <= STDERR || !is_inherited(number) {
        return Err(Errno::EBADF);
    }
    // SAFETY: from_raw_fd() wants an open descriptor that nobody else owns.
    // - it is open: F_GETFD succeeded on it under the lock.
    // - no part of this program owns it: everything this program opens is
    //   close-on-exec from the start, and this was not; standard streams,
    //   which the library uses by number, are excluded.
    // - it is not taken twice: the flag is set below, before the lock goes.
    let taken = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&taken, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(taken)
}

fn is_inherited(number: RawFd) -> bool {
    // SAFETY: fcntl(F_GETFD) takes any number: it reads no memory of ours and
    // answers EBADF for one that is not open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

static TAKING: Mutex<()> = Mutex::new(());

/// The last of the standard streams.
const STDERR: RawFd = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_without_close_on_exec_is_taken_once_and_one_of_ours_never() {
        let (ours, mut other) = UnixStream::pair().unwrap();
        let number = ours.as_raw_fd();
        assert_eq!(take_inherited(number).unwrap_err(), Errno::EBADF, "ours is close-on-exec");

        let number = ours.into_raw_fd();
        // As a parent would have left it.
        // SAFETY: F_SETFD takes no pointer; the number is open.
        assert_eq!(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }, 0);
        let mut taken = UnixStream::from(take_inherited(number).unwrap());
        other.write_all(b"x").unwrap();
        let mut byte = [0];
        taken.read_exact(&mut byte).unwrap();
        assert_eq!(take_inherited(number).unwrap_err(), Errno::EBADF, "taken already");
    }

    #[test]
    fn closed_numbers_and_standard_streams_are_refused() {
        for number in [-1, 0, 1, 2, 1_000_000] {
            assert_eq!(take_inherited(number).unwrap_err(), Errno::EBADF, "{number}");
        }
    }
}
