//! qatzip: a packet's pages as one unit, in gzip members (RFC 1952).
//!
//! QATzip's default format is gzip with an extra field of its own, one member for
//! each buffer of its hardware, so that several may follow each other
//! (`migration/multifd-qatzip.c`; QATzip's `QZ_DEFLATE_GZIP_EXT`).

use std::sync::Arc;

use super::CodecError;
use super::inflate::{INFLATE_BYTES, Inflate, Wrapping};
use super::output::Output;
use super::stream::{DETOUR_BYTES, Step, StreamDecoder, drain, pump};
use crate::place::Places;
use crate::staging::{Lease, Staging};

/// Decodes packets of gzip members; keeps nothing between packets.
pub(super) struct GzipMembers {
    members: Members,
    detour: Box<[u8]>,
    _lease: Lease,
}

struct Members {
    inflate: Inflate,
    /// No member has begun, or the last one is whole.
    between: bool,
}

impl GzipMembers {
    /// Before the channel's first compressed packet.
    pub(super) fn new(staging: &Arc<Staging>) -> Result<Self, CodecError> {
        let lease = staging.lend(INFLATE_BYTES + DETOUR_BYTES as u64)?;
        let members = Members { inflate: Inflate::new(Wrapping::Gzip)?, between: true };
        Ok(Self { members, detour: vec![0; DETOUR_BYTES].into(), _lease: lease })
    }

    pub(super) fn take(&mut self, bytes: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
        pump(&mut self.members, &mut self.detour, bytes, places)
    }

    pub(super) fn end(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        drain(&mut self.members, &mut self.detour, places)?;
        if self.members.between { Ok(()) } else { Err(CodecError::Unfinished) }
    }
}

impl StreamDecoder for Members {
    fn step(&mut self, input: &[u8], output: Output<'_>) -> Result<Step, CodecError> {
        if self.between {
            if input.is_empty() {
                return Ok(Step::default());
            }
            self.inflate.reset();
        }
        let (step, ended) = self.inflate.step(input, output)?;
        self.between = ended;
        Ok(step)
    }
}
