//! Guest RAM: received and written bits, clearing, and prefaulting by kind of memory and number of
//! threads.

mod bits;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use landfall_pagepool::{
    BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks, ZeroOutcome,
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let bytes = if measuring { 512 << 20 } else { 4 << 20 };
    bits::bits(&mut criterion, bytes);
    clearing(&mut criterion, bytes);
    prefault(&mut criterion, bytes);
    criterion.final_summary();
}

/// Pages that were written are said to be zero; and all of it taken back at the end of a run.
fn clearing(criterion: &mut Criterion, bytes: u64) {
    let mut pool = Pool::open(&config(Hugepages::Off, bytes), &|_, _| {}).expect("memory");
    let mut group = criterion.benchmark_group("clearing");
    group.throughput(Throughput::Bytes(bytes));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("announce-zero", |bencher| {
        bencher.iter_custom(|times| {
            let ram = pool.carve(&[request(bytes)], PAGE as u32, &|_, _| {}).expect("memory");
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                write_all(&ram);
                let start = Instant::now();
                let pages = 0..bytes / PAGE;
                let cleared =
                    pages.filter(|&page| ram[0].announce_zero(page) == ZeroOutcome::Cleared);
                let cleared = cleared.count() as u64;
                spent += start.elapsed();
                assert_eq!(cleared, bytes / PAGE, "each page had content");
                assert!(ram[0].is_zero(0) && ram[0].is_zero(bytes / PAGE - 1));
            }
            pool.reclaim(ram);
            spent
        });
    });
    group.bench_function("reclaim", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let ram = pool.carve(&[request(bytes)], PAGE as u32, &|_, _| {}).expect("memory");
                write_all(&ram);
                let start = Instant::now();
                let reclaimed = pool.reclaim(ram);
                spent += start.elapsed();
                assert_eq!(reclaimed.bytes, bytes, "all of it was written");
            }
            spent
        });
    });
    group.finish();
}

fn write_all(ram: &RamBlocks) {
    ram[0].lend(0..ram[0].pages());
    for page in 0..ram[0].pages() {
        ram[0].write(page * PAGE, &[0xa5; PAGE as usize]);
    }
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
