//! The header of a zstd frame (RFC 8878, 3.1.1.1): what the frame takes to be decoded.

use zstd_safe::zstd_sys::{
    ZSTD_FrameHeader, ZSTD_FrameType_e, ZSTD_estimateDStreamSize, ZSTD_getFrameHeader, ZSTD_isError,
};

use super::CodecError;

/// What there is of a frame's header.
pub(super) enum FrameHeader {
    /// So many more bytes must come first.
    Missing(usize),
    /// All of it, and what it asks for is allowed.
    Whole {
        /// Bytes that zstd allocates to decode the frame, its window among them.
        decoder_bytes: u64,
    },
}

impl FrameHeader {
    /// Judges a header by its first bytes.
    pub(super) fn read(header: &[u8]) -> Result<Self, CodecError> {
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
        // SAFETY: ZSTD_isError has no requirements.
        if unsafe { ZSTD_isError(wanted) } != 0 {
            return Err(CodecError::Broken);
        }
        if let Some(missing) = wanted.checked_sub(header.len()).filter(|_| wanted > 0) {
            return Ok(Self::Missing(missing));
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
        Ok(Self::Whole { decoder_bytes: bytes as u64 })
    }
}

/// The window that a source may ask for: `multifd-zstd-level` goes to 20, whose
/// window log is 25 (zstd's `ZSTD_defaultCParameters`).
pub(super) const WINDOW_LOG_MAX: u32 = 25;
const WINDOW_BYTES_MAX: u64 = 1 << WINDOW_LOG_MAX;
