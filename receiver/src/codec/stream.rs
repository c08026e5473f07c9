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

/// Decodes a piece of a packet's payload to where its pages go: straight, or where
/// the next place is short, through `detour`.
///
/// Behind the last page the decoder gets room for one byte of ours, so that what
/// belongs to the packet without making output (the end of a flush) is taken,
/// and a byte too many shows.
pub(super) fn pump(
    decoder: &mut impl StreamDecoder,
    detour: &mut [u8],
    mut input: &[u8],
    places: &mut Places<'_>,
) -> Result<(), CodecError> {
    while !input.is_empty() {
        let Step { used, made } = advance(decoder, detour, input, places)?;
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
    detour: &mut [u8],
    places: &mut Places<'_>,
) -> Result<(), CodecError> {
    while advance(decoder, detour, &[], places)?.made > 0 {}
    match places.missing() {
        0 => Ok(()),
        missing => Err(CodecError::Missing { missing }),
    }
}

fn advance(
    decoder: &mut impl StreamDecoder,
    detour: &mut [u8],
    input: &[u8],
    places: &mut Places<'_>,
) -> Result<Step, CodecError> {
    if let Some(span) = places.next() {
        if span.len() < SHORT_BYTES {
            let most = detour.len().min(places.missing() as usize);
            let step = decoder.step(input, Output::of_slice(&mut detour[..most]))?;
            places.put(&detour[..step.made]);
            return Ok(step);
        }
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

/// Places below this are worth a detour: inflating to many of them costs more than
/// a copy (docs/decisions/0007-inflate.md).
const SHORT_BYTES: usize = 32 * 1024;

/// Bytes of a detour: they stay in the level 2 cache.
pub(super) const DETOUR_BYTES: usize = 128 * 1024;
