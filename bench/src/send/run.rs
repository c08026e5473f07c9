//! What the threads of one run share: the first end, faults, waiting.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    ClientTls, End, Replies, SendOptions,
    fault::{Cut, Fault},
    progress::Progress,
};
use crate::script::Stream;

/// Shared by all threads of a run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    options: &'a SendOptions,
    progress: &'a Progress,
    /// Bytes that may still be written before the source dies.
    bytes_left: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

/// What waiting threads look at.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The first end wins.
    pub(super) end: Option<End>,
    /// What came back on main.
    pub(super) replies: Replies,
    /// Nothing more will come back.
    pub(super) replies_over: bool,
    /// Channels that sent their Init.
    pub(super) channels_ready: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(options: &'a SendOptions, progress: &'a Progress) -> Self {
        Self {
            options,
            progress,
            bytes_left: AtomicU64::new(kill_after(&options.faults).unwrap_or(u64::MAX)),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        self.progress
    }

    pub(super) fn tls(&self) -> Option<&'a ClientTls> {
        self.options.tls.as_ref()
    }

    pub(super) fn zero_copy(&self) -> bool {
        self.options.zero_copy && self.options.tls.is_none()
    }

    pub(super) fn faults(&self) -> &[Fault] {
        &self.options.faults
    }

    /// Lets the run's end shut this socket down.
    pub(super) fn watch(&self, fd: &Arc<OwnedFd>) {
        self.options.stop.watch(fd);
        if self.is_over() {
            self.options.stop.shut_down_all();
        }
    }

    /// What is to happen to a stream, and after how many of its bytes.
    pub(super) fn cut_of(&self, stream: Stream) -> Option<(u64, Cut)> {
        self.faults().iter().find_map(|fault| match fault {
            Fault::Cut { stream: cut, after_bytes, how } if *cut == stream => {
                Some((*after_bytes, *how))
            }
            _ => None,
        })
    }

    /// How many of `bytes` may be written before the source dies.
    pub(super) fn grant(&self, bytes: u64) -> u64 {
        if self.bytes_left.load(Relaxed) == u64::MAX {
            return bytes;
        }
        let take = |left: u64| Some(left - left.min(bytes));
        let left = self.bytes_left.fetch_update(Relaxed, Relaxed, take).unwrap_or(0);
        left.min(bytes)
    }

    /// The source dies, once other streams have written what they were granted. One that cannot,
    /// since its peer waits for this stream, has a moment.
    pub(super) fn kill_once_written(&self) {
        let all = kill_after(self.faults()).unwrap_or(0);
        let start = Instant::now();
        while self.progress.bytes() < all && start.elapsed() < GRANTED_TIME && !self.is_over() {
            sleep(Duration::from_millis(1));
        }
        self.kill();
    }

    /// The source dies.
    pub(super) fn kill(&self) {
        self.end(End::Killed);
    }

    /// The run is over, unless it already was: the first end wins. All connections are shut down.
    pub(super) fn end(&self, end: End) {
        let end = if self.options.stop.is_stopped() { End::Stopped } else { end };
        self.change(|state| {
            state.end.get_or_insert(end);
        });
        self.options.stop.shut_down_all();
    }

    /// A connection failed.
    pub(super) fn lost(&self, stream: Stream, error: &io::Error) {
        self.end(End::ConnectionLost { stream, error: error.to_string() });
    }

    /// Whether the run has ended or was stopped.
    pub(super) fn is_over(&self) -> bool {
        self.options.stop.is_stopped() || self.state().end.is_some()
    }

    /// Changes what others wait for.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits until `ready` finds what it looks for, the run is over, or `limit` has passed
    /// (`None`: never).
    pub(super) fn wait<T>(
        &self,
        limit: Option<Duration>,
        ready: impl Fn(&State) -> Option<T>,
    ) -> Waited<T> {
        let start = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(found) = ready(&state) {
                return Waited::Ready(found);
            }
            if state.end.is_some() || self.options.stop.is_stopped() {
                return Waited::Over;
            }
            if limit.is_some_and(|limit| start.elapsed() >= limit) {
                return Waited::TimedOut;
            }
            state = match self.changed.wait_timeout(state, NAP) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Sleeps, but not beyond the run's end.
    pub(super) fn nap(&self, pause: Duration) {
        let start = Instant::now();
        while let Some(left) = pause.checked_sub(start.elapsed())
            && !left.is_zero()
            && !self.is_over()
        {
            sleep(left.min(NAP));
        }
    }

    /// The end and what came back.
    pub(super) fn into_end(self) -> (Option<End>, Replies) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.end, state.replies)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After how many bytes, if ever, the source dies.
fn kill_after(faults: &[Fault]) -> Option<u64> {
    faults.iter().find_map(|fault| match fault {
        Fault::Kill { after_bytes } => Some(*after_bytes),
        _ => None,
    })
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited<T> {
    /// It is there.
    Ready(T),
    /// The run is over.
    Over,
    /// It did not come in time.
    TimedOut,
}

/// How soon a stop is noticed by whoever waits.
const NAP: Duration = Duration::from_millis(20);
/// What is granted is written in less, if it can be.
const GRANTED_TIME: Duration = Duration::from_secs(1);
