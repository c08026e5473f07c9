//! One multifd channel, fed from memory in pieces of any size: pages as they are, compressed pages,
//! device state, and what is wrong with them.

use std::sync::Arc;

use flate2::{Compress, Compression as Level, FlushCompress};
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use landfall_receiver::channel::{Channel, ChannelError, ChannelId, Tally, Terms, Want};
use landfall_receiver::error::{Family, RunError};
use landfall_receiver::staging::STAGING_MAX_DEFAULT;
use landfall_receiver::stats::{BlockCounters, ChannelCounters};
use landfall_receiver::wire::PageBytes;

const PAGE: usize = 4096;
const SYNC: u32 = 0x01;
const ZLIB: u32 = 0x02;
const ZSTD: u32 = 0x04;
const DEVICE_STATE: u32 = 0x40;

/// Memory, numbers and a channel.
struct Bed {
    ram: RamBlocks,
    terms: Arc<Terms>,
    channel: Channel,
    counters: ChannelCounters,
    blocks: Vec<BlockCounters>,
}

impl Bed {
    fn new() -> Self {
        let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).expect("memory");
        let name = BlockName::parse(b"mem").expect("a name");
        let request = BlockRequest { name, bytes: 256 * PAGE as u64 };
        let ram = pool.carve(&[request], 4096, &|_, _| {}).expect("memory");
        let terms = Arc::new(Terms::new(true, STAGING_MAX_DEFAULT));
        Self {
            ram,
            channel: Channel::new(ChannelId(1), PageBytes::DEFAULT, Arc::clone(&terms)),
            terms,
            counters: ChannelCounters::default(),
            blocks: vec![BlockCounters::default()],
        }
    }

    /// Brings the channel what it wants, at most `most` bytes at a time, and lets it pass every sync
    /// point; returns how many those were.
    fn feed(&mut self, mut bytes: &[u8], most: usize) -> Result<u64, ChannelError> {
        loop {
            let wanted = match self.channel.want() {
                Want::SyncPoint(sync_point) => {
                    assert!(self.channel.release(sync_point));
                    continue;
                }
                Want::Header { missing } => missing,
                Want::Pages { missing, .. } | Want::Payload { missing, .. } => missing as usize,
            };
            if bytes.is_empty() {
                return Ok(self.channel.syncs());
            }
            let (now, rest) = bytes.split_at(wanted.min(most).min(bytes.len()));
            bytes = rest;
            let tally = Tally { channel: &self.counters, blocks: &self.blocks };
            match self.channel.want() {
                Want::Header { .. } => self.channel.take_header(now, &self.ram, tally)?,
                Want::Pages { .. } => self.channel.take_page_bytes(now, &self.ram, tally),
                _ => self.channel.take_payload(now, &self.ram, tally)?,
            }
        }
    }

    fn page(&self, page: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        self.ram[0].read(page * PAGE as u64, &mut bytes);
        bytes
    }
}

/// A RAM packet of these pages with this payload.
fn packet(flags: u32, pages: &[u64], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0x1122_3344, 1, flags, 128, pages.len() as u32, payload.len() as u32] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.resize(64, 0);
    bytes.extend(b"mem");
    bytes.resize(320, 0);
    pages.iter().for_each(|page| bytes.extend((page * PAGE as u64).to_be_bytes()));
    bytes.resize(1344, 0xee);
    bytes.extend(payload);
    bytes
}

