//! Waking a thread that waits in poll(2) or in its ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd;

use crate::error::RunError;

/// An eventfd (eventfd(2)) that any thread may signal.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A wake-up that nobody has signalled.
    ///
    /// # Errors
    /// Environment: no more file descriptors.
    pub fn new() -> Result<Self, RunError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let fd = EventFd::from_value_and_flags(0, flags)
            .map_err(|error| RunError::host("eventfd", error))?;
        Ok(Self(Arc::new(fd.into())))
    }

    /// Wakes the waiter; if it does not wait now, its next wait ends at once.
    pub fn wake(&self) {
        // It fails only when 2^64 - 2 wake-ups are pending: then one is.
        let _ = unistd::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets wake-ups so far.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // EAGAIN: there was none.
        let _ = unistd::read(&self.0, &mut count);
    }

    /// The descriptor, to wait on.
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }
}
