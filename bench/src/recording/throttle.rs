//! The pace of a replay: nothing goes out before its time, and nothing before what came earlier on
//! another connection.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use landfall_receiver::run::lock;

/// Which entries of the order have gone out.
///
/// A connection that its destination holds back is not waited for: at a sync point a destination
/// reads nothing more of a channel until main has passed, and main may have been recorded later,
/// because the recorder's buffers took what the destination did not.
#[derive(Debug)]
pub(super) struct Throttle {
    state: Mutex<Vec<Place>>,
    changed: Condvar,
    begin: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The next entry that has not gone out; `usize::MAX` when none will any more.
    next: usize,
    /// Since when the destination has not taken what is on its way.
    held_since: Option<Instant>,
}

impl Throttle {
    /// `first` is the first entry with data of each connection, if it has any.
    pub(super) fn new(first: impl Iterator<Item = Option<usize>>) -> Self {
        let place =
            |next: Option<usize>| Place { next: next.unwrap_or(usize::MAX), held_since: None };
        Self {
            state: Mutex::new(first.map(place).collect()),
            changed: Condvar::new(),
            begin: Instant::now(),
        }
    }

    /// Waits until entry `index` of `channel`, recorded `at_ns` after the first connection, may go
    /// out. `is_over` ends the wait. Says how long it was kept by entries before it after its time
    /// had come.
    pub(super) fn wait(
        &self,
        channel: usize,
        index: usize,
        at_ns: u64,
        is_over: impl Fn() -> bool,
    ) -> Duration {
        loop {
            let until = self.begin + Duration::from_nanos(at_ns);
            let early = until.saturating_duration_since(Instant::now());
            if early.is_zero() || is_over() {
                break;
            }
            std::thread::sleep(early.min(TICK));
        }
        let begin = Instant::now();
        let mut state = lock(&self.state);
        while !is_over()
            && state.iter().enumerate().any(|(other, place)| {
                let held = place.held_since.is_some_and(|since| since.elapsed() > HELD);
                other != channel && place.next < index && !held
            })
        {
            let wait = self.changed.wait_timeout(state, TICK);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        begin.elapsed()
    }

    /// How long ago it was time for what was recorded `at_ns` after the first connection.
    pub(super) fn late(&self, at_ns: u64) -> Duration {
        self.begin.elapsed().saturating_sub(Duration::from_nanos(at_ns))
    }

    /// The last entry of `channel` has gone out; `next` is the one after it. Without one nobody
    /// waits for this connection any more.
    pub(super) fn passed(&self, channel: usize, next: Option<usize>) {
        let mut state = lock(&self.state);
        state[channel] = Place { next: next.unwrap_or(usize::MAX), held_since: None };
        drop(state);
        self.changed.notify_all();
    }

    /// The destination takes nothing more of `channel` at present.
    pub(super) fn held(&self, channel: usize) {
        lock(&self.state)[channel].held_since.get_or_insert_with(Instant::now);
    }
}

/// How long a connection must have been held back to be left out of the order.
const HELD: Duration = Duration::from_millis(20);
/// How often a wait looks around.
const TICK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn an_entry_waits_for_earlier_ones_of_other_connections_unless_they_are_held_back() {
        let throttle = Throttle::new([Some(0), Some(1)].into_iter());
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                throttle.passed(0, Some(2));
            });
            throttle.wait(1, 1, 0, || false);
        });
        assert!(began.elapsed() >= Duration::from_millis(50));
        throttle.passed(1, Some(3));
        throttle.held(0);
        let began = Instant::now();
        throttle.wait(1, 3, 0, || false);
        assert!(began.elapsed() >= HELD);
    }

    #[test]
    fn an_entry_does_not_go_out_before_its_time() {
        let throttle = Throttle::new([Some(0)].into_iter());
        let began = Instant::now();
        throttle.wait(0, 0, 30_000_000, || false);
        assert!(began.elapsed() >= Duration::from_millis(29));
    }
}
