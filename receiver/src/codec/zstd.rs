//! zstd: one frame a channel (RFC 8878), for as long as the run lasts.
//!
//! Every packet ends with a flush, so that it decodes to its own pages
//! (`migration/multifd-zstd.c`).

use std::sync::Arc;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::CodecError;
use super::stream::DETOUR_BYTES;
use super::zstd_header::{FrameHeader, WINDOW_LOG_MAX};
use crate::place::Places;
use crate::staging::{Lease, Staging};

/// The frame of one channel.
pub(super) struct ZstdStream {
    staging: Arc<Staging>,
    /// The frame's header, as far as it is there: nothing is allocated before it
    /// has said what it takes.
    header: [u8; HEADER_BYTES_MAX],
    header_have: usize,
    frame: Option<Frame>,
}

impl ZstdStream {
    /// Before the channel's first compressed packet.
    pub(super) fn new(staging: &Arc<Staging>) -> Self {
        Self {
            staging: Arc::clone(staging),
            header: [0; HEADER_BYTES_MAX],
            header_have: 0,
            frame: None,
        }
    }

    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        places: &mut Places<'_>,
    ) -> Result<(), CodecError> {
        while self.frame.is_none() && !bytes.is_empty() {
            let missing = match FrameHeader::read(&self.header[..self.header_have])? {
                FrameHeader::Missing(missing) => missing,
                FrameHeader::Whole { .. } => unreachable!("the frame was made with its header"),
            };
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header[self.header_have..][..now.len()].copy_from_slice(now);
            self.header_have += now.len();
            bytes = rest;
            self.begin(places)?;
        }
        match &mut self.frame {
            Some(frame) if !bytes.is_empty() => frame.decode(bytes, places),
            _ => Ok(()),
        }
    }

    pub(super) fn end(&self, places: &Places<'_>) -> Result<(), CodecError> {
        match places.missing() {
            0 => Ok(()),
            missing => Err(CodecError::Missing { missing }),
        }
    }

    /// Makes the frame's decoder once its header is whole.
    fn begin(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        let header = &self.header[..self.header_have];
        let FrameHeader::Whole { decoder_bytes } = FrameHeader::read(header)? else {
            return Ok(());
        };
        let lease = self.staging.lend(decoder_bytes + DETOUR_BYTES as u64)?;
        self.frame.insert(Frame::new(lease)?).decode(header, places)
    }
}

/// A decoder of one frame. After an error it is of no use.
struct Frame {
    context: DCtx<'static>,
    /// What has been decoded, on its way to guest RAM: zstd itself would copy it there with
    /// `memcpy` (docs/decisions/0019-zstd-through-a-buffer.md).
    detour: Box<[u8]>,
    _lease: Lease,
}

impl Frame {
    fn new(lease: Lease) -> Result<Self, CodecError> {
        let mut context = DCtx::try_create().ok_or(CodecError::Memory)?;
        context
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .expect("the window log is within zstd's bounds");
        Ok(Self { context, detour: vec![0; DETOUR_BYTES].into(), _lease: lease })
    }

    /// Decodes all of `bytes`, and all that they unfold to: nothing is left in the context for
    /// the next call but the beginning of a block.
    fn decode(&mut self, bytes: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
        let mut input = InBuffer::around(bytes);
        // Ends: the detour is full each time, and the places are not without end.
        loop {
            let mut output = OutBuffer::around(&mut self.detour[..]);
            let left = self.context.decompress_stream(&mut output, &mut input);
            let left = left.map_err(|_code| CodecError::Broken)?;
            let made = output.pos();
            put(&self.detour[..made], places)?;
            if left == 0 {
                return Err(CodecError::Ended);
            }
            if made < self.detour.len() {
                // Room to spare: it has nothing more to give.
                let all = input.pos() == bytes.len();
                return if all { Ok(()) } else { Err(CodecError::Broken) };
            }
        }
    }
}

/// Copies what has been decoded to where it goes: past the caches, which the window needs, and
/// page by page, since of each copy the first line stays in them. It is looked at next.
fn put(decoded: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
    let missing = places.missing() as usize;
    let (mut fitting, beyond) = decoded.split_at(decoded.len().min(missing));
    while !fitting.is_empty() {
        let page = PAGE_BYTES - places.filled() as usize % PAGE_BYTES;
        let (now, rest) = fitting.split_at(fitting.len().min(page));
        places.put(now);
        fitting = rest;
    }
    if beyond.is_empty() {
        Ok(())
    } else {
        Err(CodecError::Excess { pages_bytes: places.filled() })
    }
}

/// The smallest page there is: larger ones are copied in several.
const PAGE_BYTES: usize = 4096;

/// The longest header of a frame (RFC 8878, 3.1.1.1), magic included.
const HEADER_BYTES_MAX: usize = 18;
