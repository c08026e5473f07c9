//! zlib: one stream a channel (RFC 1950), for as long as the run lasts.
//!
//! Every packet ends with a sync flush, so that it decodes to its own pages
//! (`migration/multifd-zlib.c`).

use super::CodecError;
use super::inflate::{INFLATE_BYTES, Inflate, Wrapping};
use super::output::Output;
use super::stream::{Step, StreamDecoder, drain, pump};
use crate::place::Places;
use crate::staging::{Lease, Staging};
use std::sync::Arc;

/// The stream of one channel.
pub(super) struct ZlibStream {
    inflate: Inflate,
    _lease: Lease,
}

impl ZlibStream {
    /// Before the channel's first compressed packet.
    pub(super) fn new(staging: &Arc<Staging>) -> Result<Self, CodecError> {
        let lease = staging.lend(INFLATE_BYTES)?;
        Ok(Self { inflate: Inflate::new(Wrapping::Zlib)?, _lease: lease })
    }

    pub(super) fn take(&mut self, bytes: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
        pump(self, bytes, places)
    }

    pub(super) fn end(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        drain(self, places)
    }
}

impl StreamDecoder for ZlibStream {
    fn step(&mut self, input: &[u8], output: Output<'_>) -> Result<Step, CodecError> {
        match self.inflate.step(input, output)? {
            (step, false) => Ok(step),
            (_, true) => Err(CodecError::Ended),
        }
    }
}
