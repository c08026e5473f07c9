//! One multifd channel, driven by hand: bytes of packets in, RAM and counts out.

use std::sync::Arc;

use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use landfall_receiver::channel::{Channel, ChannelError, ChannelId, Tally, Terms, Want};
use landfall_receiver::error::{Family, RunError};
use landfall_receiver::staging::STAGING_MAX_DEFAULT;
use landfall_receiver::stats::{BlockCounters, ChannelCounters, ChannelPhase};
use landfall_receiver::wire::PageBytes;

const PAGE: u64 = 4096;
const SYNC: u32 = 1;

/// A packet's header as QEMU writes it: 320 bytes and 128 offsets.
fn header(flags: u32, block: &str, normal: &[u64], zero: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let words = [0x1122_3344, 1, flags, 128, normal.len() as u32, normal.len() as u32 * 4096];
    words.iter().for_each(|word: &u32| bytes.extend(word.to_be_bytes()));
    bytes.extend(7u64.to_be_bytes());
    bytes.extend((zero.len() as u32).to_be_bytes());
    bytes.resize(64, 0);
    bytes.extend(block.as_bytes());
    bytes.resize(320, 0);
    normal.iter().chain(zero).for_each(|page| bytes.extend((page * PAGE).to_be_bytes()));
    bytes.resize(1344, 0xee);
    bytes
}

fn terms() -> Arc<Terms> {
    Arc::new(Terms::new(true, STAGING_MAX_DEFAULT))
}

/// Memory, numbers and a channel.
struct Bed {
    ram: RamBlocks,
    channel: Channel,
    counters: ChannelCounters,
    blocks: Vec<BlockCounters>,
}

impl Bed {
    fn new() -> Self {
        let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).expect("memory");
        let request =
            BlockRequest { name: BlockName::parse(b"mem").expect("a name"), bytes: 256 * PAGE };
        let ram = pool.carve(&[request], 4096, &|_, _| {}).expect("memory");
        Self {
            ram,
            channel: Channel::new(ChannelId(3), PageBytes::DEFAULT, terms()),
            counters: ChannelCounters::default(),
            blocks: vec![BlockCounters::default()],
        }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        let tally = Tally { channel: &self.counters, blocks: &self.blocks };
        self.channel.take_header(bytes, &self.ram, tally)
    }

    /// What the kernel would do with the pages that are wanted: `fill` in each.
    fn pages(&mut self, fill: u8, most: u64) -> u64 {
        let Want::Pages { missing, .. } = self.channel.want() else { panic!("pages are wanted") };
        let mut left = missing.min(most);
        for run in self.channel.runs() {
            let bytes = run.bytes.min(left);
            let content = vec![fill; bytes as usize];
            self.ram[self.channel.block()].write(run.offset, &content);
            left -= bytes;
        }
        let tally = Tally { channel: &self.counters, blocks: &self.blocks };
        self.channel.take_pages(missing.min(most), &self.ram, tally);
        missing.min(most)
    }

    fn page(&self, page: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        self.ram[0].read(page * PAGE, &mut bytes);
        bytes
    }
}

fn text(error: ChannelError) -> RunError {
    error.into()
}

#[test]
fn pages_land_in_the_order_of_the_packet_and_are_counted_once() {
    let mut bed = Bed::new();
    bed.header(&header(0, "mem", &[9, 10, 2], &[4, 5])).unwrap();
    assert_eq!(bed.channel.want(), Want::Pages { missing: 3 * PAGE, then_header: true });
    bed.pages(0xa5, u64::MAX);
    assert!([9, 10, 2].iter().all(|&page| bed.page(page).iter().all(|&byte| byte == 0xa5)));
    assert_eq!(bed.blocks[0].unique.get(), 5);
    assert_eq!((bed.counters.normal.get(), bed.counters.zero.get()), (3, 2));
    // Once more, and with content that is zero although it came in full.
    bed.header(&header(0, "mem", &[9], &[10])).unwrap();
    bed.pages(0, u64::MAX);
    assert_eq!(bed.blocks[0].unique.get(), 5);
    assert_eq!(bed.blocks[0].zero_sent_full.get(), 1);
    assert_eq!(bed.blocks[0].zero_written.get(), 1, "page 10 had content");
    assert!(bed.page(10).iter().all(|&byte| byte == 0));
    assert_eq!(bed.counters.wire_bytes.get(), 2 * 1344 + 4 * PAGE);
}

