//! zstd's streaming call straight into guest RAM, as QEMU does it.

use std::ptr::NonNull;

use landfall_pagepool::RamBlock;
use landfall_receiver::place::{Filled, Places, Run};
use zstd_safe::zstd_sys::{
    ZSTD_DCtx, ZSTD_createDCtx, ZSTD_decompressStream, ZSTD_freeDCtx, ZSTD_inBuffer, ZSTD_isError,
    ZSTD_outBuffer,
};

use crate::zstd_contest::Contestant;

/// A decoder that is given so many bytes of guest RAM at a time.
pub(crate) struct Straight {
    context: NonNull<ZSTD_DCtx>,
    most: usize,
}

impl Straight {
    pub(crate) fn new(most: usize) -> Self {
        // SAFETY: ZSTD_createDCtx has no requirements; null is no memory.
        let context = NonNull::new(unsafe { ZSTD_createDCtx() }).expect("memory");
        Self { context, most }
    }
}

impl Contestant for Straight {
    fn packet(&mut self, payload: &[u8], block: &RamBlock, runs: &[Run]) {
        let mut filled = Filled::default();
        let mut places = Places::new(block, runs, &mut filled);
        let mut input = ZSTD_inBuffer { src: payload.as_ptr().cast(), size: payload.len(), pos: 0 };
        let mut spare = [0_u8];
        while input.pos < input.size || places.missing() > 0 {
            let (dst, size) = match places.next() {
                Some(span) => (span.as_ptr(), span.len().min(self.most)),
                None => (spare.as_mut_ptr(), spare.len()),
            };
            let mut output = ZSTD_outBuffer { dst: dst.cast(), size, pos: 0 };
            // SAFETY: ZSTD_decompressStream needs a context that nobody else uses, readable input and
            // writable output.
            // - the context is self's alone, and self is borrowed for the call.
            // - payload is a slice; dst is the beginning of a span of guest RAM, or a byte of ours.
            let left = unsafe {
                ZSTD_decompressStream(self.context.as_ptr(), &raw mut output, &raw mut input)
            };
            // SAFETY: ZSTD_isError has no requirements.
            assert!(unsafe { ZSTD_isError(left) } == 0, "the payload is right");
            if places.missing() > 0 {
                places.fill(output.pos as u64);
            } else {
                assert_eq!(output.pos, 0, "nothing behind the pages");
            }
        }
    }
}

impl Drop for Straight {
    fn drop(&mut self) {
        // SAFETY: ZSTD_freeDCtx needs a context of ZSTD_createDCtx, and is the last call on it.
        unsafe { ZSTD_freeDCtx(self.context.as_ptr()) };
    }
}
