//! Received and written bits: as packets name pages, one after the other or scattered, and in ranges,
//! as a mapped-ram file has them; for the first time and again. Bytes are those of the pages.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use landfall_pagepool::{Hugepages, Pool, RamBlock, RamBlocks};

use crate::{PAGE, config, request};

/// Sets each kind of bits of `bytes` of guest RAM, and looks at all of them after every first time.
pub(crate) fn bits(criterion: &mut Criterion, bytes: u64) {
    let pool = Pool::open(&config(Hugepages::Off, 0), &|_, _| {}).expect("no memory is asked for");
    let fresh = || pool.sketch(&[request(bytes)], PAGE as u32).expect("address space");
    let pages = bytes / PAGE;
    let adjoining: Vec<u64> = (0..pages).collect();
    // A permutation: the factor is odd, the number of pages a power of two.
    let scattered: Vec<u64> = (0..pages).map(|page| page * 0x9e37_79b1 % pages).collect();
    for Bits { name, tells, each, range, is_set } in [RECEIVED, WRITTEN] {
        let ram = fresh();
        assert!((0..pages).all(|page| !is_set(&ram[0], page)), "what is fresh has no bits");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes));
        for (name, order, set) in [
            ("adjoining", &adjoining, each),
            ("scattered", &scattered, each),
            ("ranges", &adjoining, range),
        ] {
            let set_all = |ram: &RamBlocks| -> u64 {
                order.chunks(PACKET_PAGES).map(|packet| set(&ram[0], black_box(packet))).sum()
            };
            let first = || {
                let ram = fresh();
                let start = Instant::now();
                let new = set_all(&ram);
                let elapsed = start.elapsed();
                assert_eq!(new, if tells { pages } else { 0 }, "each page is new once");
                assert!((0..pages).all(|page| is_set(&ram[0], page)), "all are set");
                (ram, elapsed)
            };
            group.bench_function(format!("{name}, first"), |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| first().1).sum::<Duration>());
            });
            let (ram, _) = first();
            group.bench_function(format!("{name}, again"), |bencher| {
                bencher.iter(|| assert_eq!(set_all(&ram), 0, "no page is new again"));
            });
        }
        group.finish();
    }
}

/// A kind of bits, and what sets and reads them.
struct Bits {
    name: &'static str,
    /// Whether one learns how many were new; else it is 0.
    tells: bool,
    /// Sets those of a packet's pages.
    each: fn(&RamBlock, &[u64]) -> u64,
    /// The same, of pages that adjoin.
    range: fn(&RamBlock, &[u64]) -> u64,
    is_set: fn(&RamBlock, u64) -> bool,
}

const RECEIVED: Bits = Bits {
    name: "received-bits",
    tells: true,
    each: |ram, pages| ram.mark_received(pages.iter().copied()),
    range: |ram, pages| ram.mark_received_range(pages[0]..pages[0] + pages.len() as u64),
    is_set: RamBlock::is_received,
};

const WRITTEN: Bits = Bits {
    name: "written-bits",
    tells: false,
    each: |ram, pages| {
        ram.lend_each(pages.iter().copied());
        0
    },
    range: |ram, pages| {
        ram.lend(pages[0]..pages[0] + pages.len() as u64);
        0
    },
    is_set: RamBlock::is_written,
};

const PACKET_PAGES: usize = 128;
