//! zlib: one stream a channel (RFC 1950), for as long as the run lasts.
//!
//! Every packet ends with a sync flush, so that it decodes to its own pages
//! (`migration/multifd-zlib.c`).

use std::sync::Arc;

use super::CodecError;
use super::inflate::{INFLATE_BYTES, Inflate, Wrapping};
use super::output::Output;
use super::stream::{DETOUR_BYTES, Step, StreamDecoder, drain, pump};
use crate::place::Places;
use crate::staging::{Lease, Staging};

/// The stream of one channel.
pub(super) struct ZlibStream {
    stream: Endless,
    detour: Box<[u8]>,
    _lease: Lease,
}

struct Endless(Inflate);

impl ZlibStream {
    /// Before the channel's first compressed packet.
    pub(super) fn new(staging: &Arc<Staging>) -> Result<Self, CodecError> {
        let lease = staging.lend(INFLATE_BYTES + DETOUR_BYTES as u64)?;
        let stream = Endless(Inflate::new(Wrapping::Zlib)?);
        Ok(Self { stream, detour: vec![0; DETOUR_BYTES].into(), _lease: lease })
    }

    pub(super) fn take(&mut self, bytes: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
        pump(&mut self.stream, &mut self.detour, bytes, places)
    }

    pub(super) fn end(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        drain(&mut self.stream, &mut self.detour, places)
    }
}

impl StreamDecoder for Endless {
    fn step(&mut self, input: &[u8], output: Output<'_>) -> Result<Step, CodecError> {
        match self.0.step(input, output)? {
            (step, false) => Ok(step),
            (_, true) => Err(CodecError::Ended),
        }
    }
}
