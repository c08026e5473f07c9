//! Bodies for fuzzers, and for tests that feed streams.

mod encode;
mod seeds;

use std::sync::Arc;

pub use seeds::{main_stream_seeds, mapped_ram_file_seeds};

use super::{DeviceSection, End, Event, INPUT_BYTES_MAX, MainStream, Options, Step, StreamError};
use crate::wire::fuzzing::random_of;
use crate::wire::{BlockInfo, FileExtent};

/// Feeds `bytes` as a main stream, whole and in pieces.
///
/// # Panics
///
/// If a step panics, asks for more than it may, consumes more than there is,
/// makes no progress, if an event is not the bytes that it came from, or if the
/// pieces change what the stream means.
pub fn main_stream(bytes: &[u8]) {
    let options = Options { tail_bytes_max: 1024 * 1024, ..Options::default() };
    let (whole, _) = run(bytes, options, || usize::MAX);
    let mut random = random_of(bytes);
    let (pieces, _) = run(bytes, options, || random.usize(..64).saturating_add(1));
    assert_eq!(whole, pieces, "the pieces changed the meaning");
}

/// Feeds `bytes` as a file that a stream begins in, `offset` bytes from its
/// beginning: as [`main_stream`], and where pages have their places in the file
/// (mapped-ram), these must lie in it and apart from each other.
///
/// # Panics
///
/// As [`main_stream`], and if places overlap or lie outside.
pub fn file(bytes: &[u8], offset: usize) {
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let file = FileExtent { offset: wide(offset), bytes: wide(bytes.len()) };
    let options = Options { tail_bytes_max: 1024 * 1024, file: Some(file), ..Options::default() };
    let (whole, _) = run(bytes, options, || usize::MAX);
    let mut random = random_of(bytes);
    let (pieces, _) = run(bytes, options, || random.usize(..64).saturating_add(1));
    assert_eq!(whole, pieces, "the pieces changed the meaning");
    let mut taken = 0;
    for block in whole.blocks.iter().flat_map(|blocks| blocks.iter()) {
        let Some(mapped) = block.mapped else { continue };
        assert!(mapped.bitmap_offset >= taken, "a bitmap over the pages before it");
        assert!(mapped.pages_offset > mapped.bitmap_offset, "pages over their bitmap");
        assert_eq!(mapped.pages_end.checked_sub(mapped.pages_offset), Some(block.used_bytes));
        assert!(mapped.pages_end <= file.bytes, "pages outside the file");
        taken = mapped.pages_end;
    }
}

/// Reads `bytes` as a file with `mapped-ram`, from its beginning.
///
/// # Panics
/// As [`file()`].
pub fn mapped_ram_file(bytes: &[u8]) {
    file(bytes, 0);
}

/// All that a stream said, the same in whatever pieces it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Every event, a line each, but for skipped bytes and device state, whose
    /// division is of no meaning.
    pub log: Vec<String>,
    /// How it ended.
    pub end: Result<End, StreamError>,
    /// The devices found.
    pub sections: Vec<DeviceSection>,
    /// The RAM blocks, if their list was complete.
    pub blocks: Option<Arc<[BlockInfo]>>,
}

/// How a stream was read; depends on the pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Bytes consumed.
    pub consumed: usize,
    /// The most bytes that were there when more were asked for.
    pub waiting_bytes_max: usize,
}

/// Feeds `bytes` in pieces of the sizes that `piece` gives (not 0); with
/// [`Options::file`] they are the file, and the stream begins at its offset.
///
/// # Panics
///
/// As [`main_stream`] does, but for the comparison.
pub fn run(bytes: &[u8], options: Options, mut piece: impl FnMut() -> usize) -> (Outcome, Effort) {
    let mut stream = MainStream::new(options);
    let mut log = Vec::new();
    let mut effort = Effort::default();
    let begin = options.file.and_then(|file| usize::try_from(file.offset).ok()).unwrap_or(0);
    effort.consumed = begin;
    let (mut to, mut idle) = (begin, 0u32);
    // Where the last event ended that was not the skipping of bytes.
    let mut listed_from = begin;
    let end = loop {
        let input = bytes.get(effort.consumed..to).unwrap_or_default();
        match stream.step(input) {
            Err(error) => break Err(error),
            Ok(Step::Event { consumed, event }) => {
                assert!(consumed <= input.len(), "{event:?} consumed what is not there");
                idle = if consumed == 0 { idle.saturating_add(1) } else { 0 };
                assert!(idle < 4, "no progress at byte {}", effort.consumed);
                let from = effort.consumed;
                effort.consumed = from.saturating_add(consumed);
                let taken = |from| bytes.get(from..effort.consumed).unwrap_or_default();
                let blocks = match &event {
                    Event::Page { .. } | Event::Zero { .. } => stream.blocks(),
                    Event::Xbzrle { .. } | Event::CompressedPage { .. } => stream.blocks(),
                    _ => None,
                };
                let blocks = blocks.map_or(&[][..], |blocks| blocks);
                if options.file.is_none() {
                    encode::check(&event, blocks, taken(from), taken(listed_from));
                }
                if !matches!(event, Event::Skipped) {
                    listed_from = effort.consumed;
                }
                if let Event::Seek { file_offset } = event {
                    let target = usize::try_from(file_offset).unwrap_or(usize::MAX);
                    assert!((effort.consumed..=bytes.len()).contains(&target), "a wild seek");
                    effort.consumed = target;
                    to = to.max(target);
                    idle = 0;
                }
                let position = effort.consumed.saturating_sub(begin);
                assert_eq!(u64::try_from(position).ok(), Some(stream.position()));
                log.extend(line(&event));
            }
            Ok(Step::Need { .. }) => {
                assert!(input.len() < INPUT_BYTES_MAX, "too much is needed");
                effort.waiting_bytes_max = effort.waiting_bytes_max.max(input.len());
                if to == bytes.len() {
                    break stream.end_of_input();
                }
                // No more at once than a driver's buffer has room for.
                let room = INPUT_BYTES_MAX.saturating_sub(input.len());
                to = to.saturating_add(piece().min(room)).min(bytes.len());
            }
        }
    };
    let state = stream.take_device_state();
    if end == Ok(End::Complete) && options.file.is_none() {
        assert!(bytes.ends_with(&encode::end(&state.tail, &state.vmdesc)), "another end");
    }
    assert!(
        state.configuration.is_empty()
            || bytes
                .get(begin.saturating_add(8)..)
                .is_some_and(|rest| { rest.starts_with(&state.configuration) })
    );
    let sections = state.sections;
    let blocks = stream.blocks().cloned();
    (Outcome { log, end, sections, blocks }, effort)
}

/// An event as a line that is short even if it carries a page.
fn line(event: &Event<'_>) -> Option<String> {
    let (name, block, offset, bytes) = match *event {
        Event::Skipped | Event::DeviceTail { .. } => return None,
        Event::Page { block, offset, bytes } => ("Page", block, offset, bytes),
        Event::Xbzrle { block, offset, encoded } => ("Xbzrle", block, offset, encoded),
        Event::CompressedPage { block, offset, encoded } => {
            ("CompressedPage", block, offset, encoded)
        }
        _ => return Some(format!("{event:?}")),
    };
    let mut random = random_of(bytes);
    Some(format!("{name} {block} {offset:#x} {} bytes {:016x}", bytes.len(), random.u64(..)))
}
