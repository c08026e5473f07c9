//! Bodies for fuzzers, and for tests that feed streams.

use super::{DeviceSection, End, Event, MainStream, Options, Step, StreamError};
use crate::wire::fuzzing::Seed;

/// Feeds `bytes` as a main stream, whole and in pieces.
///
/// # Panics
///
/// If a step panics, asks for more than it may, consumes more than there is,
/// makes no progress, or if the pieces change what the stream means.
pub fn main_stream(bytes: &[u8]) {
    let options = Options { tail_bytes_max: 1024 * 1024, ..Options::default() };
    let whole = run(bytes, options, || usize::MAX);
    let mut seed = Seed::new(bytes.iter().fold(1, |sum: u64, &byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
    }));
    let pieces = run(bytes, options, || seed.below(64).saturating_add(1));
    assert_eq!(whole, pieces, "the pieces changed the meaning");
}

/// All that a stream said.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Every event, a line each; runs of skipped bytes and of device state as
    /// one.
    pub log: Vec<String>,
    /// How it ended.
    pub end: Result<End, StreamError>,
    /// Bytes consumed.
    pub consumed: usize,
    /// The devices found.
    pub sections: Vec<DeviceSection>,
    /// The most bytes that were there when more were asked for; says nothing
    /// about the stream, so it is not compared.
    pub most_waiting: Waiting,
}

/// A number that is equal to every other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting(pub usize);

impl PartialEq for Waiting {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Waiting {}

impl PartialEq<usize> for Waiting {
    fn eq(&self, other: &usize) -> bool {
        self.0 == *other
    }
}

impl PartialOrd<usize> for Waiting {
    fn partial_cmp(&self, other: &usize) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(other)
    }
}

/// Feeds `bytes` in pieces of the sizes that `piece` gives, until the machine
/// has no use for more.
///
/// # Panics
///
/// As [`main_stream`] does, but for the comparison.
pub fn run(bytes: &[u8], options: Options, mut piece: impl FnMut() -> usize) -> Outcome {
    let mut stream = MainStream::new(options);
    let mut log = Log::default();
    let (mut from, mut to, mut idle) = (0usize, 0usize, 0u32);
    let mut waiting = 0;
    let end = loop {
        let input = bytes.get(from..to).unwrap_or_default();
        match stream.step(input) {
            Err(error) => break Err(error),
            Ok(Step::Event { consumed, event }) => {
                assert!(consumed <= input.len(), "{event:?} consumed what is not there");
                idle = if consumed == 0 { idle.saturating_add(1) } else { 0 };
                assert!(idle < 4, "no progress at byte {from}");
                from = from.saturating_add(consumed);
                log.add(&event, consumed);
            }
            Ok(Step::Need { .. }) => {
                assert!(input.len() < super::INPUT_BYTES_MAX, "too much is needed at {from}");
                waiting = input.len().max(waiting);
                if to == bytes.len() {
                    break stream.end_of_input();
                }
                // No more at once than a driver's buffer has room for.
                let room = super::INPUT_BYTES_MAX.saturating_sub(input.len());
                to = to.saturating_add(piece().min(room)).min(bytes.len());
            }
        }
    };
    assert_eq!(u64::try_from(from).ok(), Some(stream.position()).filter(|_| !is_cap(&end)).or(
        u64::try_from(from).ok()
    ));
    let sections = stream.take_device_state().sections;
    Outcome {
        log: log.lines,
        consumed: if end.is_err() && !end.as_ref().is_err_and(StreamError::is_truncated) { 0 } else { from },
        end,
        sections,
        most_waiting: Waiting(waiting),
    }
}
