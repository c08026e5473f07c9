//! Clearing: pages that were written are said to be zero; and all of it is taken back at the end of a
//! run. What should be zero is read.

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use landfall_pagepool::{Hugepages, Pool, RamBlocks, ZeroOutcome};

use crate::{PAGE, config, request};

/// Clears `bytes` of guest RAM, all of them written before, both ways.
pub(crate) fn clearing(criterion: &mut Criterion, bytes: u64) {
    let mut pool = Pool::open(&config(Hugepages::Off, bytes), &|_, _| {}).expect("memory");
    let mut group = criterion.benchmark_group("clearing");
    group.throughput(Throughput::Bytes(bytes));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("announce-zero", |bencher| {
        bencher.iter_custom(|times| {
            let ram = carve(&mut pool, bytes);
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
                assert_all_zero(&ram);
            }
            pool.reclaim(ram);
            spent
        });
    });
    group.bench_function("reclaim", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            let mut ram = carve(&mut pool, bytes);
            for _ in 0..times {
                write_all(&ram);
                let start = Instant::now();
                let reclaimed = pool.reclaim(ram);
                spent += start.elapsed();
                assert_eq!(reclaimed.bytes, bytes, "all of it was written");
                // The same memory: a run gets what the one before gave back.
                ram = carve(&mut pool, bytes);
                assert_eq!(ram.late_bytes(), 0, "no memory came on top");
                assert_all_zero(&ram);
            }
            pool.reclaim(ram);
            spent
        });
    });
    group.finish();
}

fn carve(pool: &mut Pool, bytes: u64) -> RamBlocks {
    pool.carve(&[request(bytes)], PAGE as u32, &|_, _| {}).expect("memory")
}

fn write_all(ram: &RamBlocks) {
    ram[0].lend(0..ram[0].pages());
    for page in 0..ram[0].pages() {
        ram[0].write(page * PAGE, &[0xa5; PAGE as usize]);
    }
}

/// Reads all of it: no bit that says so is believed.
fn assert_all_zero(ram: &RamBlocks) {
    let mut found = [0; PAGE as usize];
    for page in 0..ram[0].pages() {
        ram[0].read(page * PAGE, &mut found);
        assert!(found == [0; PAGE as usize], "page {page} is not zero");
    }
}
