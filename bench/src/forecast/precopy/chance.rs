//! What nobody knows of a migration: where the source's steps fall, and which packets it counts.

use super::step::RATE_PERIOD_S;
use crate::forecast::PACKET_PAGES;
use crate::hash::hash;

/// One of the ways in which chance may have it.
#[derive(Clone, Copy)]
pub(super) struct Chance(Option<u64>);

impl Chance {
    /// Everything is as on average.
    pub(super) const AVERAGE: Self = Self(None);

    /// Many of them, spread evenly; always the same ones.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..OUTCOMES).map(|outcome| Self(Some(outcome)))
    }

    /// By what share of a step the source looks late whether enough is sent.
    pub(super) fn late(self) -> f64 {
        self.0.map_or(0.5, |outcome| (outcome as f64 + 0.5) / OUTCOMES as f64)
    }

    /// The bandwidth that the source finds in pass `pass`, as a share of the true one. It counts whole
    /// packets in each stretch of time: of every channel one too many or too few, or something
    /// between, by where the stretch begins and ends in its packets.
    pub(super) fn counted(self, pass: usize, channels: u8, page_s: f64) -> f64 {
        let Some(outcome) = self.0 else { return 1.0 };
        let packets = RATE_PERIOD_S / page_s / PACKET_PAGES as f64;
        let deviation = (f64::from(channels) / 6.0).sqrt() / packets;
        // A sum of twelve numbers from 0 to 1 is as good as normal, with a deviation of 1.
        let uniform = |index| hash(&[outcome, pass as u64, index]) as f64 / u64::MAX as f64;
        let normal = (0..12).map(uniform).sum::<f64>() - 6.0;
        (1.0 + normal * deviation).max(0.0)
    }
}

const OUTCOMES: u64 = 256;
