//! How long a channel waits for more than it needs.
//!
//! A source that goes on sends more packets like the last. To be woken once for several of
//! them the low-water mark is set for all; but what comes may be a SYNC packet alone, which
//! nobody would be woken for. So such a wait ends after [`PATIENCE_NS`], or when main waits for
//! the channel, with the mark at what surely comes.

use std::collections::VecDeque;

use crate::low_water::PATIENCE_NS;

/// The slots that wait for a whole packet, the longest first.
pub(super) struct Patience {
    waits: VecDeque<Wait>,
    /// One for each wait that has begun: an old entry of a slot is not its present one.
    begun: u64,
}

/// One wait.
#[derive(Clone, Copy)]
struct Wait {
    slot: usize,
    number: u64,
    until_ns: u64,
}

impl Patience {
    /// For `slots` slots; nothing is allocated later.
    pub(super) fn new(slots: usize) -> Self {
        Self { waits: VecDeque::with_capacity(ENTRIES_PER_SLOT * slots), begun: 0 }
    }

    /// A wait of `slot` begins, which has no other; its number. `is_on` as in
    /// [`Patience::next_end_ns`].
    pub(super) fn begin(
        &mut self,
        slot: usize,
        now_ns: u64,
        is_on: impl Fn(usize, u64) -> bool,
    ) -> u64 {
        if self.waits.len() == self.waits.capacity() {
            self.waits.retain(|wait| is_on(wait.slot, wait.number));
        }
        self.begun += 1;
        let wait = Wait { slot, number: self.begun, until_ns: now_ns + PATIENCE_NS };
        self.waits.push_back(wait);
        self.begun
    }

    /// When the next wait ends that is still on; `None` without one. `is_on` tells by slot
    /// and number.
    pub(super) fn next_end_ns(&mut self, is_on: impl Fn(usize, u64) -> bool) -> Option<u64> {
        while let Some(wait) = self.waits.front() {
            if is_on(wait.slot, wait.number) {
                return Some(wait.until_ns);
            }
            self.waits.pop_front();
        }
        None
    }

    /// A slot whose wait has ended by `now_ns`, with the wait's number; each once.
    pub(super) fn ended(&mut self, now_ns: u64) -> Option<(usize, u64)> {
        let wait = *self.waits.front().filter(|wait| wait.until_ns <= now_ns)?;
        self.waits.pop_front();
        Some((wait.slot, wait.number))
    }
}

/// A slot has one wait that is on, and others before it that ended early; they are swept out
/// where there is no room.
const ENTRIES_PER_SLOT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waits_that_are_on_have_an_end() {
        let mut patience = Patience::new(2);
        let first = patience.begin(0, 1000, |_, _| true);
        let second = patience.begin(1, 1100, |_, _| true);
        assert_eq!(patience.next_end_ns(|_, _| true), Some(1000 + PATIENCE_NS));
        let is_second = |slot, number| (slot, number) == (1, second);
        assert_eq!(patience.next_end_ns(is_second), Some(1100 + PATIENCE_NS));
        assert_ne!(first, second);
        assert_eq!(patience.ended(1099 + PATIENCE_NS), None);
        assert_eq!(patience.ended(1100 + PATIENCE_NS), Some((1, second)));
        assert_eq!(patience.next_end_ns(|_, _| true), None);
    }

    #[test]
    fn waits_that_are_over_make_room_and_nothing_is_allocated() {
        let mut patience = Patience::new(2);
        let room = patience.waits.capacity();
        let long = patience.begin(1, 0, |_, _| true);
        let mut last = 0;
        for now in 1..3 * room as u64 {
            let before = last;
            last = patience.begin(0, now, |_, number| number == long || number == before);
        }
        assert_eq!(patience.waits.capacity(), room);
        assert_eq!(patience.next_end_ns(|_, _| true), Some(PATIENCE_NS), "the longest is kept");
        assert_eq!(patience.ended(u64::MAX), Some((1, long)));
    }
}
