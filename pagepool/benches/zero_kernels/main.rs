//! Zero kernels: each of this CPU, from the caches and from memory, over zero pages, pages with
//! content and pages that are almost zero; and the one that is chosen at start against the loops
//! that anybody would write first.

mod contest;
mod contestants;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "asks for instruction sets: docs/unsafe.md#zero-contestants")]
mod x86_64;

use std::time::Duration;

use contestants::Page;
use criterion::{Criterion, SamplingMode, Throughput};
use landfall_pagepool::{MemoryConfig, Pool, ZeroKernel};
use memmap2::{Advice, MmapMut};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // Far beyond any cache; in the test suite only large enough for its places to differ.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let (bytes, turns) = if measuring { (512 << 20, 15) } else { (1 << 20, 1) };
    let mut map = MmapMut::map_anon(bytes).expect("memory");
    // As guest RAM has them; a host without gives both sides the small ones.
    let _ = map.advise(Advice::HugePage);
    for (content, at) in [("zero", None), ("content", Some(0)), ("almost-zero", Some(4095))] {
        // Written, so that it is memory and not the kernel's one zero page.
        map.fill(1);
        map.fill(0);
        let (pages, _) = map.as_chunks_mut::<4096>();
        if let Some(at) = at {
            pages.iter_mut().for_each(|page| page[at] = 1);
        }
        for (place, count) in places(pages.len()) {
            every_kernel(&mut criterion, &format!("{content}/{place}"), &pages[..count]);
        }
    }
    map.fill(0);
    let (pages, _) = map.as_chunks::<4096>();
    let pool = Pool::open(&MemoryConfig::default(), &|_, _| {}).expect("no memory is asked for");
    for (place, count) in places(pages.len()) {
        let passes = (pages.len() / count / 4).max(1);
        contest::hold(place, pool.zero_kernel(), &pages[..count], passes, turns);
    }
    criterion.final_summary();
}

/// 32 KiB, 1 MiB, and all there is.
fn places(all: usize) -> [(&'static str, usize); 3] {
    [("L1", 8), ("L2", 256.min(all)), ("memory", all)]
}

fn every_kernel(criterion: &mut Criterion, name: &str, pages: &[Page]) {
    let mut group = criterion.benchmark_group(format!("zero-kernel/{name}"));
    group.throughput(Throughput::Bytes(size_of_val(pages) as u64));
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let expected = pages.iter().filter(|page| page.iter().all(|&byte| byte == 0)).count();
    for kernel in ZeroKernel::available() {
        group.bench_function(kernel.name(), |bencher| {
            bencher.iter(|| {
                let zero = pages.iter().filter(|page| kernel.is_zero_slice(&page[..])).count();
                assert_eq!(zero, expected, "{kernel:?}");
            });
        });
    }
    group.finish();
}
