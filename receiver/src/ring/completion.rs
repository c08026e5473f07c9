//! Waiting for completions, and what one says: the same for every ring.

use std::io;

use io_uring::{IoUring, cqueue};

use crate::error::RunError;

/// Submits what is armed and waits for at least one completion.
///
/// # Errors
/// Environment: `io_uring_enter` failed for a reason that no retry mends.
pub(crate) fn wait(ring: &mut IoUring) -> Result<(), RunError> {
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => return Ok(()),
            // A signal, or completions to be taken first.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                if !ring.completion().is_empty() {
                    return Ok(());
                }
            }
            Err(error) => return Err(RunError::host("io_uring_enter", error)),
        }
    }
}

/// How many bytes, or what went wrong.
pub(crate) fn result(entry: &cqueue::Entry) -> io::Result<usize> {
    match entry.result() {
        bytes @ 0.. => Ok(bytes.cast_unsigned() as usize),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
