//! Whole channels under TLS: packets in records of any size, received in any
//! pieces.

use std::mem;
use std::sync::Arc;

use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use rustls::version::{TLS12, TLS13};

use super::peer::{record, sealed_pair};
use crate::channel::{Channel, ChannelId, Tally, Terms};
use crate::error::{Family, RunError};
use crate::staging::STAGING_MAX_DEFAULT;
use crate::stats::{BlockCounters, ChannelCounters};
use crate::tls::feed::{BUFFER_BYTES, Fed, Feed, Step};
use crate::tls::record::{ContentType, PLAIN_BYTES_MAX, Protection};
use crate::wire::PageBytes;

/// A feed with a channel behind it, and the other side's keys.
struct Bed {
    feed: Feed,
    seals: Protection,
    buffer: Vec<u8>,
    ram: RamBlocks,
    channel: Channel,
    counters: ChannelCounters,
    blocks: Vec<BlockCounters>,
    passed: u64,
    packets: u64,
    from: usize,
}

/// How a feed took some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Took {
    More,
    Held,
    Closed,
}

impl Bed {
    fn new(tls13: bool, first: &[u8]) -> Self {
        let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).unwrap();
        let name = BlockName::parse(b"mem").unwrap();
        let request = BlockRequest { name, bytes: PAGES * PAGE };
        let ram = pool.carve(&[request], 4096, &|_, _| {}).unwrap();
        let (stream, seals) = sealed_pair(if tls13 { &TLS13 } else { &TLS12 });
        let mut buffer = vec![0; BUFFER_BYTES];
        let terms = Arc::new(Terms::new(true, STAGING_MAX_DEFAULT));
        Self {
            feed: Feed::new(stream, first, &mut buffer),
            seals,
            buffer,
            ram,
            channel: Channel::new(ChannelId(3), PageBytes::DEFAULT, terms),
            counters: ChannelCounters::default(),
            blocks: vec![BlockCounters::default()],
            passed: 0,
            packets: 0,
            from: 0,
        }
    }

    fn run(&mut self) -> Result<Took, RunError> {
        let tally = Tally { channel: &self.counters, blocks: &self.blocks };
        let packets = &mut self.packets;
        let mut opening = false;
        let fed =
            self.feed.run(&mut self.buffer, &mut self.channel, &self.ram, tally, &mut |step| {
                match step {
                    Step::Opening => opening = true,
                    Step::Opened => assert!(mem::take(&mut opening), "opened, and not begun"),
                    Step::Packet => *packets += u64::from(!opening),
                }
            })?;
        Ok(match fed {
            Fed::Receive { from, .. } => {
                assert!(BUFFER_BYTES - from > PLAIN_BYTES_MAX, "room for more than a record");
                self.from = from;
                Took::More
            }
            Fed::Held => Took::Held,
            Fed::Closed => Took::Closed,
        })
    }

    /// Receives `bytes` in pieces of `piece` to be had from it, and lets the channel
    /// go on at every sync point.
    fn receive(
        &mut self,
        mut bytes: &[u8],
        mut piece: impl FnMut() -> usize,
    ) -> Result<Took, RunError> {
        let mut took = self.run()?;
        loop {
            match took {
                Took::Closed => return Ok(took),
                Took::Held => {
                    self.passed += 1;
                    assert!(!self.channel.release(self.passed - 1), "held until main has passed");
                    assert!(self.channel.release(self.passed));
                }
                Took::More if bytes.is_empty() => return Ok(took),
                Took::More => {
                    let now = piece().clamp(1, bytes.len()).min(BUFFER_BYTES - self.from);
                    self.buffer[self.from..][..now].copy_from_slice(&bytes[..now]);
                    self.feed.received(now);
                    bytes = &bytes[now..];
                }
            }
            took = self.run()?;
        }
    }

    fn page(&self, page: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        self.ram[0].read(page * PAGE, &mut bytes);
        bytes
    }
}

/// A packet with its pages, each filled with `fill`; none are a SYNC packet.
fn packet(pages: &[u64], fill: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = pages.len() as u32;
    for word in [0x1122_3344, 1, u32::from(count == 0), 128, count, count * PAGE as u32] {
        bytes.extend(u32::to_be_bytes(word));
    }
    bytes.resize(64, 0);
    bytes.extend(b"mem");
    bytes.resize(320, 0);
    pages.iter().for_each(|page| bytes.extend((page * PAGE).to_be_bytes()));
    bytes.resize(1344, 0);
    bytes.resize(1344 + pages.len() * PAGE as usize, fill);
    bytes
}

/// Packets from `random`, and what they leave in RAM: the last fill of each page.
fn packets(random: &mut fastrand::Rng) -> (Vec<u8>, Vec<u8>, u64) {
    let (mut bytes, mut fills, mut syncs) = (Vec::new(), vec![0; PAGES as usize], 0);
    for number in 0..12u8 {
        let at = random.usize(..PAGES as usize) as u64;
        let count = random.usize(..(PAGES - at).min(129) as usize) as u64;
        let pages: Vec<u64> = (at..at + count).collect();
        syncs += u64::from(count == 0);
        let fill = number + 1;
        pages.iter().for_each(|&page| fills[page as usize] = fill);
        bytes.extend(packet(&pages, fill));
    }
    (bytes, fills, syncs)
}

