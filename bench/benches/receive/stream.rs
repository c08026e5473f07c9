//! The bytes that are sent: packets as multifd makes them, prepared once and sent again and again.
//!
//! A channel sends `laps` times the same packets; their offsets lie inside a window that moves on
//! by its own size with every lap, which the receiver counts. So the sender only sends.

use fastrand::Rng;
use landfall_pagepool::RamBlock;

/// How the pages of a packet lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Runs of so many pages, the runs from the last to the first: 128 is one run.
    Runs(usize),
    /// Ascending, but every page received as an iovec of its own.
    Unmerged,
    /// Every page from another part of the window.
    Scattered,
    /// Half of the pages are zero and not sent; the others as QEMU's zero detection leaves them
    /// (the place of a zero page goes to the last page of the packet that is not looked at yet).
    Mixed,
    /// Pieces of so many bytes, the pieces of a page from the last to the first.
    Pieces(usize),
}

impl Order {
    /// How many bytes of a page lie together at the receiver.
    pub(crate) fn piece_bytes(self) -> usize {
        match self {
            Self::Pieces(bytes) => bytes,
            _ => PAGE_BYTES,
        }
    }

    /// Whether neighbours are received as one.
    pub(crate) fn merges(self) -> bool {
        self != Self::Unmerged
    }
}

/// Prepared packets, and what they must leave in memory.
pub(crate) struct Stream {
    order: Order,
    bytes: Vec<u8>,
    /// For every page on the wire: where it goes in the window, where it stands in `bytes`.
    pages: Vec<(usize, usize)>,
    /// Where each packet ends in `bytes`.
    ends: Vec<usize>,
    laps: usize,
}

impl Stream {
    /// Packets for one channel that has `region_bytes` of memory.
    pub(crate) fn new(order: Order, region_bytes: usize) -> Self {
        let packets = (region_bytes / PACKET_PAGES / PAGE_BYTES).min(PACKETS_MAX);
        assert!(packets > 0, "{region_bytes} bytes are less than a packet");
        let laps = region_bytes / (packets * PACKET_PAGES * PAGE_BYTES);
        let mut random = Rng::with_seed(1);
        let mut all: Vec<usize> = (0..packets * PACKET_PAGES).collect();
        if order == Order::Scattered {
            random.shuffle(&mut all);
        }
        let mut bytes = Vec::new();
        let (mut places, mut ends) = (Vec::new(), Vec::new());
        for (index, pages) in all.chunks(PACKET_PAGES).enumerate() {
            let pages = arrange(order, pages, &mut random);
            bytes.extend(header(index as u64, 0, &pages));
            for page in pages {
                places.push((page * PAGE_BYTES, bytes.len()));
                let from = bytes.len();
                bytes.resize(from + PAGE_BYTES, 0);
                random.fill(&mut bytes[from..]);
            }
            ends.push(bytes.len());
        }
        Self { order, bytes, pages: places, ends, laps }
    }

    /// What is sent [`Stream::laps`] times.
    pub(crate) fn lap(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, packet by packet.
    pub(crate) fn packet_bytes(&self) -> impl Iterator<Item = &[u8]> {
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| &self.bytes[begin..end])
    }

    /// How often.
    pub(crate) fn laps(&self) -> usize {
        self.laps
    }

    /// What is sent last: a header that says so.
    pub(crate) fn end() -> Vec<u8> {
        header(0, FLAG_SYNC, &[])
    }

    /// How pages lie.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Packets in a window.
    pub(crate) fn packets(&self) -> usize {
        self.ends.len()
    }

    /// How far a lap moves the window.
    pub(crate) fn window_bytes(&self) -> usize {
        self.packets() * PACKET_PAGES * PAGE_BYTES
    }

    /// Bytes of pages in all.
    pub(crate) fn page_bytes(&self) -> u64 {
        (self.pages.len() * self.laps * PAGE_BYTES) as u64
    }

    /// All bytes on the wire, the end's among them.
    pub(crate) fn wire_bytes(&self) -> u64 {
        (self.bytes.len() * self.laps + HEADER_BYTES) as u64
    }

    /// Every page where it belongs, or a panic. If not the `whole`, one cache line of every page is
    /// looked at, which the check before had cleared (`turn` counts them): to look at all would leave
    /// the memory in the caches, where no guest's memory is.
    pub(crate) fn check(&self, ram: &RamBlock, base: u64, turn: usize, whole: bool) {
        let mut found = vec![0; PAGE_BYTES];
        for lap in 0..self.laps {
            let window = base + (lap * self.window_bytes()) as u64;
            for &(to, from) in &self.pages {
                let page = window + to as u64;
                let line = line_of(page, turn);
                let part = if whole { 0..PAGE_BYTES } else { line..line + LINE_BYTES };
                let found = &mut found[..part.len()];
                ram.read(page + part.start as u64, found);
                let sent = &self.bytes[from..from + PAGE_BYTES];
                assert!(self.fits(found, sent, part.start), "wrong bytes in page {page:#x}");
                ram.write(page + line_of(page, turn + 1) as u64, &[0; LINE_BYTES]);
            }
        }
    }

