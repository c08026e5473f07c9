//! The SSE2 kernel: 8 vectors of 16 bytes a step.

use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_setzero_si128,
};

use super::kernel::{STEP_BYTES, ZeroKernel};

/// The kernel, where the CPU has SSE2.
pub(super) fn kernel() -> Option<ZeroKernel> {
    is_x86_feature_detected!("sse2").then(|| {
        // SAFETY: `scan` is compiled for SSE2, which the CPU has (detected above).
        unsafe { ZeroKernel::new("sse2", scan) }
    })
}

/// A step of 128 bytes at a time, stopping at the first that is not zero.
///
/// # Safety
/// As `Scan` demands.
#[target_feature(enable = "sse2")]
unsafe fn scan(first: *const u8, len: usize) -> bool {
    for at in (0..len).step_by(VECTORS * VECTOR_BYTES) {
        let step = first.wrapping_add(at).cast::<__m128i>();
        // SAFETY: load needs 16 readable bytes at its vector.
        // - len is a multiple of the step (Scan), so all vectors of the step are inside.
        let mut any = unsafe { load(step, 0) };
        for index in 1..VECTORS {
            // SAFETY: as above; index < VECTORS.
            any = _mm_or_si128(any, unsafe { load(step, index) });
        }
        if _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) != 0xffff {
            return false;
        }
    }
    true
}

/// # Safety
/// The `index`-th vector from `step` on is readable.
#[target_feature(enable = "sse2")]
#[inline]
unsafe fn load(step: *const __m128i, index: usize) -> __m128i {
    // SAFETY: the load needs 16 readable bytes, unaligned: the caller's promise.
    unsafe { _mm_loadu_si128(step.wrapping_add(index)) }
}

const VECTORS: usize = 8;
const VECTOR_BYTES: usize = size_of::<__m128i>();
const _: () = assert!(STEP_BYTES.is_multiple_of(VECTORS * VECTOR_BYTES));
