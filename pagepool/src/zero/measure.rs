//! Which kernel is the fastest here, by measurement: the widest often is not.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::ZeroKernel;

/// How long a kernel takes for a 4 KiB page in the level 2 cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTiming {
    /// The kernel's name.
    pub name: &'static str,
    /// ns for a zero page, which has to be read to its end.
    pub zero_page_ns: f64,
    /// ns for a page whose first word is not zero.
    pub content_page_ns: f64,
}

/// The kernel chosen, and what was measured of all.
pub(crate) struct Choice {
    pub(crate) kernel: ZeroKernel,
    pub(crate) timings: Vec<KernelTiming>,
}

/// The choice, measured once in the life of the process; takes about half a millisecond.
pub(crate) fn choice() -> &'static Choice {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    CHOICE.get_or_init(measure)
}

fn measure() -> Choice {
    let kernels = ZeroKernel::available();
    // Written, each page of it: what is only read is the kernel's one zero page again and again, and
    // that stands in the level 1 cache.
    let mut memory = vec![1u8; BUFFER_BYTES + PAGE_BYTES];
    // As guest RAM lies: wide loads that straddle cache lines cost the widest kernels the most.
    let aligned = memory.as_ptr().align_offset(PAGE_BYTES);
    let buffer = &mut memory[aligned..aligned + BUFFER_BYTES];
    black_box(&mut *buffer).fill(0);
    let zero_page_ns = page_ns(&kernels, buffer);
    buffer.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    let content_page_ns = page_ns(&kernels, buffer);
    let timings: Vec<KernelTiming> = kernels
        .iter()
        .zip(zero_page_ns.into_iter().zip(content_page_ns))
        .map(|(kernel, (zero_page_ns, content_page_ns))| KernelTiming {
            name: kernel.name(),
            zero_page_ns,
            content_page_ns,
        })
        .collect();
    // Zero pages and pages with content count the same: the first come when the source says zero of
    // a page that was written before, the second when it sends one in full.
    let cost = |timing: &KernelTiming| timing.zero_page_ns + timing.content_page_ns;
    let (kernel, _) = kernels
        .iter()
        .zip(&timings)
        .min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)))
        .expect("the scalar kernel is always there");
    Choice { kernel: *kernel, timings }
}

/// ns a page of each kernel, which take turns: a machine that slows down slows down all. The best
/// of several passes, for what disturbs a pass only makes it longer.
fn page_ns(kernels: &[ZeroKernel], buffer: &[u8]) -> Vec<f64> {
    let pass = |kernel: &ZeroKernel| {
        let start = Instant::now();
        for page in buffer.chunks_exact(PAGE_BYTES) {
            black_box(kernel.is_zero_slice(black_box(page)));
        }
        start.elapsed()
    };
    let mut best = vec![Duration::MAX; kernels.len()];
    for _ in 0..PASSES {
        for (kernel, best) in kernels.iter().zip(&mut best) {
            *best = pass(kernel).min(*best);
        }
    }
    let pages = (BUFFER_BYTES / PAGE_BYTES) as f64;
    best.into_iter().map(|best| best.as_nanos() as f64 / pages).collect()
}

const PAGE_BYTES: usize = 4096;
/// Beyond any level 1 data cache, within any level 2 cache of a server.
const BUFFER_BYTES: usize = 256 * 1024;
/// The first passes warm the cache and the CPU's wide units.
const PASSES: usize = 16;

#[cfg(test)]
mod tests {
    use super::{choice, measure};
    use crate::ZeroKernel;

    #[test]
    fn the_choice_is_one_of_the_measured_and_quickly_made() {
        let start = std::time::Instant::now();
        let choice = measure();
        println!("measured in {:?}: {:?}", start.elapsed(), choice.timings);
        assert_eq!(choice.timings.len(), ZeroKernel::available().len());
        assert!(choice.timings.iter().any(|timing| timing.name == choice.kernel.name()));
        println!("chosen: {:?}", choice.kernel);
    }

    #[test]
    fn the_process_chooses_once() {
        assert!(std::ptr::eq(choice(), choice()));
    }
}
