//! Sending no faster than told.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// A pace in bytes per second over all streams.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: f64,
    start: Instant,
    bytes: u64,
}

impl Pace {
    /// From now on.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, start: Instant::now(), bytes: 0 }
    }

    /// Waits until what was sent before is due, then counts `bytes` as sent. Returns early when
    /// `over` says so.
    pub(super) fn wait(&mut self, bytes: u64, over: impl Fn() -> bool) {
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second);
        self.bytes += bytes;
        while let Some(left) = due.checked_sub(self.start.elapsed()) {
            if left.is_zero() || over() {
                return;
            }
            sleep(left.min(NAP));
        }
    }
}

/// How soon the end of a run is noticed.
const NAP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_holds_over_many_small_steps() {
        let mut pace = Pace::new(1_000_000);
        let start = Instant::now();
        for _ in 0..101 {
            pace.wait(1000, || false);
        }
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    }

    #[test]
    fn a_run_that_is_over_does_not_wait() {
        let mut pace = Pace::new(1);
        let start = Instant::now();
        pace.wait(1 << 30, || true);
        pace.wait(1, || true);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
