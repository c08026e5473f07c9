//! How late a paced replay is, and by whose doing.

use std::time::Duration;

/// How much later than recorded a paced replay was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// The most that anything went out after its time.
    pub max: Duration,
    /// The most of such a delay that the replay made itself: neither did the destination keep it
    /// waiting, nor what had to go out before on another connection.
    pub own_max: Duration,
    /// How long after its time the last byte went out.
    pub end: Duration,
}

/// The delay of one connection while it goes on.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Of the delay, what others made.
    waited: Duration,
    max: Duration,
    own_max: Duration,
}

impl Lag {
    /// Others kept the connection waiting when it would have sent.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The next piece goes out now, `late` after its time.
    pub(super) fn starts(&mut self, late: Duration) {
        // A wait that has been made up for explains no delay any more.
        self.waited = self.waited.min(late);
        self.max = self.max.max(late);
        self.own_max = self.own_max.max(late - self.waited);
    }

    /// Adds it to that of other connections.
    pub(super) fn add_to(&self, all: &mut Late) {
        all.max = all.max.max(self.max);
        all.own_max = all.own_max.max(self.own_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(steps: &[(u64, u64)]) -> (u128, u128) {
        let mut lag = Lag::default();
        for &(waited, late) in steps {
            lag.waited(Duration::from_millis(waited));
            lag.starts(Duration::from_millis(late));
        }
        let mut all = Late::default();
        lag.add_to(&mut all);
        (all.max.as_millis(), all.own_max.as_millis())
    }

    #[test]
    fn a_delay_is_the_replays_own_as_far_as_nobody_kept_it_waiting() {
        assert_eq!(late(&[(0, 0), (500, 500), (0, 480)]), (500, 0));
        assert_eq!(late(&[(0, 0), (0, 70), (500, 560)]), (560, 70));
    }

    #[test]
    fn a_wait_that_was_made_up_for_explains_no_later_delay() {
        assert_eq!(late(&[(500, 10), (0, 60)]), (60, 50));
        assert_eq!(late(&[(500, 500), (0, 0), (0, 90)]), (500, 90));
    }
}
