//! What nobody knows of a migration: where the source's steps fall, which packets it counts, and how
//! many are under way.

use super::Limit;
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
    /// between, by where the stretch begins and ends in its packets; under `max-bandwidth` as many as
    /// went beyond it.
    pub(super) fn counted(self, pass: usize, channels: u8, page_s: f64, limit: Limit) -> f64 {
        let Some(outcome) = self.0 else { return 1.0 };
        let packets = RATE_PERIOD_S / page_s / PACKET_PAGES as f64;
        let channels = f64::from(channels);
        let varies = match limit {
            Limit::MaxBandwidth => channels * BEYOND_VARIES,
            _ => (channels / 6.0).sqrt(),
        };
        (1.0 + normal(outcome, pass, COUNTED) * varies / packets).max(0.0)
    }

    /// Packets that go beyond `max-bandwidth` in a stretch of 100 ms, on average over `stretches`
    /// of them: the one that reaches it, by so much as `reaching`, and those under way then. These
    /// are nearly as many as there are channels where these are few, and fewer for each the more
    /// channels the source's one thread has to find pages for.
    pub(super) fn beyond_the_limit(
        self,
        pass: usize,
        channels: u8,
        stretches: f64,
        reaching: f64,
    ) -> f64 {
        let channels = f64::from(channels);
        let under_way = channels * UNDER_WAY_MAX / (channels + UNDER_WAY_MAX);
        let Some(outcome) = self.0 else { return reaching + under_way };
        let host = 1.0 + HOSTS_DIFFER * evenly(outcome, 97);
        let varies = channels * BEYOND_VARIES / stretches.max(1.0).sqrt();
        (reaching + under_way * host + normal(outcome, pass, BEYOND) * varies).max(0.0)
    }

    /// What share of the most that a channel's socket holds waits in it when the guest is stopped.
    pub(super) fn in_flight(self) -> f64 {
        let Some(outcome) = self.0 else { return 1.0 };
        1.0 + IN_FLIGHT_VARIES * evenly(outcome, 53)
    }
}

/// From -1 to 1, each part of that as often as the others, in an order that an odd `stride` makes.
fn evenly(outcome: u64, stride: u64) -> f64 {
    2.0 * ((outcome * stride % OUTCOMES) as f64 + 0.5) / OUTCOMES as f64 - 1.0
}

/// Around 0 with a deviation of 1: a sum of twelve numbers from 0 to 1 is as good as normal.
fn normal(outcome: u64, pass: usize, what: u64) -> f64 {
    let uniform = |index| hash(&[outcome, pass as u64, what + index]) as f64 / u64::MAX as f64;
    (0..12).map(uniform).sum::<f64>() - 6.0
}

const OUTCOMES: u64 = 256;
/// Which of the numbers of an outcome: twelve of each.
const COUNTED: u64 = 0;
const BEYOND: u64 = 16;
/// With however many channels. Of QEMU 10.0 on two CPUs 1.8 packets are under way with 2 channels, 2.5
/// with 3, 3.0 with 4, 5.7 with 8, 8.3 with 16 and 11.6 with 32 (docs/scaling.md, "What goes beyond
/// max-bandwidth").
const UNDER_WAY_MAX: f64 = 18.0;
/// By what share guests, networks and hosts differ in that.
const HOSTS_DIFFER: f64 = 0.12;
/// How much one stretch differs from the next, in packets for each channel.
const BEYOND_VARIES: f64 = 0.23;
/// Sockets were seen to hold from half to all of the most.
const IN_FLIGHT_VARIES: f64 = 0.33;
