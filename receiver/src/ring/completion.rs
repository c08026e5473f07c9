//! Waiting for completions, and what one says: the same for every ring.

use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue};

use crate::error::RunError;

/// Submits what is armed and waits for at least one completion.
///
/// # Errors
/// Environment: `io_uring_enter` failed for a reason that no retry mends.
pub(crate) fn wait(ring: &mut IoUring) -> Result<(), RunError> {
    while !may_go_on(ring, |ring| ring.submit_and_wait(1))? {}
    Ok(())
}

/// As [`wait`], but not longer than `most_ns`.
///
/// # Errors
/// As [`wait`].
pub(crate) fn wait_for(ring: &mut IoUring, most_ns: u64) -> Result<(), RunError> {
    let most = Timespec::from(Duration::from_nanos(most_ns));
    let arguments = SubmitArgs::new().timespec(&most);
    may_go_on(ring, |ring| ring.submitter().submit_with_args(1, &arguments)).map(drop)
}

/// Enters the kernel; false if nothing came of it.
fn may_go_on(
    ring: &mut IoUring,
    enter: impl FnOnce(&mut IoUring) -> io::Result<usize>,
) -> Result<bool, RunError> {
    match enter(ring) {
        Ok(_) => Ok(true),
        // The time was up, a signal, or completions to be taken first.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
            ) =>
        {
            Ok(!ring.completion().is_empty())
        }
        Err(error) => Err(RunError::host("io_uring_enter", error)),
    }
}

/// How many bytes, or what went wrong.
pub(crate) fn result(entry: &cqueue::Entry) -> io::Result<usize> {
    match entry.result() {
        bytes @ 0.. => Ok(bytes.cast_unsigned() as usize),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
