//! Guest RAM: received and written bits, clearing, and prefaulting by kind of memory and number of
//! threads.

mod bits;
mod clearing;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let bytes = if measuring { 512 << 20 } else { 4 << 20 };
    bits::bits(&mut criterion, bytes);
    clearing::clearing(&mut criterion, bytes);
    prefault(&mut criterion, bytes);
    criterion.final_summary();
}

/// A pool opened, its memory mapped and given its pages; closing it is not counted.
fn prefault(criterion: &mut Criterion, bytes: u64) {
    let cpus: Vec<usize> =
        core_affinity::get_core_ids().expect("CPUs").into_iter().map(|cpu| cpu.id).collect();
    let mut group = criterion.benchmark_group("prefault");
    group.throughput(Throughput::Bytes(bytes));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for (name, hugepages) in
        [("4K", Hugepages::Off), ("THP", Hugepages::Thp), ("2M", Hugepages::Huge2M)]
    {
        for threads in [1, 2] {
            let config = MemoryConfig {
                prefault_cpus: cpus.iter().copied().cycle().take(threads).collect(),
                ..config(hugepages, bytes)
            };
            if let Err(error) = Pool::open(&config, &|_, _| {}) {
                println!("prefault/{name}: {error}");
                continue;
            }
            group.bench_function(format!("{name}, {threads} threads"), |bencher| {
                bencher.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        let start = Instant::now();
                        let pool = Pool::open(&config, &|_, _| {}).expect("memory, as before");
                        spent += start.elapsed();
                        assert!(pool.report().bytes >= bytes, "all of it is there");
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

fn config(hugepages: Hugepages, pool_bytes: u64) -> MemoryConfig {
    MemoryConfig { pool_bytes, hugepages, ..MemoryConfig::default() }
}

fn request(bytes: u64) -> BlockRequest {
    BlockRequest { name: BlockName::parse(b"mem").expect("a name"), bytes }
}

const PAGE: u64 = 4096;
