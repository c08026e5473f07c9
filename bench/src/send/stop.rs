//! Ending a run from outside: a flag, and the sockets that somebody may be blocked on.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{Shutdown, shutdown};

/// Stops a running [`crate::send::send`] from any thread; clones stop the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopped: AtomicBool,
    sockets: Mutex<Vec<Weak<OwnedFd>>>,
}

impl Stop {
    /// Not stopped.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run now: every connection is shut down, whoever is blocked on one returns. A run
    /// that starts later with the same handle ends at once.
    pub fn stop(&self) {
        self.0.stopped.store(true, Relaxed);
        self.shut_down_all();
    }

    /// Whether [`Stop::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Relaxed)
    }

    /// Adds a connection that a stop must shut down.
    pub(crate) fn watch(&self, socket: &Arc<OwnedFd>) {
        let mut sockets = self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(socket));
        drop(sockets);
        if self.is_stopped() {
            self.shut_down_all();
        }
    }

    /// Shuts every connection down, which to the peer looks as if this process had died.
    pub(crate) fn shut_down_all(&self) {
        let sockets = self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            // The only failure is that the peer was first, and then there is nothing to shut down.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}
