//! A multifd channel: packets in sequence, into memory.

use super::memory::{BLOCKS, Memory, PAGE};
use super::model::Model;
use super::script::{Script, page_content};
use crate::channel::{Channel, ChannelId, Tally, Want};
use crate::error::{Family, RunError};
use crate::stats::ChannelCounters;
use crate::wire::PageBytes;
use crate::wire::fuzzing::Seed;

/// Makes packets from `script`, each a header, then its pages:
///
/// | bytes | what |
/// |---|---|
/// | 1 | flags of the packet; with the highest bit the stream ends inside it |
/// | 1, 1 | normal pages, zero pages |
/// | 1 | the block: 0 to 2, else a name that there is not |
/// | 1 | the pages' content: a recipe, counted up from page to page |
/// | 1 | n, then n times: be16 place, a byte for that place of the header |
/// | 1 each | page numbers of the normal and zero pages |
/// | 2 | if the stream ends here: after how many bytes of the packet |
///
/// The bytes that come of it go through a [`Channel`] and into guest RAM
/// twice: whole, and in pieces. Memory, received bits, counters, sync points,
/// and the family of the error must be what a model has that knows only the
/// table of docs/wire-format.md.
///
/// # Panics
///
/// Where they differ.
pub fn packet_sequence(script: &[u8]) {
    let expected = Expected::of(script);
    let whole = run(&expected, &mut || usize::MAX);
    let mut seed = Seed::of_bytes(script);
    let pieces = run(&expected, &mut || seed.below(3000) + 1);
    assert_eq!(whole, pieces, "the pieces changed the meaning");
}

/// Scripts to begin from: the shapes of old and new sources.
pub fn packet_sequence_seeds() -> Vec<Vec<u8>> {
    // Normal and zero pages, then the same pages the other way round, then SYNC.
    let modern = b"\0\x03\x02\0\x05\0\x09\x0a\x02\x04\x05\0\x02\x03\0\x06\0\x04\x05\x09\x0a\x02\x01\0\0\0\0\0";
    // SYNC with pages, an empty packet, a stale size without pages.
    let legacy = b"\x01\x02\0\x02\x07\0\x01\x02\0\0\0\0\0\0\x01\0\0\0\0\x01\0\x15\x10";
    let cut = b"\x80\x02\0\0\x09\0\x01\x02\x06\x00";
    let compressed = b"\x02\x01\0\0\x09\0\x01";
    vec![
        modern.to_vec(),
        legacy.to_vec(),
        [&modern[..], legacy, cut].concat(),
        [&legacy[..], compressed].concat(),
        b"\x40\0\0\0\0\0".to_vec(),
        (*b"\0\x80\0\0\x01\0").into_iter().chain((0..128).map(|page| page % 12)).collect(),
    ]
}

/// What must come of a script.
struct Expected {
    stream: Vec<u8>,
    model: Model,
    packets: u64,
    syncs: u64,
    end: End,
    /// Bytes that may have been taken when it ended.
    taken: std::ops::RangeInclusive<usize>,
}

/// How a channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Between two packets.
    Boundary,
    /// Closed inside a packet.
    Cut,
    Malformed,
    Unsupported,
}

impl Expected {
    fn of(script: &[u8]) -> Self {
        let mut expected = Self {
            stream: Vec::new(),
            model: Model::new(),
            packets: 0,
            syncs: 0,
            end: End::Boundary,
            taken: 0..=0,
        };
        let mut script = Script(script);
        while !script.is_empty() && expected.end == End::Boundary {
            expected.packet(&mut script);
        }
        expected
    }

