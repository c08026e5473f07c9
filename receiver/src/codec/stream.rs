//! Decoding piece by piece into places that lie apart.

use super::{CodecError, output::Output};
use crate::place::Places;

/// A decoder that takes any piece of its input and fills any piece of memory.
pub(super) trait StreamDecoder {
    /// Takes from `input` and writes to `output` as far as both go.
    fn step(&mut self, input: &[u8], output: Output<'_>) -> Result<Step, CodecError>;
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    /// Bytes of the input that are done with.
    pub(super) used: usize,
    /// Bytes that were written.
    pub(super) made: usize,
}

/// Decodes a piece of a packet's payload to where its pages go.
///
/// Behind the last page the decoder gets room for one byte of ours, so that what
/// belongs to the packet without making output (the end of a flush) is taken,
/// and a byte too many shows.
pub(super) fn pump(
    decoder: &mut impl StreamDecoder,
    mut input: &[u8],
    places: &mut Places<'_>,
) -> Result<(), CodecError> {
    while !input.is_empty() {
        let Step { used, made } = advance(decoder, input, places)?;
        if used == 0 && made == 0 {
            return Err(CodecError::Broken);
        }
        input = &input[used..];
    }
    Ok(())
}

/// The payload is over: whatever the decoder still has must be the rest of the
/// pages.
pub(super) fn drain(
    decoder: &mut impl StreamDecoder,
    places: &mut Places<'_>,
) -> Result<(), CodecError> {
    while advance(decoder, &[], places)?.made > 0 {}
    match places.missing() {
        0 => Ok(()),
        missing => Err(CodecError::Missing { missing }),
    }
}

fn advance(
    decoder: &mut impl StreamDecoder,
    input: &[u8],
    places: &mut Places<'_>,
) -> Result<Step, CodecError> {
    if let Some(span) = places.next() {
        let step = decoder.step(input, span.into())?;
        places.fill(step.made as u64);
        return Ok(step);
    }
    let mut spare = [0];
    let step = decoder.step(input, Output::of_slice(&mut spare))?;
    match step.made {
        0 => Ok(step),
        _ => Err(CodecError::Excess { pages_bytes: places.filled() }),
    }
}