fn device_packet(flags: u32, idstr: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    [0x1122_3344, 1, flags].iter().for_each(|word: &u32| bytes.extend(word.to_be_bytes()));
    bytes.extend(idstr);
    bytes.resize(12 + 256, 0);
    bytes.extend(7u32.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Pages of the same byte each.
fn pages(fills: &[u8]) -> Vec<u8> {
    fills.iter().flat_map(|&fill| [fill; PAGE]).collect()
}

fn zlib(stream: &mut Compress, pages: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * pages.len() + 100);
    stream.compress_vec(pages, &mut out, FlushCompress::Sync).unwrap();
    out
}

fn text(error: ChannelError) -> RunError {
    error.into()
}

/// Everything that may follow each other on a channel.
fn everything() -> Vec<u8> {
    let mut stream = Compress::new(Level::fast(), true);
    let first = zlib(&mut stream, &pages(&[1, 2, 3]));
    let second = zlib(&mut stream, &pages(&[9]));
    let third = zlib(&mut stream, &pages(&[5]));
    [
        packet(ZLIB, &[10, 11, 40], &first),
        device_packet(DEVICE_STATE, b"0000:00:05.0/vfio", &[0xd1; 20]),
        device_packet(DEVICE_STATE, b"0000:00:05.0/vfio", &[0xd2; 3000]),
        packet(ZLIB | SYNC, &[11], &second),
        device_packet(DEVICE_STATE, b"0000:00:06.0/vfio", &[0xd3; 1]),
        packet(SYNC, &[], &[]),
        packet(ZLIB, &[200], &third),
    ]
    .concat()
}

#[test]
fn whatever_the_pieces_the_same_comes_of_them() {
    let bytes = everything();
    for most in [1, 2, 11, 12, 13, 275, 276, 277, 1000, 1343, 1344, usize::MAX] {
        let mut bed = Bed::new();
        assert_eq!(bed.feed(&bytes, most), Ok(2), "{most} at a time");
        for (page, fill) in [(10, 1), (11, 9), (40, 3), (200, 5), (12, 0)] {
            assert!(bed.page(page).iter().all(|&byte| byte == fill), "page {page}, {most}");
        }
        assert_eq!(bed.counters.wire_bytes.get(), bytes.len() as u64, "{most} at a time");
        assert_eq!((bed.counters.packets.get(), bed.counters.device_packets.get()), (7, 3));
        assert_eq!((bed.counters.normal.get(), bed.blocks[0].unique.get()), (5, 4));
        let devices = bed.terms.device_packets.by_device();
        let found: Vec<_> = devices.iter().map(|(_, _, of)| (of.packets, of.bytes)).collect();
        assert_eq!(found, [(2, 3020), (1, 1)], "{most} at a time");
        bed.terms.device_packets.with_kept(|kept| {
            assert_eq!(
                kept[0].bytes,
                device_packet(DEVICE_STATE, b"0000:00:05.0/vfio", &[0xd1; 20])
            );
            assert_eq!(kept.len(), 3);
        });
        assert_eq!(bed.channel.end(), Ok(()));
    }
}

#[test]
fn plain_pages_are_copied_to_their_places_in_any_pieces() {
    let bytes = packet(0, &[9, 10, 2, 255], &pages(&[1, 2, 3, 4]));
    for most in [1, 100, 4095, 4097, 9000, usize::MAX] {
        let mut bed = Bed::new();
        bed.feed(&bytes, most).unwrap();
        for (page, fill) in [(9, 1), (10, 2), (2, 3), (255, 4), (3, 0), (11, 0)] {
            assert!(bed.page(page).iter().all(|&byte| byte == fill), "page {page}, {most}");
        }
        assert_eq!(bed.blocks[0].unique.get(), 4);
    }
}

#[test]
fn every_end_inside_a_payload_says_how_much_is_missing() {
    let device = device_packet(DEVICE_STATE, b"vfio", &[1; 1000]);
    let compressed = packet(ZLIB, &[1], &[&[0x78, 0x01][..], &[0; 498]].concat());
    for (bytes, have, missing) in [(device, 276 + 400, 600), (compressed, 1344 + 2, 498)] {
        let mut bed = Bed::new();
        bed.feed(&bytes[..have], usize::MAX).unwrap();
        let error = text(bed.channel.end().unwrap_err());
        assert_eq!(error.family, Family::Misbehaved);
        let expected = format!("inside a packet, {missing} bytes of payload missing");
        assert!(error.text.contains(&expected), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_payload_says_where_and_what() {
    let page = zlib(&mut Compress::new(Level::fast(), true), &pages(&[1]));
    let two = zlib(&mut Compress::new(Level::fast(), true), &pages(&[1, 2]));
    let cases: [(Vec<u8>, Family, &str); 9] = [
        (
            packet(ZLIB, &[1], &[0xff; 100]),
            Family::Malformed,
            "byte 1408: zlib: the payload is damaged",
        ),
        (packet(ZLIB, &[1], &two), Family::Malformed, "more than the packet's 4096 bytes of pages"),
        (packet(ZLIB, &[1, 2], &page), Family::Malformed, "4096 bytes less than the packet has"),
        (packet(ZSTD, &[1], &page), Family::Malformed, "zstd: the payload is damaged"),
        (packet(ZLIB | ZSTD, &[1], &page), Family::Malformed, "flags"),
        (
            [packet(ZLIB, &[1], &page), packet(0, &[1], &pages(&[1]))].concat(),
            Family::Misbehaved,
            "compression is none, the run's packets before had zlib",
        ),
        (device_packet(DEVICE_STATE | SYNC, b"vfio", &[1]), Family::Malformed, "flags"),
        (device_packet(DEVICE_STATE, b"\x07", &[1]), Family::Malformed, "idstr"),
        (device_packet(DEVICE_STATE, b"vfio", &[]), Family::Malformed, "next_packet_size is 0"),
    ];
    for (bytes, family, expected) in cases {
        let error = text(Bed::new().feed(&bytes, usize::MAX).expect_err(expected));
        assert_eq!(error.family, family, "{error}");
        assert!(error.text.contains(expected), "{error}");
    }
}

#[test]
fn the_channels_of_a_run_have_one_method() {
    let mut bed = Bed::new();
    let page = zlib(&mut Compress::new(Level::fast(), true), &pages(&[1]));
    bed.feed(&packet(ZLIB, &[1], &page), usize::MAX).unwrap();
    // Zero pages and SYNC packets have no method, whatever their bits.
    bed.feed(&packet(ZSTD, &[], &[]), usize::MAX).unwrap();
    bed.channel = Channel::new(ChannelId(2), PageBytes::DEFAULT, Arc::clone(&bed.terms));
    let error = text(bed.feed(&packet(ZSTD, &[1], &page), usize::MAX).unwrap_err());
    assert!(
        error.text.starts_with("channel 2, packet 0, byte 72: the packet's compression is zstd"),
        "{error}"
    );
}

#[test]
fn device_state_beyond_the_cap_is_refused_before_it_is_there() {
    let mut bed = Bed::new();
    let terms = Arc::new(Terms::new(true, 10_000));
    bed.channel = Channel::new(ChannelId(0), PageBytes::DEFAULT, Arc::clone(&terms));
    let mut bytes = device_packet(DEVICE_STATE, b"vfio", &[1; 5000]);
    bed.feed(&bytes, usize::MAX).unwrap();
    assert_eq!(terms.staging.lent(), 5276);
    bytes[272..276].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = text(bed.feed(&bytes[..276], usize::MAX).unwrap_err());
    assert_eq!(error.family, Family::Environment);
    assert!(error.text.contains("4294967571 more bytes"), "{error}");
    assert!(error.text.contains("--device-packets drop"), "{error}");
}

#[test]
fn after_its_first_packet_a_compressed_channel_allocates_nothing() {
    let mut bed = Bed::new();
    let mut stream = Compress::new(Level::fast(), true);
    let scattered: Vec<u64> = (0..64).map(|page| page * 2).collect();
    let fills: Vec<u8> = (0..64).collect();
    let packets: Vec<Vec<u8>> =
        (0..4).map(|_| packet(ZLIB, &scattered, &zlib(&mut stream, &pages(&fills)))).collect();
    bed.feed(&packets[0], usize::MAX).unwrap();
    let counted = allocation_counter::measure(|| {
        for packet in &packets[1..] {
            bed.feed(packet, usize::MAX).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
