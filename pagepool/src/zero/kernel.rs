//! A zero kernel as a value: holding one is the proof that the CPU can run it.

use std::fmt;

use crate::Span;

/// A way to find out whether a page is zero. Only made on a CPU that has the instructions.
#[derive(Clone, Copy)]
pub struct ZeroKernel {
    name: &'static str,
    scan: Scan,
}

/// Whether the `len` bytes from `first` on are all zero.
///
/// # Safety
/// - `first` is readable for `len` bytes; no alignment is needed.
/// - `len` is a multiple of [`STEP_BYTES`].
/// - The CPU has the instruction set that the function is compiled for.
pub(super) type Scan = unsafe fn(first: *const u8, len: usize) -> bool;

/// The most bytes any kernel reads in one step; every length is a multiple of it.
pub(super) const STEP_BYTES: usize = 256;

impl ZeroKernel {
    /// A kernel by its function.
    ///
    /// # Safety
    /// The CPU has the instruction set that `scan` is compiled for.
    pub(super) unsafe fn new(name: &'static str, scan: Scan) -> Self {
        Self { name, scan }
    }

    /// The name in reports: `scalar`, `sse2`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Whether guest RAM is zero there. Somebody writing it meanwhile makes the answer either.
    ///
    /// # Panics
    /// If the length is no multiple of 4096: our own bug.
    #[inline]
    pub fn is_zero(self, span: Span<'_>) -> bool {
        assert_whole_pages(span.len());
        // Most pages with content have some in their first word: one cache line instead of a
        // step's four, and no call.
        // SAFETY: read_unaligned needs 8 readable bytes; any bits are a u64.
        // - the span is mapped readable for its length, at least 4096 (assert).
        if unsafe { span.as_ptr().cast::<u64>().read_unaligned() } != 0 {
            return false;
        }
        // SAFETY: Scan needs len readable bytes, a multiple of a step, and the CPU.
        // - the span is mapped readable for its length.
        // - 4096 is a multiple of STEP_BYTES (below), the length one of 4096 (assert).
        // - the CPU has it: who made this value promised so.
        unsafe { (self.scan)(span.as_ptr(), span.len()) }
    }

    /// Whether ordinary memory is zero.
    ///
    /// # Panics
    /// If the length is 0 or no multiple of 4096: our own bug.
    pub fn is_zero_slice(self, bytes: &[u8]) -> bool {
        assert_whole_pages(bytes.len());
        // SAFETY: Scan needs len readable bytes, a multiple of a step, and the CPU.
        // - a slice is readable for its length.
        // - 4096 is a multiple of STEP_BYTES (below), the length one of 4096 (assert).
        // - the CPU has it: who made this value promised so.
        unsafe { (self.scan)(bytes.as_ptr(), bytes.len()) }
    }
}

impl fmt::Debug for ZeroKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[inline]
fn assert_whole_pages(len: usize) {
    assert!(len != 0 && len.is_multiple_of(PAGE_BYTES_MIN), "{len} bytes are no whole pages");
}

const PAGE_BYTES_MIN: usize = 4096;
const _: () = assert!(PAGE_BYTES_MIN.is_multiple_of(STEP_BYTES));