    /// Makes the next packet, and does to the model what it says.
    fn packet(&mut self, script: &mut Script<'_>) {
        let [flags, normal, zero, block, recipe] = std::array::from_fn(|_| script.byte());
        let patches: Vec<(u16, u8)> = (0..script.byte())
            .map_while(|_| (!script.is_empty()).then(|| (script.be16(), script.byte())))
            .collect();
        let pages = script.take(usize::from(normal) + usize::from(zero)).to_vec();
        let name = BLOCKS.get(usize::from(block)).map_or("b", |(name, _)| name);
        let mut header = header(flags & 0x7f, normal, zero, name, &pages);
        for (at, byte) in patches {
            header[usize::from(at) % HEADER_BYTES] = byte;
        }
        let from = self.stream.len();
        let verdict = verdict(&header);
        let content: Vec<u8> = match verdict {
            Ok(Packet { normal: 0, .. }) | Err(_) => Vec::new(),
            Ok(Packet { normal, .. }) => {
                let pages = (0..normal).map(|page| page_content(recipe.wrapping_add(page as u8)));
                pages.collect::<Vec<&[u8]>>().concat()
            }
        };
        self.stream.extend_from_slice(&header);
        self.stream.extend_from_slice(&content);
        let cut = (flags & 0x80 != 0)
            .then(|| usize::from(script.be16()) % (header.len() + content.len()));
        let come = cut.unwrap_or(self.stream.len() - from);
        self.stream.truncate(from + come);
        self.taken = from..=self.stream.len();
        // The first 12 bytes are judged by themselves.
        let start = verdict_of_start(&header);
        self.end = match (start, verdict) {
            (Err(end), _) if come >= 12 => end,
            (_, Err(end)) if come >= HEADER_BYTES => end,
            (_, Ok(packet)) if come >= HEADER_BYTES => {
                self.packets += 1;
                self.place(&header, &packet, &content, come - HEADER_BYTES)
            }
            (..) if come == 0 => End::Boundary,
            (..) => End::Cut,
        };
        // A cut ends the stream even where a packet could have begun.
        if cut == Some(0) {
            script.0 = &[];
        }
    }

    fn place(&mut self, header: &[u8], packet: &Packet, content: &[u8], come: usize) -> End {
        let block = self.model.block(packet.block);
        let page = |index: usize| be64(header, 320 + 8 * index) as usize / PAGE;
        for index in packet.normal..packet.normal + packet.zero {
            block.make_zero(page(index));
        }
        let there = content[..come].chunks(PAGE).enumerate();
        for (index, bytes) in there {
            block.page(page(index))[..bytes.len()].copy_from_slice(bytes);
        }
        if come < content.len() {
            return End::Cut;
        }
        for index in 0..packet.normal {
            block.normal(page(index));
        }
        for index in 0..packet.normal {
            block.zero_sent_full += u64::from(block.is_zero(page(index)));
        }
        self.syncs += u64::from(packet.sync);
        End::Boundary
    }
}

/// A packet that is fine.
struct Packet {
    sync: bool,
    block: usize,
    normal: usize,
    zero: usize,
}

/// What is to be said of the first 12 bytes.
fn verdict_of_start(header: &[u8]) -> Result<(), End> {
    let flags = be32(header, 8);
    if be32(header, 0) != 0x1122_3344 || be32(header, 4) != 1 {
        return Err(End::Malformed);
    }
    match flags {
        0x40 => Err(End::Unsupported),
        0..0x40 if (flags >> 1).count_ones() <= 1 => Ok(()),
        _ => Err(End::Malformed),
    }
}

/// What is to be said of a whole header, in the order of the table.
fn verdict(header: &[u8]) -> Result<Packet, End> {
    verdict_of_start(header)?;
    let flags = be32(header, 8);
    let [alloc, normal, size, zero] = [12, 16, 20, 32].map(|at| u64::from(be32(header, at)));
    if alloc > 128 || normal > alloc || normal + zero > alloc {
        return Err(End::Malformed);
    }
    let compressed = flags & 0x3e != 0;
    let fine = match (normal, compressed) {
        (0, _) => true,
        (_, false) => size == normal * PAGE as u64,
        (_, true) => (1..=2 * 524_288).contains(&size),
    };
    if !fine {
        return Err(End::Malformed);
    }
    if normal > 0 && compressed {
        return Err(End::Unsupported);
    }
    let sync = flags & 1 != 0;
    let (normal, zero) = (normal as usize, zero as usize);
    if normal + zero == 0 {
        // Without pages the block and all offsets are stale.
        return Ok(Packet { sync, block: 0, normal, zero });
    }
    let name = header[64..319].split(|&byte| byte == 0).next().unwrap_or_default();
    let block = Model::find(name).ok_or(End::Malformed)?;
    let limit = (BLOCKS[block].1 * PAGE) as u64;
    let fits = |index| {
        let offset = be64(header, 320 + 8 * index);
        offset.is_multiple_of(PAGE as u64) && offset < limit
    };
    if !(0..normal + zero).all(fits) {
        return Err(End::Malformed);
    }
    Ok(Packet { sync, block, normal, zero })
}

