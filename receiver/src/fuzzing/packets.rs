//! A multifd channel: packets in sequence, into memory.

use std::sync::Arc;

use super::memory::{BLOCKS, Memory, PAGE};
use super::packet_model::{DEVICE_HEADER_BYTES, DEVICE_STATE, End, Expected, RAM_HEADER_BYTES};
use super::script::{Script, page_content};
use crate::channel::{Channel, ChannelId, RunMethod, Tally, Terms, Want};
use crate::error::{Family, RunError};
use crate::stats::ChannelCounters;
use crate::wire::fuzzing::random_of;
use crate::wire::{Compression, PageBytes};

/// Makes packets from `script`, each a header, then its pages or device state:
///
/// | bytes | what |
/// |---|---|
/// | 1 | flags of the packet; with the highest bit the stream ends inside it |
/// | 1, 1 | normal pages, or bytes of device state; zero pages |
/// | 1 | the block: 0 to 2, else a name that there is not |
/// | 1 | the pages' content: a recipe, counted up from page to page |
/// | 1 | n, then n times: be16 place, a byte for that place of the header |
/// | 1 each | page numbers of the normal and zero pages |
/// | 2 | if the stream ends here: after how many bytes of the packet |
///
/// The bytes that come of it go through a [`Channel`] and into guest RAM
/// three times: whole, in pieces, and in pieces that heed no boundary. Compression is not agreed: payloads that are
/// compressed are the codecs' matter. Memory, received bits, counters, sync
/// points, and the family of the error must be what a model has that knows
/// only the table of docs/wire-format.md.
///
/// # Panics
///
/// Where they differ.
pub fn packet_sequence(script: &[u8]) {
    let stream = stream_of(script);
    let expected = Expected::of(&stream, STAGING_BYTES);
    let whole = run(&stream, &expected, false, &mut || usize::MAX);
    let mut random = random_of(script);
    let pieces = run(&stream, &expected, false, &mut || random.usize(..3000) + 1);
    let copied = run(&stream, &expected, true, &mut || random.usize(..9000) + 1);
    let family = |error: Option<RunError>| error.map(|error| error.family);
    assert_eq!([pieces, copied].map(family), [family(whole); 2]);
}

/// Scripts to begin from: the shapes of old and new sources.
pub fn packet_sequence_seeds() -> Vec<Vec<u8>> {
    // Normal and zero pages, then the same pages the other way round, then SYNC.
    let modern = b"\0\x03\x02\0\x05\0\x09\x0a\x02\x04\x05\0\x02\x03\0\x06\0\x04\x05\x09\x0a\x02\x01\0\0\0\0\0";
    // SYNC with pages, an empty packet, a stale size without pages.
    let legacy = b"\x01\x02\0\x02\x07\0\x01\x02\0\0\0\0\0\0\x01\0\0\0\0\x01\0\x15\x10";
    let cut = b"\x80\x02\0\0\x09\0\x01\x02\x06\x00";
    let compressed = b"\x02\x01\0\0\x09\0\x01";
    let device_state = b"\x40\x09\0\0\0\0";
    vec![
        modern.to_vec(),
        legacy.to_vec(),
        [&modern[..], legacy, cut].concat(),
        [&legacy[..], compressed].concat(),
        [&device_state[..], modern, device_state, legacy].concat(),
        (*b"\0\x80\0\0\x01\0").into_iter().chain((0..128).map(|page| page % 12)).collect(),
        // More device state than there is memory for.
        b"\x40\x01\0\0\0\x01\x01\x11\x10".to_vec(),
    ]
}

/// The bytes of a channel.
pub(super) fn stream_of(script: &[u8]) -> Vec<u8> {
    let mut script = Script(script);
    let mut stream = Vec::new();
    while !script.is_empty() {
        let [flags, normal, zero, block, recipe] = std::array::from_fn(|_| script.byte());
        let patches: Vec<(u16, u8)> = (0..script.byte())
            .map_while(|_| (!script.is_empty()).then(|| (script.be16(), script.byte())))
            .collect();
        let name = BLOCKS.get(usize::from(block)).map_or("b", |(name, _)| name);
        let device_state = u32::from(flags & 0x7f) == DEVICE_STATE;
        let mut header = if device_state {
            device_header(normal, name)
        } else {
            let pages = script.take(usize::from(normal) + usize::from(zero));
            ram_header(flags & 0x7f, normal, zero, name, pages)
        };
        for (at, byte) in patches {
            let at = usize::from(at) % header.len();
            header[at] = byte;
        }
        let from = stream.len();
        stream.append(&mut header);
        if device_state {
            stream.resize(stream.len() + usize::from(normal), recipe);
        } else {
            for page in 0..normal {
                stream.extend_from_slice(page_content(recipe.wrapping_add(page)));
            }
        }
        if flags & 0x80 != 0 {
            let come = usize::from(script.be16()) % (stream.len() - from);
            stream.truncate(from + come);
            break;
        }
    }
    stream
}

