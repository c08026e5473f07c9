//! The meaning of all zero kernels, in plain words.

use super::kernel::ZeroKernel;

/// The scalar kernel; every CPU has it.
pub(super) fn kernel() -> ZeroKernel {
    // SAFETY: `scan` is compiled for the baseline of the target.
    unsafe { ZeroKernel::new("scalar", scan) }
}

/// Word by word, stopping at the first that is not zero.
///
/// # Safety
/// As `Scan` demands.
unsafe fn scan(first: *const u8, len: usize) -> bool {
    (0..len / 8).all(|index| {
        let word = first.cast::<u64>().wrapping_add(index);
        // SAFETY: read_unaligned needs 8 readable bytes.
        // - index < len / 8, and `first` is readable for len bytes (Scan).
        unsafe { word.read_unaligned() == 0 }
    })
}
