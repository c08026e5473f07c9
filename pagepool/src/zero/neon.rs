//! The NEON kernel: 8 vectors of 16 bytes a step.

use std::arch::aarch64::{uint8x16_t, vld1q_u8, vmaxvq_u8, vorrq_u8};
use std::arch::is_aarch64_feature_detected;

use super::kernel::{STEP_BYTES, ZeroKernel};

/// The kernel, where the CPU has NEON.
pub(super) fn kernel() -> Option<ZeroKernel> {
    is_aarch64_feature_detected!("neon").then(|| {
        // SAFETY: `scan` is compiled for NEON, which the CPU has (detected above).
        unsafe { ZeroKernel::new("neon", scan) }
    })
}

/// A step of 128 bytes at a time, stopping at the first that is not zero.
///
/// # Safety
/// As `Scan` demands.
#[target_feature(enable = "neon")]
unsafe fn scan(first: *const u8, len: usize) -> bool {
    for at in (0..len).step_by(VECTORS * VECTOR_BYTES) {
        let step = first.wrapping_add(at);
        // SAFETY: load needs 16 readable bytes at its vector.
        // - len is a multiple of the step (Scan), so all vectors of the step are inside.
        let mut any = unsafe { load(step, 0) };
        for index in 1..VECTORS {
            // SAFETY: as above; index < VECTORS.
            any = vorrq_u8(any, unsafe { load(step, index) });
        }
        if vmaxvq_u8(any) != 0 {
            return false;
        }
    }
    true
}

/// # Safety
/// The `index`-th vector from `step` on is readable.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(step: *const u8, index: usize) -> uint8x16_t {
    // SAFETY: the load needs 16 readable bytes, unaligned: the caller's promise.
    unsafe { vld1q_u8(step.wrapping_add(index * VECTOR_BYTES)) }
}

const VECTORS: usize = 8;
const VECTOR_BYTES: usize = size_of::<uint8x16_t>();
const _: () = assert!(STEP_BYTES.is_multiple_of(VECTORS * VECTOR_BYTES));
