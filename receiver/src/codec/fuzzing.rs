//! Bodies for fuzzers: payloads as a hostile source would send them.

use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};

use super::{CodecError, Decoder};
use crate::place::{Filled, Places, Run};
use crate::staging::Staging;
use crate::wire::fuzzing::random_of;
use crate::wire::{Compression, PageBytes};

/// Decodes the payloads of one channel, whole and in pieces.
pub struct Target {
    ram: RamBlocks,
}

impl Target {
    /// Memory to decode into, used again and again.
    ///
    /// # Panics
    /// If the host has no memory.
    pub fn new() -> Self {
        let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).expect("memory");
        let name = BlockName::parse(b"mem").expect("a name");
        let request = BlockRequest { name, bytes: BLOCK_PAGES * PAGE_BYTES };
        let ram = pool.carve(&[request], PageBytes::DEFAULT.get(), &|_, _| {}).expect("memory");
        ram[0].lend(0..BLOCK_PAGES);
        Self { ram }
    }

    /// Decodes packets, each of so many pages (1 to [`PAGES_MAX`]) and a payload;
    /// true if all of them were right.
    ///
    /// # Panics
    /// If anything is written beside a packet's pages, or if the pieces change what
    /// comes of it.
    pub fn decode(&self, compression: Compression, packets: &[(usize, &[u8])]) -> bool {
        let (whole, content) = self.run(compression, packets, |_| usize::MAX);
        let mut random = random_of(packets.last().map_or(&[], |(_, payload)| payload));
        let most = [1, 7, 100, 5000][random.usize(..4)];
        let (pieces, content_of_pieces) =
            self.run(compression, packets, |left| 1 + random.usize(..left.min(most)));
        // Not which error: a byte too many and damage behind it may come in one step or in two.
        assert_eq!(whole.is_ok(), pieces.is_ok(), "whole: {whole:?}, in pieces: {pieces:?}");
        if whole.is_ok() {
            assert!(content == content_of_pieces, "the pieces changed the pages");
        }
        whole.is_ok()
    }

    fn run(
        &self,
        compression: Compression,
        packets: &[(usize, &[u8])],
        mut piece: impl FnMut(usize) -> usize,
    ) -> (Result<(), CodecError>, Vec<u8>) {
        let block = &self.ram[0];
        block.write(0, &BESIDE.repeat(BLOCK_PAGES as usize));
        let staging = Staging::new(64 << 20);
        let mut decoder = Decoder::new(compression, PageBytes::DEFAULT, &staging).expect("memory");
        let mut outcome = Ok(());
        for (number, (pages, payload)) in packets.iter().enumerate() {
            let runs = runs(number, *pages);
            decoder.begin(*pages, payload.len() as u64);
            let mut filled = Filled::default();
            let mut places = Places::new(block, &runs, &mut filled);
            let mut rest = *payload;
            while !rest.is_empty() && outcome.is_ok() {
                let (now, later) = rest.split_at(piece(rest.len()).min(rest.len()));
                outcome = decoder.take(now, &mut places);
                rest = later;
            }
            outcome = outcome.and_then(|()| decoder.end(&mut places));
            if outcome.is_err() {
                break;
            }
            assert_eq!(places.missing(), 0, "pages are missing");
        }
        drop(decoder);
        assert_eq!(staging.lent(), 0, "staging memory is not given back");
        let mut content = vec![0; (BLOCK_PAGES * PAGE_BYTES) as usize];
        block.read(0, &mut content);
        // Every other page is nobody's.
        for page in content.chunks(PAGE_BYTES as usize).step_by(GAP as usize) {
            assert!(page == BESIDE, "written beside the packet's pages");
        }
        (outcome, content)
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::new()
    }
}

