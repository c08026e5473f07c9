//! Contestants of x86-64: SSE2 by hand, the others as the compiler makes them.

use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_setzero_si128};

use crate::contestants::{Contestant, Page, plain, sum};

/// 16 bytes a step, each looked at before the next.
pub(crate) const SSE2_LOOP: Contestant = Contestant { name: "sse2 loop", is_zero: by_sse2 };

/// What the compiler makes of plain Rust for the instruction set that a kernel is named after, with
/// a look after so many bytes; none where the CPU has no such set.
pub(crate) fn compiled(kernel: &str) -> Vec<Contestant> {
    let of = |name, is_zero| Contestant { name, is_zero };
    match kernel {
        "sse2" => vec![
            of("compiled, 128 B", plain::<128>),
            of("compiled, 256 B", plain::<256>),
            of("compiled, 512 B", plain::<512>),
            of("compiled, 1 KiB", plain::<1024>),
            of("compiled, 4 KiB", plain::<4096>),
        ],
        "avx2" if is_x86_feature_detected!("avx2") => vec![
            of("compiled, 128 B", by_avx2::<128>),
            of("compiled, 256 B", by_avx2::<256>),
            of("compiled, 512 B", by_avx2::<512>),
            of("compiled, 1 KiB", by_avx2::<1024>),
            of("compiled, 4 KiB", by_avx2::<4096>),
        ],
        "avx512" if is_x86_feature_detected!("avx512f") => vec![
            of("compiled, 128 B", by_avx512::<128>),
            of("compiled, 256 B", by_avx512::<256>),
            of("compiled, 512 B", by_avx512::<512>),
            of("compiled, 1 KiB", by_avx512::<1024>),
            of("compiled, 4 KiB", by_avx512::<4096>),
        ],
        _ => Vec::new(),
    }
}

/// [`SUM`](crate::contestants::SUM) with wider words.
pub(crate) fn sums() -> Vec<Contestant> {
    let mut sums = Vec::new();
    if is_x86_feature_detected!("avx2") {
        sums.push(Contestant { name: "sum, avx2", is_zero: sum_by_avx2 });
    }
    if is_x86_feature_detected!("avx512f") {
        sums.push(Contestant { name: "sum, avx512", is_zero: sum_by_avx512 });
    }
    sums
}

fn by_sse2(page: &Page) -> bool {
    #[target_feature(enable = "sse2")]
    fn compiled(page: &Page) -> bool {
        let (words, _) = page.as_chunks::<8>();
        let (steps, _) = words.as_chunks::<2>();
        for [low, high] in steps {
            let step = _mm_set_epi64x(i64::from_ne_bytes(*high), i64::from_ne_bytes(*low));
            if _mm_movemask_epi8(_mm_cmpeq_epi8(step, _mm_setzero_si128())) != 0xffff {
                return false;
            }
        }
        true
    }
    // SAFETY: the CPU must have SSE2: every one of this architecture does.
    unsafe { compiled(page) }
}

fn by_avx2<const BYTES: usize>(page: &Page) -> bool {
    #[target_feature(enable = "avx2")]
    fn compiled<const BYTES: usize>(page: &Page) -> bool {
        plain::<BYTES>(page)
    }
    // SAFETY: the CPU must have AVX2: who made this contestant has asked.
    unsafe { compiled::<BYTES>(page) }
}

fn by_avx512<const BYTES: usize>(page: &Page) -> bool {
    #[target_feature(enable = "avx512f")]
    fn compiled<const BYTES: usize>(page: &Page) -> bool {
        plain::<BYTES>(page)
    }
    // SAFETY: the CPU must have AVX-512F: who made this contestant has asked.
    unsafe { compiled::<BYTES>(page) }
}

fn sum_by_avx2(page: &Page) -> bool {
    #[target_feature(enable = "avx2")]
    fn compiled(page: &Page) -> u64 {
        sum(page)
    }
    // SAFETY: the CPU must have AVX2: who made this contestant has asked.
    unsafe { compiled(page) == 0 }
}

fn sum_by_avx512(page: &Page) -> bool {
    #[target_feature(enable = "avx512f")]
    fn compiled(page: &Page) -> u64 {
        sum(page)
    }
    // SAFETY: the CPU must have AVX-512F: who made this contestant has asked.
    unsafe { compiled(page) == 0 }
}
