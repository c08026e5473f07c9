//! A frame of zstd, block by block into a window of our own, from which pages are copied.
//!
//! zstd calls these functions deprecated, though its streaming call is made of them.

use std::ptr::NonNull;

use landfall_pagepool::RamBlock;
use landfall_receiver::place::{Filled, Places, Run};
use zstd_safe::zstd_sys::{
    ZSTD_BLOCKSIZE_MAX, ZSTD_CONTENTSIZE_UNKNOWN, ZSTD_DCtx, ZSTD_FrameHeader, ZSTD_FrameType_e,
    ZSTD_createDCtx, ZSTD_decodingBufferSize_min, ZSTD_decompressBegin, ZSTD_decompressContinue,
    ZSTD_freeDCtx, ZSTD_getFrameHeader, ZSTD_isError, ZSTD_nextSrcSizeToDecompress,
};

use crate::zstd_contest::{Contestant, put};

/// A decoder that has the window, once it has seen the frame's header.
pub(crate) struct Windowed(Option<Frame>);

impl Windowed {
    pub(crate) fn new() -> Self {
        Self(None)
    }
}

impl Contestant for Windowed {
    fn packet(&mut self, payload: &[u8], block: &RamBlock, runs: &[Run]) {
        let mut filled = Filled::default();
        let mut places = Places::new(block, runs, &mut filled);
        let frame = self.0.get_or_insert_with(|| Frame::new(payload));
        let mut rest = payload;
        while !rest.is_empty() {
            // Packets end where blocks end.
            let (wanted, behind) = rest.split_at(frame.wanted());
            put(frame.decode(wanted), &mut places);
            rest = behind;
        }
        assert_eq!(places.missing(), 0, "all pages");
    }
}

/// A decoder of one frame.
struct Frame {
    context: NonNull<ZSTD_DCtx>,
    /// A round buffer: a block is decoded behind the one before it, or to the beginning where
    /// there is no room for one of the largest. The context looks back into it.
    window: NonNull<u8>,
    window_bytes: usize,
    /// Where the next block goes.
    at: usize,
}

impl Frame {
    /// Of a payload that begins with its header.
    fn new(payload: &[u8]) -> Self {
        let mut header = ZSTD_FrameHeader {
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
        // - header is such a struct of ours; payload is a slice.
        let wanted =
            unsafe { ZSTD_getFrameHeader(&raw mut header, payload.as_ptr().cast(), payload.len()) };
        assert_eq!(wanted, 0, "a whole header");
        let unknown = ZSTD_CONTENTSIZE_UNKNOWN as u64;
        // SAFETY: ZSTD_decodingBufferSize_min has no requirements.
        let window_bytes = unsafe { ZSTD_decodingBufferSize_min(header.windowSize, unknown) };
        assert!(window_bytes >= BLOCK_BYTES && !is_error(window_bytes), "{window_bytes} of window");
        // SAFETY: ZSTD_createDCtx has no requirements; null is no memory.
        let context = NonNull::new(unsafe { ZSTD_createDCtx() }).expect("memory");
        // SAFETY: ZSTD_decompressBegin needs a context that nobody else uses: it is new.
        let begun = unsafe { ZSTD_decompressBegin(context.as_ptr()) };
        assert!(!is_error(begun), "without a dictionary nothing can be wrong");
        let window = NonNull::from(Box::leak(vec![0; window_bytes].into_boxed_slice())).cast();
        Self { context, window, window_bytes, at: 0 }
    }

    /// How many bytes it wants next.
    fn wanted(&self) -> usize {
        // SAFETY: ZSTD_nextSrcSizeToDecompress needs a context of ZSTD_createDCtx.
        unsafe { ZSTD_nextSrcSizeToDecompress(self.context.as_ptr()) }
    }

    /// Takes exactly the bytes that are wanted; gives what they unfold to.
    fn decode(&mut self, wanted: &[u8]) -> &[u8] {
        if self.window_bytes - self.at < BLOCK_BYTES {
            self.at = 0;
        }
        let room = self.window_bytes - self.at;
        // SAFETY: add needs `at` to be inside the window's allocation: it is a block before its end.
        let to = unsafe { self.window.add(self.at) };
        // SAFETY: ZSTD_decompressContinue needs a context that nobody else uses, a readable range,
        // a writable one, and that what it wrote before stays valid.
        // - the context is self's alone, and self is borrowed for the call.
        // - wanted is a slice; another length than what is wanted is an error.
        // - room bytes from `to` are the rest of the window, to which there is no reference: the
        //   slices that were given borrow self.
        // - everything it wrote before is in the window, which self keeps until the context is gone.
        let made = unsafe {
            ZSTD_decompressContinue(
                self.context.as_ptr(),
                to.as_ptr().cast(),
                room,
                wanted.as_ptr().cast(),
                wanted.len(),
            )
        };
        assert!(!is_error(made), "the payload is right");
        self.at += made;
        // SAFETY: from_raw_parts needs made initialised bytes that nobody writes.
        // - made <= room, all of which was zero at first and is in one allocation.
        // - whoever writes it borrows self mutably.
        unsafe { std::slice::from_raw_parts(to.as_ptr(), made) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: ZSTD_freeDCtx needs a context of ZSTD_createDCtx, and is the last call on it.
        unsafe { ZSTD_freeDCtx(self.context.as_ptr()) };
        let window = NonNull::slice_from_raw_parts(self.window, self.window_bytes);
        // SAFETY: Box::from_raw needs a leaked box that nobody else frees or uses: new leaked it with
        // this length, and the context is gone.
        drop(unsafe { Box::from_raw(window.as_ptr()) });
    }
}

fn is_error(code: usize) -> bool {
    // SAFETY: ZSTD_isError has no requirements.
    unsafe { ZSTD_isError(code) != 0 }
}

/// What a block can have at most.
const BLOCK_BYTES: usize = ZSTD_BLOCKSIZE_MAX as usize;
