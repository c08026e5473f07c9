//! Sync points: the two-way barrier between the channels and main.
//!
//! At sync point k the source writes one SYNC packet on every channel and then
//! goes on with main, waiting for nobody. Main must not pass its k-th mark
//! before every channel has applied all that stands before its k-th SYNC, and a
//! channel must not apply anything behind its k-th SYNC before main has passed
//! the k-th mark: the same page may come in round k on one channel and in round
//! k + 1 on another, or on main (`migration/multifd.c`,
//! `multifd_recv_sync_main`).

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// How far main and each channel have come. Counts of sync points, from 0.
#[derive(Debug)]
pub struct SyncPoints {
    passed: AtomicU64,
    awaited: AtomicU64,
    /// SYNCs of all channels together.
    arrived: AtomicU64,
    reached: Box<[Reached]>,
}

/// On a cache line of its own: each has another writer.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Reached(AtomicU64);

impl SyncPoints {
    /// A barrier for `channels` channels, none of which has come anywhere.
    pub fn new(channels: usize) -> Self {
        Self {
            passed: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            reached: (0..channels).map(|_| Reached::default()).collect(),
        }
    }

    /// How many channels take part.
    pub fn channels(&self) -> usize {
        self.reached.len()
    }

    /// Channel `channel` has applied everything before its SYNC number
    /// `sync_point` (from 1). Its pages are visible to whoever sees this
    /// number (release).
    ///
    /// True for the last channel that comes there: only then main needs to look. It sees all
    /// of them then.
    pub fn reach(&self, channel: usize, sync_point: u64) -> bool {
        let before = self.reached[channel].0.swap(sync_point, Release);
        assert!(before + 1 == sync_point, "channel {channel}: SYNC {sync_point} after {before}");
        // Nobody is beyond a sync point that somebody has not come to.
        self.arrived.fetch_add(1, AcqRel) + 1 == sync_point * self.channels() as u64
    }

    /// How many SYNCs `channel` has reached.
    pub fn reached(&self, channel: usize) -> u64 {
        self.reached[channel].0.load(Acquire)
    }

    /// The first channel that has not reached `sync_point`, if any.
    pub fn missing(&self, sync_point: u64) -> Option<usize> {
        (0..self.channels()).find(|&channel| self.reached(channel) < sync_point)
    }

    /// Main waits for the channels to come to `sync_point` (from 1).
    pub fn await_channels(&self, sync_point: u64) {
        self.awaited.store(sync_point, Relaxed);
    }

    /// True if main waits for a channel that has reached `reached` SYNCs.
    pub fn is_awaited(&self, reached: u64) -> bool {
        self.awaited.load(Relaxed) > reached
    }

    /// Main has passed `sync_point` (from 1): the channels may go on.
    pub fn pass(&self, sync_point: u64) {
        assert!(self.missing(sync_point).is_none(), "main passes {sync_point} alone");
        let before = self.passed.swap(sync_point, Release);
        assert!(before + 1 == sync_point, "main: sync point {sync_point} after {before}");
    }

    /// How many sync points main has passed.
    pub fn passed(&self) -> u64 {
        self.passed.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_waits_for_the_slowest_channel_and_channels_for_main() {
        let sync = SyncPoints::new(3);
        sync.reach(0, 1);
        sync.reach(2, 1);
        assert_eq!(sync.missing(1), Some(1));
        assert!(!sync.is_awaited(0));
        sync.await_channels(1);
        assert_eq!([0, 1].map(|reached| sync.is_awaited(reached)), [true, false]);
        sync.reach(1, 1);
        assert_eq!(sync.missing(1), None);
        assert_eq!(sync.passed(), 0);
        sync.pass(1);
        assert_eq!(sync.passed(), 1);
        assert_eq!(sync.missing(2), Some(0));
    }

    #[test]
    fn the_last_channel_at_each_sync_point_knows_that_it_is() {
        let sync = SyncPoints::new(3);
        for (sync_point, order) in [(1, [2, 0, 1]), (2, [1, 2, 0]), (3, [0, 1, 2])] {
            let last = order.map(|channel| sync.reach(channel, sync_point));
            assert_eq!(last, [false, false, true], "sync point {sync_point}");
            sync.pass(sync_point);
        }
    }

    #[test]
    #[should_panic(expected = "main passes 1 alone")]
    fn passing_before_the_channels_is_our_own_bug() {
        SyncPoints::new(1).pass(1);
    }

    #[test]
    fn without_channels_every_sync_point_is_open() {
        assert_eq!(SyncPoints::new(0).missing(7), None);
    }
}
