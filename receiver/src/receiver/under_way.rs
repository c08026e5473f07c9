//! A migration as its receiver and those who ask for it see it: under way, or what is left of it.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use landfall_pagepool::MemoryReport;
use serde_json::Value;

use crate::error::RunError;
use crate::migration::{Ended, Received};
use crate::nic_node::NearCpus;
use crate::ring::RingFeatures;
use crate::run::{Run, lock};
use crate::status::Status;

/// Told when a run's status changes, on one of the run's threads.
pub type Observer = Arc<dyn Fn(&Migration, Status) + Send + Sync>;

/// A migration, under way or ended.
pub struct Migration {
    /// What its threads share.
    pub run: Arc<Run>,
    /// QEMU's `socket-address` list.
    pub socket_address: Value,
    /// Where the listener's network card is, if that is known.
    pub near: Option<NearCpus>,
    /// io_uring features of its readers.
    pub features: RingFeatures,
    /// Guest memory as of now, or as of the end.
    pub memory: Arc<Mutex<MemoryReport>>,
    pub(super) ended: OnceLock<Ended>,
    pub(super) done: (Mutex<bool>, Condvar),
}

impl Migration {
    /// What is left of it, once it has ended.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// Waits for its end.
    pub fn wait(&self) -> &Ended {
        let mut done = lock(&self.done.0);
        while !*done {
            done = self.done.1.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        self.ended.get().expect("it has ended")
    }

    /// Waits for its end, at most `timeout`; true if it has ended.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        let done = lock(&self.done.0);
        let (done, _) = self
            .done
            .1
            .wait_timeout_while(done, timeout, |done| !*done)
            .unwrap_or_else(PoisonError::into_inner);
        *done
    }

    /// Whoever waits for its end goes on.
    pub(super) fn wake_waiters(&self) {
        *lock(&self.done.0) = true;
        self.done.1.notify_all();
    }

    /// Its main thread has panicked when the walk was over: nobody else can end it. True if
    /// its end was not known before.
    pub(super) fn give_up(&self, error: RunError) -> bool {
        self.run.fail(error.clone());
        self.run.stop();
        let received = Received { ram: self.run.ram().cloned(), ..Received::default() };
        let error = self.run.error().cloned().or(Some(error));
        let is_news = self.ended.set(Ended { error, received, ..Ended::default() }).is_ok();
        if is_news {
            *self.run.status() = Status::Failed;
        }
        is_news
    }
}