/// The places of a packet's pages, some of them adjacent, none of them a multiple
/// of [`GAP`].
fn runs(number: usize, pages: usize) -> Vec<Run> {
    let groups = BLOCK_PAGES / GAP;
    let mut left = pages as u64;
    let mut runs = Vec::new();
    for index in 0.. {
        let group = (number as u64 + index * 5) % groups;
        let pages = left.min(1 + (number as u64 + index) % 2);
        runs.push(Run { offset: (group * GAP + 1) * PAGE_BYTES, bytes: pages * PAGE_BYTES });
        left -= pages;
        if left == 0 {
            break;
        }
    }
    runs
}

/// Pages that a packet here may have.
pub const PAGES_MAX: usize = 12;
const PAGE_BYTES: u64 = 4096;
/// Pages of the block; every [`GAP`]th stays as it is.
const BLOCK_PAGES: u64 = 48;
const GAP: u64 = 3;
/// What lies beside the packet's pages, and in them before they come.
const BESIDE: [u8; PAGE_BYTES as usize] = [0xa5; PAGE_BYTES as usize];

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::codec::tests::encode::Encoder;

    /// Pages of all sorts: noise, repetition, zero.
    fn pages(random: &mut Rng, count: usize) -> Vec<u8> {
        let mut pages = Vec::new();
        for _ in 0..count {
            match random.usize(..4) {
                0 => pages.extend((0..512).flat_map(|_| random.u64(..).to_le_bytes())),
                1 => pages.resize(pages.len() + 4096, 0),
                2 => {
                    let word = random.u64(..).to_le_bytes();
                    pages.extend((0..512).flat_map(|_| word));
                }
                _ => pages.extend((0..4096).map(|_| b'a' + random.u8(..5))),
            }
        }
        pages
    }

    fn legal(random: &mut Rng, compression: Compression) -> Vec<(usize, Vec<u8>)> {
        let mut encoder = Encoder::new(compression);
        let packets = random.usize(1..=3);
        let packet = |_| {
            let count = random.usize(1..=PAGES_MAX);
            (count, encoder.packet(&pages(random, count)))
        };
        (0..packets).map(packet).collect()
    }

    fn spoil(random: &mut Rng, packets: &mut [(usize, Vec<u8>)]) {
        let at = random.usize(..packets.len());
        let (pages, payload) = &mut packets[at];
        match random.usize(..8) {
            0 => {
                let bit = random.usize(..payload.len() * 8);
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            1 => payload.truncate(1 + random.usize(..payload.len())),
            2 => payload.extend((0..random.usize(1..=40)).map(|byte| byte as u8)),
            3 => random.fill(payload),
            4 => {
                let from = random.usize(..payload.len());
                let to = from + random.usize(..payload.len() - from);
                payload.drain(from..to);
                payload.push(0);
            }
            5 => *pages = random.usize(1..=PAGES_MAX),
            6 => packets.swap(0, at),
            _ => {
                for _ in 0..random.usize(1..=8) {
                    let byte = random.usize(..payload.len().min(80));
                    payload[byte] = random.u8(..);
                }
            }
        }
    }

    #[test]
    fn whatever_comes_nothing_is_written_beside_the_pages_and_pieces_do_not_matter() {
        let mut random = landfall_seed::random();
        let rounds: usize =
            std::env::var("LANDFALL_FUZZ").map_or(ROUNDS, |text| text.parse().expect("a number"));
        let target = Target::new();
        for compression in Compression::METHODS {
            let (mut right, mut wrong) = (0, 0);
            for _ in 0..rounds {
                let mut packets = legal(&mut random, compression);
                if random.usize(..8) > 0 {
                    for _ in 0..random.usize(1..=2) {
                        spoil(&mut random, &mut packets);
                    }
                }
                let packets: Vec<_> = packets.iter().map(|(n, bytes)| (*n, &bytes[..])).collect();
                match target.decode(compression, &packets) {
                    true => right += 1,
                    false => wrong += 1,
                }
            }
            println!("{}: {right} right, {wrong} refused", compression.as_str());
            assert!(right > 0 && wrong > 0, "{}", compression.as_str());
        }
    }

    const ROUNDS: usize = 300;
}