/// A header as QEMU writes it; offsets without a page are stale.
fn header(flags: u8, normal: u8, zero: u8, name: &str, pages: &[u8]) -> Vec<u8> {
    let size = u32::from(normal) * PAGE as u32;
    let words = [0x1122_3344, 1, flags.into(), 128, normal.into(), size, 0, 7, zero.into()];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
    bytes.resize(64, 0);
    bytes.extend(name.as_bytes());
    bytes.resize(320, 0);
    bytes.extend(pages.iter().flat_map(|&page| (u64::from(page) * PAGE as u64).to_be_bytes()));
    bytes.resize(HEADER_BYTES, 0xee);
    bytes
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Drives a channel through the stream; returns what it said of its end.
fn run(expected: &Expected, piece: &mut dyn FnMut() -> usize) -> Option<RunError> {
    let memory = Memory::new();
    let counters = ChannelCounters::default();
    let tally = Tally { channel: &counters, blocks: &memory.counters };
    let mut channel = Channel::new(ChannelId(3), PageBytes::DEFAULT, true);
    let stream = &expected.stream[..];
    let mut at = 0;
    let error = loop {
        let left = stream.len() - at;
        match channel.want() {
            Want::SyncPoint(sync_point) => {
                assert!(!channel.release(sync_point - 1), "released too early");
                assert!(channel.release(sync_point), "never released");
            }
            _ if left == 0 => break channel.end().err(),
            Want::Header { missing } => {
                let bytes = &stream[at..][..missing.min(left).min(piece())];
                at += bytes.len();
                if let Err(error) = channel.take_header(bytes, &memory.ram, tally) {
                    break Some(error);
                }
            }
            Want::Pages { missing, .. } => {
                let count = left.min(missing as usize).min(piece());
                land(&memory, &channel, &stream[at..][..count]);
                at += count;
                channel.take_pages(count as u64, &memory.ram, tally);
            }
        }
    };
    let error = error.map(RunError::from);
    assert!(expected.taken.contains(&at), "ended at {at}: {error:?}");
    let end = error.as_ref().map_or(End::Boundary, |error| match error.family {
        Family::Malformed => End::Malformed,
        Family::Misbehaved => End::Cut,
        Family::Unsupported => End::Unsupported,
        other => panic!("{other:?} is none of a channel's families"),
    });
    assert_eq!(end, expected.end, "{error:?}");
    memory.check(&expected.model);
    let blocks = expected.model.blocks();
    let found = [&counters.packets, &counters.syncs, &counters.normal, &counters.zero];
    let normal = blocks.iter().map(|block| block.normal).sum();
    let zero = blocks.iter().map(|block| block.zero).sum();
    assert_eq!(found.map(|count| count.get()), [expected.packets, expected.syncs, normal, zero]);
    assert_eq!(counters.wire_bytes.get(), at as u64);
    error
}

/// What the kernel does with a receive: bytes into the runs, in their order.
fn land(memory: &Memory, channel: &Channel, mut bytes: &[u8]) {
    for run in channel.runs() {
        let (now, later) = bytes.split_at(bytes.len().min(run.bytes as usize));
        memory.ram[channel.block()].write(run.offset, now);
        bytes = later;
    }
    assert!(bytes.is_empty(), "the runs have less room than is wanted");
}

const HEADER_BYTES: usize = 1344;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_to_begin_from_end_in_every_way() {
        let all: Vec<Expected> =
            packet_sequence_seeds().iter().map(|seed| Expected::of(seed)).collect();
        for end in [End::Boundary, End::Cut, End::Unsupported] {
            assert!(all.iter().any(|expected| expected.end == end), "{end:?}");
        }
        let packets: Vec<u64> = all.iter().map(|expected| expected.packets).collect();
        assert_eq!(packets, [3, 3, 7, 3, 0, 1]);
        assert_eq!(all.iter().map(|expected| expected.syncs).max(), Some(3));
        let unique = all[0].model.blocks()[0].unique();
        assert_eq!((unique, all[0].model.blocks()[0].zero_written), (5, 3));
    }
}
