//! What every page goes through, without an allocation.

use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, ZeroOutcome};

#[test]
fn the_page_path_does_not_allocate() {
    let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
    let mut pool = Pool::open(&config, &|_, _| {}).expect("pool");
    let request =
        BlockRequest { name: BlockName::try_from("pc.ram").expect("a name"), bytes: 4 << 20 };
    let blocks = pool.carve(&[request], 4096, &|_, _| {}).expect("memory");
    let content = [0xabu8; 4096];
    let mut seen = [0u8; 4096];
    let counted = allocation_counter::measure(|| {
        let block = &blocks[blocks.find(b"pc.ram").expect("announced")];
        for first in (0..block.pages()).step_by(128) {
            let pages = first..first + 128;
            assert!(block.span(first * 4096, 128 * 4096).is_some());
            assert!(block.span(first * 4096, 1 << 40).is_none());
            block.lend(pages.clone());
            for page in pages.clone() {
                block.write(page * 4096, &content);
            }
            assert_eq!(block.mark_received(pages.clone()), 128);
            for page in pages {
                assert!(!block.is_zero(page));
                assert_eq!(block.announce_zero(page), ZeroOutcome::Cleared);
                block.read(page * 4096, &mut seen);
                assert_eq!(seen, [0; 4096]);
            }
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn a_sketch_of_4_tib_costs_no_memory_and_counts_like_the_real_thing() {
    let config = MemoryConfig { max_ram_bytes: Some(1 << 20), ..MemoryConfig::default() };
    let pool = Pool::open(&config, &|_, _| {}).expect("pool");
    let request =
        BlockRequest { name: BlockName::try_from("pc.ram").expect("a name"), bytes: 4 << 40 };
    let blocks = pool.sketch(&[request], 4096).expect("address space");
    let last = blocks[0].pages() - 1;
    assert_eq!(blocks[0].announce_zero(last), ZeroOutcome::AlreadyZero);
    assert_eq!(blocks[0].mark_received([last, last].into_iter()), 1);
    assert_eq!(blocks.received_count(), 1);
}
