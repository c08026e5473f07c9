//! Guest RAM: received and written bits, clearing, and prefaulting by kind of memory and number of
//! threads.

mod bits;
mod clearing;
mod mapped;
mod prefault;

use criterion::Criterion;
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let bytes = if measuring { 512 << 20 } else { 4 << 20 };
    bits::bits(&mut criterion, bytes);
    clearing::clearing(&mut criterion, bytes);
    prefault::prefault(&mut criterion, bytes);
    criterion.final_summary();
}

fn config(hugepages: Hugepages, pool_bytes: u64) -> MemoryConfig {
    MemoryConfig { pool_bytes, hugepages, ..MemoryConfig::default() }
}

fn request(bytes: u64) -> BlockRequest {
    BlockRequest { name: BlockName::parse(b"mem").expect("a name"), bytes }
}

const PAGE: u64 = 4096;
