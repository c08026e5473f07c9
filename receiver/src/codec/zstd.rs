//! zstd: one frame a channel (RFC 8878), for as long as the run lasts.
//!
//! Every packet ends with a flush, so that it decodes to its own pages
//! (`migration/multifd-zstd.c`).

use std::ptr::NonNull;
use std::sync::Arc;

use zstd_sys::{
    ZSTD_DCtx, ZSTD_DCtx_setParameter, ZSTD_FrameHeader, ZSTD_FrameType_e, ZSTD_createDCtx,
    ZSTD_dParameter, ZSTD_decompressStream, ZSTD_estimateDStreamSize, ZSTD_freeDCtx,
    ZSTD_getFrameHeader, ZSTD_inBuffer, ZSTD_isError, ZSTD_outBuffer,
};

use super::CodecError;
use super::output::Output;
use super::stream::{Step, StreamDecoder, drain, pump};
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
            let have = &self.header[..self.header_have];
            match frame_needs(have)? {
                FrameNeeds::Header(missing) => {
                    let (now, rest) = bytes.split_at(missing.min(bytes.len()));
                    self.header[self.header_have..][..now.len()].copy_from_slice(now);
                    self.header_have += now.len();
                    bytes = rest;
                    self.begin(places)?;
                }
                FrameNeeds::Bytes(_) => unreachable!("begin made the frame"),
            }
        }
        match &mut self.frame {
            Some(frame) => pump(frame, &mut [], bytes, places),
            None => Ok(()),
        }
    }

    pub(super) fn end(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        match &mut self.frame {
            Some(frame) => drain(frame, &mut [], places),
            None => Err(CodecError::Missing { missing: places.missing() }),
        }
    }

    /// Makes the frame's decoder once its header is whole.
    fn begin(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        let header = &self.header[..self.header_have];
        let FrameNeeds::Bytes(bytes) = frame_needs(header)? else { return Ok(()) };
        let lease = self.staging.lend(bytes)?;
        let frame = self.frame.insert(Frame::new(lease)?);
        pump(frame, &mut [], header, places)
    }
}

/// What a frame needs before it can be decoded.
enum FrameNeeds {
    /// So many more bytes of its header.
    Header(usize),
    /// So many bytes of memory.
    Bytes(u64),
}

/// Judges a frame by what there is of its header.
fn frame_needs(header: &[u8]) -> Result<FrameNeeds, CodecError> {
    let mut found = ZSTD_FrameHeader {
        frameContentSize: 0,
        windowSize: 0,
        blockSizeMax: 0,
        frameType: ZSTD_FrameType_e::ZSTD_frame,
        headerSize: 0,
        dictID: 0,
        checksumFlag: 0,
        _reserved1: 0,
        _reserved2: 0,
    };
    // SAFETY: ZSTD_getFrameHeader needs room for its answer and a readable range.
    // - found is such a struct of ours; header is a slice.
    let wanted =
        unsafe { ZSTD_getFrameHeader(&raw mut found, header.as_ptr().cast(), header.len()) };
    if is_error(wanted) {
        return Err(CodecError::Broken);
    }
    if let Some(missing) = wanted.checked_sub(header.len()).filter(|_| wanted > 0) {
        return Ok(FrameNeeds::Header(missing));
    }
    if found.frameType != ZSTD_FrameType_e::ZSTD_frame {
        return Err(CodecError::Skippable);
    }
    if found.dictID != 0 {
        return Err(CodecError::Dictionary);
    }
    if found.windowSize > WINDOW_BYTES_MAX {
        return Err(CodecError::Window { found: found.windowSize, limit: WINDOW_BYTES_MAX });
    }
    // SAFETY: ZSTD_estimateDStreamSize has no requirements.
    let bytes = unsafe { ZSTD_estimateDStreamSize(found.windowSize as usize) };
    Ok(FrameNeeds::Bytes(bytes as u64))
}

/// A decoder of one frame.
struct Frame {
    context: NonNull<ZSTD_DCtx>,
    _lease: Lease,
}

impl Frame {
    fn new(lease: Lease) -> Result<Self, CodecError> {
        // SAFETY: ZSTD_createDCtx has no requirements; null is no memory.
        let context = NonNull::new(unsafe { ZSTD_createDCtx() }).ok_or(CodecError::Memory)?;
        let parameter = ZSTD_dParameter::ZSTD_d_windowLogMax;
        // SAFETY: ZSTD_DCtx_setParameter needs a context that nobody else uses: it is new.
        let set = unsafe { ZSTD_DCtx_setParameter(context.as_ptr(), parameter, WINDOW_LOG_MAX) };
        assert!(!is_error(set), "the window log is within zstd's bounds");
        Ok(Self { context, _lease: lease })
    }
}

impl StreamDecoder for Frame {
    fn step(&mut self, input: &[u8], output: Output<'_>) -> Result<Step, CodecError> {
        let mut input = ZSTD_inBuffer { src: input.as_ptr().cast(), size: input.len(), pos: 0 };
        let mut output = ZSTD_outBuffer { dst: output.as_ptr().cast(), size: output.len(), pos: 0 };
        // SAFETY: ZSTD_decompressStream needs a context that nobody else uses, readable input and
        // writable output.
        // - the context is self's alone, and self is borrowed for the call.
        // - input is a slice; output is valid for writes of its length (Output), and only written:
        //   the window is kept in the context (ZSTD_d_stableOutBuffer is off).
        let left = unsafe {
            ZSTD_decompressStream(self.context.as_ptr(), &raw mut output, &raw mut input)
        };
        match left {
            0 => Err(CodecError::Ended),
            left if is_error(left) => Err(CodecError::Broken),
            _ => Ok(Step { used: input.pos, made: output.pos }),
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: ZSTD_freeDCtx needs a context of ZSTD_createDCtx, and is the last call on it.
        unsafe { ZSTD_freeDCtx(self.context.as_ptr()) };
    }
}

// SAFETY: the context is memory that self owns; nothing in it belongs to a thread.
unsafe impl Send for Frame {}

fn is_error(code: usize) -> bool {
    // SAFETY: ZSTD_isError has no requirements.
    unsafe { ZSTD_isError(code) != 0 }
}

/// The window that a source may ask for: `multifd-zstd-level` goes to 20, whose
/// window log is 25 (zstd's `ZSTD_defaultCParameters`).
const WINDOW_LOG_MAX: i32 = 25;
const WINDOW_BYTES_MAX: u64 = 1 << WINDOW_LOG_MAX;

/// The longest header of a frame (RFC 8878, 3.1.1.1), magic included.
const HEADER_BYTES_MAX: usize = 18;
