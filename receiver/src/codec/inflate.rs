//! zlib-rs, through zlib's own interface: deflate piece by piece, to raw memory.

use std::mem;

use libz_rs_sys::{
    Z_BUF_ERROR, Z_MEM_ERROR, Z_NEED_DICT, Z_OK, Z_STREAM_END, Z_SYNC_FLUSH, inflate, inflateEnd,
    inflateInit2_, inflateReset, z_stream, zlibVersion,
};

use super::CodecError;
use super::output::Output;
use super::stream::Step;

/// What is around the deflated bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// RFC 1950.
    Zlib,
    /// RFC 1952.
    Gzip,
}

/// One stream being inflated. Its checksums are verified.
pub(super) struct Inflate {
    /// In a box: it stays where it was initialised.
    stream: Box<z_stream>,
}

impl Inflate {
    /// A stream that begins; windows up to 32 KiB.
    pub(super) fn new(wrapping: Wrapping) -> Result<Self, CodecError> {
        let window_bits = match wrapping {
            Wrapping::Zlib => 15,
            // As zlib.h says it for inflateInit2: 16 more for gzip alone.
            Wrapping::Gzip => 15 + 16,
        };
        let mut stream = Box::new(z_stream::default());
        let size = i32::try_from(mem::size_of::<z_stream>()).expect("a small struct");
        // SAFETY: inflateInit2_ needs a valid z_stream whose allocator fields are null or
        // functions, a version string, and the size of the z_stream it is given.
        // - stream is a default z_stream: no input, no allocators of our own.
        // - version and size are those of the library itself.
        let made = unsafe { inflateInit2_(&raw mut *stream, window_bits, zlibVersion(), size) };
        if made == Z_OK { Ok(Self { stream }) } else { Err(CodecError::Memory) }
    }

    /// Takes from `input` and writes to `output` as far as both go; true at the
    /// end of the stream.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        output: Output<'_>,
    ) -> Result<(Step, bool), CodecError> {
        let input_len = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let output_len = u32::try_from(output.len()).unwrap_or(u32::MAX);
        self.stream.next_in = input.as_ptr();
        self.stream.avail_in = input_len;
        self.stream.next_out = output.as_ptr();
        self.stream.avail_out = output_len;
        // SAFETY: inflate needs a stream that inflateInit2_ made, readable input, writable output.
        // - self.stream was made so in new, and has not moved.
        // - next_in is a slice of at least avail_in bytes.
        // - next_out is valid for writes of avail_out bytes (Output). It is read back only where
        //   this call has written.
        // - zlib-rs makes a slice of it, so nobody else may write there during the call. Others
        //   do only if a source sends a page on two channels in one round: docs/unsafe.md#codec
        //   says what is known of that.
        let outcome = unsafe { inflate(&raw mut *self.stream, Z_SYNC_FLUSH) };
        let step = Step {
            used: (input_len - self.stream.avail_in) as usize,
            made: (output_len - self.stream.avail_out) as usize,
        };
        match outcome {
            // Z_BUF_ERROR: nothing to do with so little input or room.
            Z_OK | Z_BUF_ERROR => Ok((step, false)),
            Z_STREAM_END => Ok((step, true)),
            Z_NEED_DICT => Err(CodecError::Dictionary),
            Z_MEM_ERROR => Err(CodecError::Memory),
            _ => Err(CodecError::Broken),
        }
    }

    /// Begins anew with another stream.
    pub(super) fn reset(&mut self) {
        // SAFETY: inflateReset needs a stream that inflateInit2_ made: see new.
        let reset = unsafe { inflateReset(&raw mut *self.stream) };
        assert!(reset == Z_OK, "a stream of ours can be reset");
    }
}

impl Drop for Inflate {
    fn drop(&mut self) {
        // SAFETY: inflateEnd needs a stream that inflateInit2_ made, and is the last call on it.
        unsafe { inflateEnd(&raw mut *self.stream) };
    }
}

// SAFETY: the stream's pointers lead to input and output only during step, and else to state that
// it owns; nothing in it belongs to a thread.
unsafe impl Send for Inflate {}

/// What one stream takes of memory at most, in bytes: its window and tables,
/// rounded up.
pub(super) const INFLATE_BYTES: u64 = 64 * 1024;
