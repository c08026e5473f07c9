//! The AVX-512 kernel: 4 vectors of 64 bytes a step.

use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_or_si512, _mm512_test_epi64_mask};

use super::kernel::{STEP_BYTES, ZeroKernel};

/// The kernel, where the CPU has AVX-512F.
pub(super) fn kernel() -> Option<ZeroKernel> {
    is_x86_feature_detected!("avx512f").then(|| {
        // SAFETY: `scan` is compiled for AVX-512F, which the CPU has (detected above).
        unsafe { ZeroKernel::new("avx512", scan) }
    })
}

/// A step of 256 bytes at a time, stopping at the first that is not zero.
///
/// # Safety
/// As `Scan` demands.
#[target_feature(enable = "avx512f")]
unsafe fn scan(first: *const u8, len: usize) -> bool {
    for at in (0..len).step_by(VECTORS * VECTOR_BYTES) {
        let step = first.wrapping_add(at).cast::<__m512i>();
        // SAFETY: load needs 64 readable bytes at its vector.
        // - len is a multiple of the step (Scan), so all vectors of the step are inside.
        let mut any = unsafe { load(step, 0) };
        for index in 1..VECTORS {
            // SAFETY: as above; index < VECTORS.
            any = _mm512_or_si512(any, unsafe { load(step, index) });
        }
        if _mm512_test_epi64_mask(any, any) != 0 {
            return false;
        }
    }
    true
}

/// # Safety
/// The `index`-th vector from `step` on is readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load(step: *const __m512i, index: usize) -> __m512i {
    // SAFETY: the load needs 64 readable bytes, unaligned: the caller's promise.
    unsafe { _mm512_loadu_si512(step.wrapping_add(index)) }
}

const VECTORS: usize = 4;
const VECTOR_BYTES: usize = size_of::<__m512i>();
const _: () = assert!(STEP_BYTES.is_multiple_of(VECTORS * VECTOR_BYTES));
