//! What is received, in which order: from a seed.

use fastrand::Rng;
use landfall_receiver::channel::HEADER_BYTES_MAX;
use landfall_receiver::place::Run;

use super::Kind;

/// Headers and pages in turn, as on a channel.
pub(crate) struct Script(pub(crate) Vec<Packet>);

/// A header, and the pages behind it.
pub(crate) struct Packet {
    pub(crate) header: usize,
    pub(crate) block: usize,
    /// Empty: no pages.
    pub(crate) runs: Vec<Run>,
    /// The next header is armed with the pages.
    pub(crate) link: bool,
}

impl Packet {
    pub(crate) fn page_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes as usize).sum()
    }
}

impl Script {
    /// Packets of all sizes, most of them with pages.
    pub(crate) fn random(random: &mut Rng, kind: Kind) -> Self {
        let packet = |random: &mut Rng| {
            let runs_max = [0, 1, 4, RUNS_MAX][random.usize(..4)];
            let runs = (0..random.usize(..runs_max + 1)).map(|_| {
                let pages = random.u64(1..=3);
                let offset = random.usize(..BLOCK_PAGES - 3) as u64 * 4096;
                Run { offset, bytes: pages * 4096 }
            });
            let runs: Vec<Run> = runs.collect();
            Packet {
                header: random.usize(1..=HEADER_BYTES_MAX),
                block: random.usize(..BLOCKS),
                // Of what one packet may have.
                runs: if kind.away().is_some() {
                    runs.into_iter().take(42).collect()
                } else {
                    runs
                },
                link: random.usize(..4) > 0,
            }
        };
        let packets = 3 + random.usize(..25);
        Self((0..packets).map(|_| packet(random)).collect())
    }

    /// Few bytes, so that every cut can be tried: linked and unlinked packets,
    /// one of several runs, one without pages.
    pub(crate) fn small() -> Self {
        let run = |offset, bytes| Run { offset, bytes };
        let packet = |header, runs: Vec<Run>, link| Packet { header, block: 0, runs, link };
        Self(vec![
            packet(5, vec![run(0, 4), run(4096, 3), run(50, 2)], true),
            packet(4, vec![run(8192, 6)], false),
            packet(3, vec![], true),
            packet(2, vec![run(100, 5)], true),
            packet(3, vec![], false),
        ])
    }

    /// All bytes of it.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|packet| packet.header + packet.page_bytes()).sum()
    }
}

/// So many bytes.
pub(crate) fn bytes_of(random: &mut Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    random.fill(&mut bytes);
    bytes
}

pub(crate) const BLOCKS: usize = 3;
pub(crate) const BLOCK_PAGES: usize = 64;
/// Runs of a packet of 4 KiB pages.
pub(crate) const RUNS_MAX: usize = 128;
