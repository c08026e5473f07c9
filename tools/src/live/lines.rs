//! When the next line of figures is due.

use std::time::Duration;

/// Multiples of an interval.
pub(super) struct Lines {
    interval_ns: u64,
    next_ns: u64,
}

impl Lines {
    /// The first is due after one interval.
    pub(super) fn new(interval: Duration) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { interval_ns, next_ns: interval_ns }
    }

    /// Whether one is due. Of all that came due since it was asked last there is one: a wait is not
    /// made up for.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns >= self.next_ns;
        if is_due {
            self.next_ns = (now_ns / self.interval_ns + 1).saturating_mul(self.interval_ns);
        }
        is_due
    }

    /// How long until the next one is due.
    pub(super) fn until_due(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.next_ns.saturating_sub(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_comes_in_each_interval_however_long_nobody_asked() {
        let mut lines = Lines::new(Duration::from_nanos(10));
        let asked = [0, 9, 10, 11, 19, 21, 29, 30, 100, 101, 109, 110];
        let due: Vec<u64> = asked.into_iter().filter(|&now| lines.is_due(now)).collect();
        assert_eq!(due, [10, 21, 30, 100, 110]);
    }

    #[test]
    fn who_waits_until_a_line_is_due_keeps_to_the_interval_however_late_the_last_one_was() {
        let mut lines = Lines::new(Duration::from_nanos(10));
        let mut due = Vec::new();
        let mut now = 3;
        while due.len() < 3 {
            now += u64::try_from(lines.until_due(now).as_nanos()).unwrap();
            assert!(lines.is_due(now));
            due.push(now);
            now += 4;
        }
        assert_eq!(due, [10, 20, 30]);
    }

    #[test]
    fn an_interval_beyond_all_time_has_no_line() {
        let mut lines = Lines::new(Duration::MAX);
        assert!(!lines.is_due(u64::MAX - 1));
    }
}
