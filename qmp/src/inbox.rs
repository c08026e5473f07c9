//! The ordinary commands of one monitor, waiting for their turn.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{client::Client, json::Message};

/// A message to be answered in its turn. Broken ones queue too, so that replies keep their order.
pub(crate) struct Job {
    pub(crate) client: Arc<Client>,
    pub(crate) message: Message,
    /// The descriptors that came with it.
    pub(crate) passed: Vec<OwnedFd>,
}

/// The queue between the thread that reads and the dispatcher; QEMU's `MonitorQMP::qmp_requests`.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// The dispatcher is at work on a job it has taken.
    running: bool,
    stopped: bool,
}

impl Inbox {
    /// May the next message be read? One at a time, or with out-of-band execution on until the queue
    /// is full: then out-of-band commands have to wait as well, as in QEMU.
    pub(crate) fn accepts(&self, oob: bool) -> bool {
        let state = self.lock();
        if oob {
            state.jobs.len() < JOBS_MAX && state.bytes < JOB_BYTES_MAX
        } else {
            state.is_idle()
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Adds a job; the caller has asked [`accepts`](Self::accepts) and is the only one to add.
    pub(crate) fn push(&self, job: Job) {
        let mut state = self.lock();
        state.bytes += job.message.bytes;
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next job; `None` when there will be no more.
    pub(crate) fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                state.bytes -= job.message.bytes;
                state.running = true;
                return Some(job);
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The job taken last has been answered.
    pub(crate) fn done(&self) {
        self.lock().running = false;
    }

    /// Drops all waiting jobs: their client has gone.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.bytes = 0;
        let dropped = std::mem::take(&mut state.jobs);
        drop(state);
        drop(dropped);
    }

    /// Ends the dispatcher after the job it is at.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && !self.running
    }
}

/// QEMU's `QMP_REQ_QUEUE_LEN_MAX`.
const JOBS_MAX: usize = 8;

/// The queue also counts as full with this much in it, so that it holds less than two messages of
/// the largest size.
const JOB_BYTES_MAX: usize = crate::json::MESSAGE_BYTES_MAX;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn job(bytes: usize) -> Job {
        Job {
            client: Arc::new(Client::new(None)),
            message: Message { value: Ok(Value::Null), bytes },
            passed: Vec::new(),
        }
    }

    #[test]
    fn without_oob_one_command_is_taken_at_a_time() {
        let inbox = Inbox::default();
        assert!(inbox.accepts(false));
        inbox.push(job(1));
        assert!(!inbox.accepts(false), "one waits");
        inbox.take();
        assert!(!inbox.accepts(false), "one runs");
        inbox.done();
        assert!(inbox.accepts(false));
    }

    #[test]
    fn with_oob_eight_commands_queue() {
        let inbox = Inbox::default();
        for _ in 0..JOBS_MAX {
            assert!(inbox.accepts(true));
            inbox.push(job(1));
        }
        assert!(!inbox.accepts(true));
        inbox.take();
        assert!(inbox.accepts(true));
    }

    #[test]
    fn large_messages_fill_the_queue_sooner() {
        let inbox = Inbox::default();
        inbox.push(job(JOB_BYTES_MAX - 1));
        assert!(inbox.accepts(true));
        inbox.push(job(JOB_BYTES_MAX - 1));
        assert!(!inbox.accepts(true));
        inbox.clear();
        assert!(inbox.accepts(true));
    }

    #[test]
    fn stopping_ends_the_wait() {
        let inbox = Inbox::default();
        inbox.stop();
        assert!(inbox.take().is_none());
    }
}
