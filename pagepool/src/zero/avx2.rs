//! The AVX2 kernel: 8 vectors of 32 bytes a step.

use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_or_si256, _mm256_testz_si256};

use super::kernel::{STEP_BYTES, ZeroKernel};

/// The kernel, where the CPU has AVX2.
pub(super) fn kernel() -> Option<ZeroKernel> {
    is_x86_feature_detected!("avx2").then(|| {
        // SAFETY: `scan` is compiled for AVX2, which the CPU has (detected above).
        unsafe { ZeroKernel::new("avx2", scan) }
    })
}

/// A step of 256 bytes at a time, stopping at the first that is not zero.
///
/// # Safety
/// As `Scan` demands.
#[target_feature(enable = "avx2")]
unsafe fn scan(first: *const u8, len: usize) -> bool {
    for at in (0..len).step_by(VECTORS * VECTOR_BYTES) {
        let step = first.wrapping_add(at).cast::<__m256i>();
        // SAFETY: load needs 32 readable bytes at its vector.
        // - len is a multiple of the step (Scan), so all vectors of the step are inside.
        let mut any = unsafe { load(step, 0) };
        for index in 1..VECTORS {
            // SAFETY: as above; index < VECTORS.
            any = _mm256_or_si256(any, unsafe { load(step, index) });
        }
        if _mm256_testz_si256(any, any) == 0 {
            return false;
        }
    }
    true
}

/// # Safety
/// The `index`-th vector from `step` on is readable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(step: *const __m256i, index: usize) -> __m256i {
    // SAFETY: the load needs 32 readable bytes, unaligned: the caller's promise.
    unsafe { _mm256_loadu_si256(step.wrapping_add(index)) }
}

const VECTORS: usize = 8;
const VECTOR_BYTES: usize = size_of::<__m256i>();
const _: () = assert!(STEP_BYTES.is_multiple_of(VECTORS * VECTOR_BYTES));