/// A header as QEMU writes it; offsets without a page are stale.
fn ram_header(flags: u8, normal: u8, zero: u8, name: &str, pages: &[u8]) -> Vec<u8> {
    let size = u32::from(normal) * PAGE as u32;
    let words = [0x1122_3344, 1, flags.into(), 128, normal.into(), size, 0, 7, zero.into()];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
    bytes.resize(64, 0);
    bytes.extend(name.as_bytes());
    bytes.resize(320, 0);
    bytes.extend(pages.iter().flat_map(|&page| (u64::from(page) * PAGE as u64).to_be_bytes()));
    bytes.resize(RAM_HEADER_BYTES, 0xee);
    bytes
}

fn device_header(size: u8, name: &str) -> Vec<u8> {
    let mut bytes = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0\x40".to_vec();
    bytes.extend(name.as_bytes());
    bytes.resize(DEVICE_HEADER_BYTES - 1, 0);
    bytes.push(size);
    bytes
}

/// Drives a channel through the stream; returns what it said of its end.
/// With `copies` it is given bytes as they come, pages among them.
fn run(
    stream: &[u8],
    expected: &Expected,
    copies: bool,
    piece: &mut dyn FnMut() -> usize,
) -> Option<RunError> {
    let memory = Memory::new();
    let counters = ChannelCounters::default();
    let tally = Tally { channel: &counters, blocks: &memory.counters };
    let method = RunMethod::new(Some(Compression::None));
    let terms = Arc::new(Terms { method, ..Terms::new(true, STAGING_BYTES) });
    let mut channel = Channel::new(ChannelId(3), PageBytes::DEFAULT, Arc::clone(&terms));
    let mut at = 0;
    let error = loop {
        let left = stream.len() - at;
        match channel.want() {
            Want::SyncPoint(sync_point) => {
                assert!(!channel.release(sync_point - 1), "released too early");
                assert!(channel.release(sync_point), "never released");
            }
            _ if left == 0 => break channel.end().err(),
            _ if copies => {
                let bytes = &stream[at..][..left.min(piece())];
                let mut ends = 0;
                match channel.take(bytes, &memory.ram, tally, &mut || ends += 1) {
                    Ok(taken) => at += taken,
                    Err(error) => {
                        // It tells where, not how much it took.
                        at = counters.wire_bytes.get() as usize;
                        break Some(error);
                    }
                }
                assert!(ends <= counters.packets.get(), "more ends than packets");
            }
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
            Want::Payload { missing, .. } => {
                let bytes = &stream[at..][..left.min(missing as usize).min(piece())];
                at += bytes.len();
                channel.take_payload(bytes, &memory.ram, tally).expect("device state");
            }
        }
    };
    let error = error.map(RunError::from);
    let inside = expected.last_at..=stream.len();
    assert!(inside.contains(&at), "ended at {at}: {error:?}");
    let end = error.as_ref().map_or(End::Boundary, |error| match error.family {
        Family::Malformed => End::Malformed,
        Family::Misbehaved => End::Misbehaved,
        Family::Environment => End::Environment,
        other => panic!("{other:?} is none of a channel's families"),
    });
    assert_eq!(end, expected.end, "{error:?}");
    memory.check(&expected.model);
    let blocks = expected.model.blocks();
    let normal = blocks.iter().map(|block| block.normal).sum();
    let zero = blocks.iter().map(|block| block.zero).sum();
    let counted = [
        (&counters.packets, expected.packets),
        (&counters.syncs, expected.syncs),
        (&counters.normal, normal),
        (&counters.zero, zero),
        (&counters.device_packets, expected.device_packets),
        (&counters.device_bytes, expected.device_bytes),
        (&counters.wire_bytes, at as u64),
    ];
    assert_eq!(counted.map(|(found, _)| found.get()), counted.map(|(_, expected)| expected));
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

/// So little that a script can ask for more.
pub(super) const STAGING_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_to_begin_from_end_in_every_way() {
        let all: Vec<Expected> = packet_sequence_seeds()
            .iter()
            .map(|seed| Expected::of(&stream_of(seed), STAGING_BYTES))
            .collect();
        for end in [End::Boundary, End::Misbehaved, End::Environment] {
            assert!(all.iter().any(|expected| expected.end == end), "{end:?}");
        }
        let packets: Vec<u64> = all.iter().map(|expected| expected.packets).collect();
        assert_eq!(packets, [3, 3, 7, 3, 8, 1, 0]);
        assert_eq!(all.iter().map(|expected| expected.syncs).max(), Some(3));
        assert_eq!((all[4].device_packets, all[4].device_bytes), (2, 18));
        let unique = all[0].model.blocks()[0].unique();
        assert_eq!((unique, all[0].model.blocks()[0].zero_written), (5, 3));
    }
}
