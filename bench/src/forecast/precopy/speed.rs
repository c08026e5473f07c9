//! How fast pages go, and who says so.

use std::f64::consts::PI;

use super::Limit;
use super::chance::Chance;
use super::step::RATE_PERIOD_S;
use crate::forecast::{Costs, GIB, HEADER_BYTES, PACKET_PAGES, PAGE_BYTES, Question, Work};

/// Of pages on their way: the share of zero pages, and of those that are sent again.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    pub(super) zero_share: f64,
    pub(super) again_share: f64,
}

impl Mix {
    /// Bytes of a page on average, its part of the packet's header included.
    pub(super) fn bytes(self) -> f64 {
        let header = HEADER_BYTES as f64 / PACKET_PAGES as f64;
        (1.0 - self.zero_share) * PAGE_BYTES as f64 + header
    }

    /// By what part of a packet the one that reaches a limit of `packets` goes beyond it, on average.
    /// Packets that are all alike reach it at the same place each time; where zero pages make some
    /// shorter than others that place is chance, and the more so the more of them there are.
    fn reaching(self, packets: f64) -> f64 {
        let normal = 1.0 - self.zero_share;
        let deviation = (self.zero_share / (normal * PACKET_PAGES as f64) * packets).sqrt();
        // What is left up to the next whole packet is a sawtooth, here as a Fourier series; a normal
        // deviation of its place takes from each wave so much.
        let wave = |k: f64| {
            let left = (-2.0 * (PI * k * deviation).powi(2)).exp();
            left * (2.0 * PI * k * packets).sin() / (PI * k)
        };
        0.5 + (1..=WAVES).map(|k| wave(f64::from(k))).sum::<f64>()
    }
}

const WAVES: u32 = 16;

/// How long a page takes.
pub(super) struct Speed<'a> {
    pub(super) question: &'a Question,
    pub(super) costs: &'a Costs,
    /// In place of everything that limits it.
    pub(super) bytes_per_second: Option<f64>,
}

impl Speed<'_> {
    /// While the guest runs and `pages` are to be sent: seconds for a page, and who says so.
    pub(super) fn live(&self, mix: Mix, pages: f64, pass: usize, chance: Chance) -> (f64, Limit) {
        let unlimited = self.last(mix);
        let limit = self.question.source.max_bandwidth as f64;
        // A packet counts once its channel has sent it.
        let stretches = pages * mix.bytes() / (limit * RATE_PERIOD_S);
        let channels = self.question.source.channels;
        let packet_bytes = mix.bytes() * PACKET_PAGES as f64;
        let reaching = mix.reaching(limit * RATE_PERIOD_S / packet_bytes);
        let beyond_packets = chance.beyond_the_limit(pass, channels, stretches, reaching);
        let limited = mix.bytes() / (limit + beyond_packets * packet_bytes / RATE_PERIOD_S);
        if self.bytes_per_second.is_none() && limit > 0.0 && limited > unlimited.0 {
            (limited, Limit::MaxBandwidth)
        } else {
            unlimited
        }
    }

    /// In the last pass.
    pub(super) fn last(&self, mix: Mix) -> (f64, Limit) {
        if let Some(speed) = self.bytes_per_second {
            return (mix.bytes() / speed, Limit::Link);
        }
        let normal = 1.0 - mix.zero_share;
        let pace = self.costs.pace;
        let source =
            (normal * pace.ns_per_normal_page + mix.zero_share * pace.ns_per_zero_page) / 1e9;
        let cpu_s = self.costs.receiver.cpu_s(&Work {
            normal_gib: normal * PAGE_BYTES as f64 / GIB,
            packets: 1.0 / PACKET_PAGES as f64,
            runs: Work::runs(1.0, mix.zero_share),
            sync_packets: 0.0,
            resent_pages: mix.again_share,
        });
        // A channel has one reader, so more of these than channels are of no use.
        let readers = self.question.readers.min(self.question.source.channels);
        let all = [
            (mix.bytes() / self.link_bytes_per_second(), Limit::Link),
            (source, Limit::Source),
            (cpu_s / f64::from(readers), Limit::Receiver),
        ];
        all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("three of them")
    }

    /// How long the link takes for what waits in sockets. They are full where the network is the
    /// limit, and nearly empty where something else is.
    pub(super) fn in_sockets_s(&self, limit: Limit, chance: Chance) -> f64 {
        if limit != Limit::Link {
            return 0.0;
        }
        let sockets = f64::from(self.question.source.channels);
        sockets * self.costs.in_flight_bytes * chance.in_flight() / self.link_bytes_per_second()
    }

    fn link_bytes_per_second(&self) -> f64 {
        self.question.network.payload_bytes_per_second()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_are_alike_reach_the_limit_at_one_place_and_others_anywhere() {
        let reaching = |zero_share, packets| Mix { zero_share, again_share: 0.0 }.reaching(packets);
        for (packets, left) in [(31.9, 0.1), (32.3, 0.7), (32.5, 0.5)] {
            assert!((reaching(0.0, packets) - left).abs() < 0.04, "{packets}");
        }
        for packets in [31.9, 32.3] {
            assert!((reaching(0.6, packets) - 0.5).abs() < 0.01, "{packets}");
            let between = reaching(0.1, packets) - 0.5;
            let alone = reaching(0.0, packets) - 0.5;
            assert!(between * alone > 0.0 && between.abs() < alone.abs(), "{packets}");
        }
        assert_eq!(reaching(1.0, 7.25), 0.5, "no page has data");
    }
}