    /// Bytes as they came off the wire, nothing looked at, over and over the region's pages: what
    /// the region holds in the end, or a panic. If not the `whole`, the header that was sent last is
    /// looked at, which the check before had cleared.
    pub(crate) fn check_unplaced(&self, ram: &RamBlock, base: u64, whole: bool) {
        let end = Self::end();
        let laps_bytes = self.wire_bytes() - end.len() as u64;
        let mut at = if whole { self.wire_bytes() - self.page_bytes() } else { laps_bytes };
        let mut found = vec![0; PAGE_BYTES];
        while at < self.wire_bytes() {
            let sent = match at.checked_sub(laps_bytes) {
                None => &self.bytes[at as usize % self.bytes.len()..],
                Some(at) => &end[at as usize..],
            };
            let to = at % self.page_bytes();
            let left = usize::try_from(self.page_bytes() - to).expect("a region");
            let part = sent.len().min(left).min(PAGE_BYTES);
            let found = &mut found[..part];
            ram.read(base + to, found);
            assert!(found == &sent[..part], "wrong bytes at {at} of the wire");
            if at >= laps_bytes {
                ram.write(base + to, &[0; HEADER_BYTES][..part]);
            }
            at += part as u64;
        }
    }

    /// Whether `found` is what a page that was sent holds from `at` on.
    fn fits(&self, found: &[u8], sent: &[u8], at: usize) -> bool {
        let piece = self.order.piece_bytes();
        let last = PAGE_BYTES / piece - 1;
        let step = piece.min(found.len());
        found.chunks(step).enumerate().all(|(index, found)| {
            let at = at + index * step;
            // The pieces of a page come from the last to the first.
            let from = (last - at / piece) * piece + at % piece;
            found == &sent[from..from + step]
        })
    }
}

fn line_of(page: u64, turn: usize) -> usize {
    (page as usize / PAGE_BYTES * 7 + turn * 13) % (PAGE_BYTES / LINE_BYTES) * LINE_BYTES
}

/// The pages of a packet in the order of the wire.
fn arrange(order: Order, pages: &[usize], random: &mut Rng) -> Vec<usize> {
    match order {
        Order::Runs(run) => pages.chunks(run).rev().flatten().copied().collect(),
        Order::Unmerged | Order::Scattered | Order::Pieces(_) => pages.to_vec(),
        Order::Mixed => {
            let is_zero: Vec<bool> = pages.iter().map(|_| random.bool()).collect();
            let mut at: Vec<usize> = (0..pages.len()).collect();
            let (mut front, mut behind) = (0, at.len());
            while front < behind {
                if is_zero[at[front]] {
                    behind -= 1;
                    at.swap(front, behind);
                } else {
                    front += 1;
                }
            }
            at[..behind].iter().map(|&at| pages[at]).collect()
        }
    }
}

/// `MultiFDPacket_t`, version 1, all fields big-endian.
fn header(packet_num: u64, flags: u32, pages: &[usize]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    for field in [MAGIC, 1, flags, PACKET_PAGES as u32, pages.len() as u32, 0] {
        header.extend(field.to_be_bytes());
    }
    header.extend(packet_num.to_be_bytes());
    header.resize(OFFSETS_AT, 0);
    for page in pages {
        header.extend(((page * PAGE_BYTES) as u64).to_be_bytes());
    }
    header.resize(HEADER_BYTES, 0);
    header
}

/// A header with room for 128 offsets.
pub(crate) const HEADER_BYTES: usize = 1344;
/// Where they begin.
pub(crate) const OFFSETS_AT: usize = 320;
/// `MULTIFD_MAGIC`.
pub(crate) const MAGIC: u32 = 0x1122_3344;
/// `MULTIFD_FLAG_SYNC`: here the end of the channel.
pub(crate) const FLAG_SYNC: u32 = 1;
/// Pages in a full packet.
pub(crate) const PACKET_PAGES: usize = 128;
/// The guest's pages.
pub(crate) const PAGE_BYTES: usize = 4096;
const LINE_BYTES: usize = 64;
/// 8 MiB of packets: the sender's copy stays in a cache, as little as it can cost.
const PACKETS_MAX: usize = 16;
