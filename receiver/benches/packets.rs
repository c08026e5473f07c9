//! Headers of multifd packets: parsed and checked, and their pages made runs. Bytes are those of the
//! pages that a header tells of.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use landfall_receiver::place;
use landfall_receiver::wire::{PacketHeader, PageBytes};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let adjoining: Vec<u64> = (0..PAGES).collect();
    // Every fourth page is missing, as where it was zero.
    let thinned: Vec<u64> = (0..PAGES).map(|page| page + page / 3).collect();
    // A permutation: the factor is odd, the number of pages a power of two.
    let permuted: Vec<u64> = (0..PAGES).map(|page| page * 37 % PAGES).collect();
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Bytes(PAGES * PAGE));
    for (name, pages) in [("adjoining", adjoining), ("thinned", thinned), ("permuted", permuted)] {
        let bytes = header(&pages);
        let offsets: Vec<u64> = pages.iter().map(|page| page * PAGE).collect();
        group.bench_function(format!("header/{name}"), |bencher| {
            bencher.iter(|| {
                let header = PacketHeader::parse(black_box(&bytes), PageBytes::DEFAULT);
                let header = header.expect("a right header");
                header.check_offsets(2 * PAGES * PAGE, PageBytes::DEFAULT).expect("inside");
                assert_eq!(
                    (header.normal_count(), header.block_name()),
                    (pages.len(), &b"mem"[..])
                );
            });
        });
        let header = PacketHeader::parse(&bytes, PageBytes::DEFAULT).expect("a right header");
        assert!(header.normal_offsets().eq(offsets.iter().copied()));
        let mut runs = Vec::with_capacity(pages.len());
        group.bench_function(format!("runs/{name}"), |bencher| {
            bencher.iter(|| {
                place::merge(black_box(header).normal_offsets(), PAGE, &mut runs);
                assert_eq!(runs.iter().map(|run| run.bytes).sum::<u64>(), PAGES * PAGE);
            });
        });
        place::merge(header.normal_offsets(), PAGE, &mut runs);
        let placed =
            runs.iter().flat_map(|run| (run.offset..run.offset + run.bytes).step_by(PAGE as usize));
        assert!(placed.eq(offsets), "the runs are the pages in the packet's order");
    }
    group.finish();
    criterion.final_summary();
}

/// As QEMU writes it: 320 bytes and 128 offsets.
fn header(normal: &[u64]) -> Vec<u8> {
    let count = normal.len() as u32;
    let words = [0x1122_3344, 1, 0, PAGES as u32, count, count * PAGE as u32];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
    bytes.resize(64, 0);
    bytes.extend(b"mem");
    bytes.resize(320, 0);
    bytes.extend(normal.iter().flat_map(|page| (page * PAGE).to_be_bytes()));
    bytes
}

const PAGE: u64 = 4096;
const PAGES: u64 = 128;