#[test]
fn any_records_in_any_pieces_leave_the_same_ram() {
    let random = &mut landfall_seed::random();
    for round in 0..40 {
        let (stream, fills, syncs) = packets(random);
        // Some of it has come through the door.
        let first = random.usize(..stream.len().min(9000));
        let tls13 = round % 2 == 0;
        let mut bed = Bed::new(tls13, &stream[..first]);
        let mut sealed = Vec::new();
        let mut rest = &stream[first..];
        while !rest.is_empty() {
            if tls13 && random.usize(..8) == 0 {
                sealed.extend(record(&mut bed.seals, ContentType::DATA, &[]));
            }
            let most = [64, 700, 4096, PLAIN_BYTES_MAX][random.usize(..4)];
            let now = (1 + random.usize(..most)).min(rest.len());
            sealed.extend(record(&mut bed.seals, ContentType::DATA, &rest[..now]));
            rest = &rest[now..];
        }
        let largest = [300, 5000, 1 << 20][random.usize(..3)];
        let took = bed.receive(&sealed, || random.usize(..largest)).unwrap();
        assert_eq!(took, Took::More);
        for (page, &fill) in fills.iter().enumerate() {
            let found = bed.page(page as u64);
            assert!(found.iter().all(|&byte| byte == fill), "round {round}, page {page}");
        }
        assert_eq!((bed.channel.syncs(), bed.packets), (syncs, 12 - syncs));
        let wire = (sealed.len() + first) as u64;
        assert_eq!(bed.counters.wire_bytes.get(), wire, "every byte is counted once");
        bed.feed.end(&bed.channel, wire).unwrap();
    }
}

#[test]
fn the_end_may_come_between_packets_only() {
    for (goodbye, tls13) in [(false, true), (true, true), (false, false), (true, false)] {
        let whole = packet(&[1, 2], 9);
        for cut in [0, 1, 1343, 1344, 1345, whole.len() - 1, whole.len()] {
            let mut bed = Bed::new(tls13, &[]);
            let mut sealed = record(&mut bed.seals, ContentType::DATA, &whole[..cut]);
            if goodbye {
                sealed.extend(record(&mut bed.seals, ContentType::ALERT, &[1, 0]));
            }
            let took = bed.receive(&sealed, || 1 << 20).unwrap();
            assert_eq!(took, if goodbye { Took::Closed } else { Took::More });
            let end = bed.feed.end(&bed.channel, sealed.len() as u64);
            let legal = cut == 0 || cut == whole.len();
            assert_eq!(end.is_ok(), legal, "cut at {cut}: {end:?}");
        }
    }
}

#[test]
fn an_end_inside_a_record_is_an_error_wherever_it_is() {
    let mut bed = Bed::new(true, &[]);
    let mut sealed = record(&mut bed.seals, ContentType::DATA, &packet(&[1], 9));
    // Behind a whole packet: the record is what is cut.
    let next = record(&mut bed.seals, ContentType::DATA, &packet(&[2], 9));
    sealed.extend(&next[..next.len() - 1]);
    bed.receive(&sealed, || 1 << 20).unwrap();
    let error = bed.feed.end(&bed.channel, 0).unwrap_err();
    assert_eq!(error.family, Family::Misbehaved);
    assert!(error.text.ends_with("closed by the source inside a TLS record"), "{error}");
}

#[test]
fn what_was_changed_on_its_way_never_gets_to_ram() {
    let random = &mut landfall_seed::random();
    for round in 0..200 {
        let mut bed = Bed::new(round % 2 == 0, &[]);
        let stream = packet(&[0, 1, 2], 7);
        let mut sealed = Vec::new();
        for piece in stream.chunks(PAGE as usize) {
            sealed.extend(record(&mut bed.seals, ContentType::DATA, piece));
        }
        let at = random.usize(..sealed.len());
        sealed[at] ^= 1 << random.usize(..8);
        let largest = 1 + random.usize(..1 << 15);
        let result = bed.receive(&sealed, || random.usize(..largest));
        // A longer record is waited for; the version is not authenticated in TLS 1.2.
        let complete = (0..3).all(|page| bed.page(page).iter().all(|&byte| byte == 7));
        let waits = bed.feed.is_inside();
        assert!(result.is_err() || waits || complete, "round {round}, byte {at}");
        for page in 0..3 {
            let found = bed.page(page);
            let untouched = found.iter().all(|&byte| byte == 7 || byte == 0);
            assert!(untouched, "round {round}: page {page} has other bytes");
        }
    }
}

const PAGE: u64 = 4096;
const PAGES: u64 = 256;
