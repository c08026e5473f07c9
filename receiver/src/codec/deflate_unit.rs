//! libdeflate: units that are there as a whole, to raw memory.

use std::ptr::{self, NonNull};

use libdeflate_sys::{
    libdeflate_alloc_decompressor, libdeflate_decompressor, libdeflate_deflate_decompress_ex,
    libdeflate_free_decompressor, libdeflate_result_LIBDEFLATE_SUCCESS,
    libdeflate_zlib_decompress_ex,
};

use super::CodecError;
use super::output::Output;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitFormat {
    /// Deflate without anything around it (RFC 1951).
    Raw,
    /// A whole zlib stream (RFC 1950); its checksum is verified.
    Zlib,
}

/// Decodes units of one format, one after the other; keeps nothing between them.
pub(super) struct DeflateUnit {
    decompressor: NonNull<libdeflate_decompressor>,
    format: UnitFormat,
}

impl DeflateUnit {
    pub(super) fn new(format: UnitFormat) -> Result<Self, CodecError> {
        // SAFETY: libdeflate_alloc_decompressor has no requirements; null is no memory.
        let decompressor = NonNull::new(unsafe { libdeflate_alloc_decompressor() });
        Ok(Self { decompressor: decompressor.ok_or(CodecError::Memory)?, format })
    }

    /// True if `unit`, all of it, decodes to exactly all of `output`. Else some of
    /// `output` may have been written.
    pub(super) fn decode(&mut self, unit: &[u8], output: Output<'_>) -> bool {
        let (mut used, mut made) = (0, 0);
        let decompress = match self.format {
            UnitFormat::Raw => libdeflate_deflate_decompress_ex,
            UnitFormat::Zlib => libdeflate_zlib_decompress_ex,
        };
        // SAFETY: the two functions need a decompressor that nobody else uses, readable input,
        // writable output, and room for two counts.
        // - the decompressor is self's alone, and self is borrowed for the call.
        // - unit is a slice; output is valid for writes of its length (Output). It is read back
        //   only where this call has written; should somebody else write there at the same time,
        //   wrong bytes are copied, which are data like any other.
        // - the counts are locals.
        let result = unsafe {
            decompress(
                self.decompressor.as_ptr(),
                unit.as_ptr().cast(),
                unit.len(),
                output.as_ptr().cast(),
                output.len(),
                ptr::from_mut(&mut used),
                ptr::from_mut(&mut made),
            )
        };
        result == libdeflate_result_LIBDEFLATE_SUCCESS && (used, made) == (unit.len(), output.len())
    }

    /// [`DeflateUnit::decode`] into memory of our own.
    pub(super) fn decode_to(&mut self, unit: &[u8], output: &mut [u8]) -> bool {
        self.decode(unit, Output::of_slice(output))
    }
}

impl Drop for DeflateUnit {
    fn drop(&mut self) {
        // SAFETY: libdeflate_free_decompressor needs a decompressor of
        // libdeflate_alloc_decompressor, and is the last call on it.
        unsafe { libdeflate_free_decompressor(self.decompressor.as_ptr()) };
    }
}

// SAFETY: the decompressor is memory that self owns; nothing in it belongs to a thread.
unsafe impl Send for DeflateUnit {}

/// What one takes of memory at most, in bytes: its tables, rounded up.
pub(super) const DEFLATE_UNIT_BYTES: u64 = 32 * 1024;