#[test]
fn headers_and_pages_may_come_in_any_pieces() {
    for piece in [1, 7, 12, 343, 1343] {
        let mut bed = Bed::new();
        for part in header(0, "mem", &[0, 1, 2, 8], &[]).chunks(piece) {
            bed.header(part).unwrap();
        }
        while matches!(bed.channel.want(), Want::Pages { .. }) {
            bed.pages(0x11, 1000);
        }
        assert!(bed.page(8).iter().all(|&byte| byte == 0x11), "pieces of {piece}");
        assert_eq!(bed.blocks[0].unique.get(), 4);
    }
}

#[test]
fn a_sync_packet_applies_its_pages_first_and_then_holds_the_channel() {
    let mut bed = Bed::new();
    bed.header(&header(SYNC, "mem", &[1], &[])).unwrap();
    assert_eq!(bed.channel.want(), Want::Pages { missing: PAGE, then_header: false });
    bed.pages(1, u64::MAX);
    assert_eq!(bed.channel.want(), Want::SyncPoint(1));
    assert_eq!(bed.channel.phase(), ChannelPhase::Held);
    assert!(!bed.channel.release(0), "main has passed nothing");
    assert!(bed.channel.release(1));
    assert_eq!(bed.channel.want(), Want::Header { missing: 1344 });
    assert_eq!(bed.channel.syncs(), 1);
}

#[test]
fn a_torn_page_is_cleared_when_it_is_said_to_be_zero() {
    let mut bed = Bed::new();
    bed.header(&header(0, "mem", &[6], &[])).unwrap();
    // The kernel has put half a page there; then the run was cut.
    bed.ram[0].write(6 * PAGE, &[0x77; 2048]);
    let mut next = Channel::new(ChannelId(0), PageBytes::DEFAULT, terms());
    let tally = Tally { channel: &bed.counters, blocks: &bed.blocks };
    next.take_header(&header(0, "mem", &[], &[6]), &bed.ram, tally).unwrap();
    assert!(bed.page(6).iter().all(|&byte| byte == 0));
}

#[test]
fn every_wrong_packet_says_where_what_was_found_and_what_is_allowed() {
    let mut too_many = header(0, "mem", &[0], &[]);
    too_many[16..20].copy_from_slice(&129u32.to_be_bytes());
    let cases: [(Vec<u8>, Family, &str); 4] = [
        (
            too_many,
            Family::Malformed,
            "channel 3, packet 0, byte 80: normal_pages is 129, limit 128",
        ),
        (header(0, "nope", &[0], &[]), Family::Malformed, "byte 128: ramblock names no RAM block"),
        (header(0, "mem", &[256], &[]), Family::Malformed, "offset is 1048576, limit 1044480"),
        (header(0, "mem", &[], &[1 << 50]), Family::Malformed, "offset"),
    ];
    for (bytes, family, expected) in cases {
        let error = text(Bed::new().header(&bytes).unwrap_err());
        assert_eq!(error.family, family, "{error}");
        assert!(error.text.contains(expected), "{error}");
    }
}

#[test]
fn the_source_may_close_between_packets_and_nowhere_else() {
    let mut bed = Bed::new();
    assert_eq!(bed.channel.end(), Ok(()));
    bed.header(&header(0, "mem", &[1, 2], &[])[..100]).unwrap();
    let error = text(bed.channel.end().unwrap_err());
    assert!(error.text.contains("after 100 bytes of a packet header"), "{error}");
    bed.header(&header(0, "mem", &[1, 2], &[])[100..]).unwrap();
    bed.pages(1, 5000);
    let error = text(bed.channel.end().unwrap_err());
    assert!(error.text.contains("3192 bytes of pages missing"), "{error}");
    bed.pages(1, u64::MAX);
    assert_eq!(bed.channel.end(), Ok(()));
}

#[test]
fn no_packet_allocates() {
    let mut bed = Bed::new();
    let scattered: Vec<u64> = (0..64).map(|page| page * 2).collect();
    let zero: Vec<u64> = (0..64).map(|page| page * 2 + 1).collect();
    let packet = header(0, "mem", &scattered, &zero);
    let adjacent = header(0, "mem", &(0..128).collect::<Vec<_>>(), &[]);
    let counted = allocation_counter::measure(|| {
        for bytes in [&packet, &adjacent, &packet] {
            bed.header(bytes).unwrap();
            let Want::Pages { missing, .. } = bed.channel.want() else { panic!("pages") };
            let tally = Tally { channel: &bed.counters, blocks: &bed.blocks };
            bed.channel.take_pages(missing, &bed.ram, tally);
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
