//! The life of a pool: opened, carved, written, taken back, carved again.

use landfall_pagepool::{
    Backend, BlockName, BlockRequest, Hugepages, MemoryConfig, Numa, Pool, PoolError, RamBlocks,
    ZeroOutcome,
};

#[test]
fn a_pool_holds_the_blocks_without_mapping_more() {
    let mut pool = pool(64 << 20, Hugepages::Auto);
    let before = pool.report();
    println!("{before}");
    assert!(before.bytes >= 64 << 20);
    let blocks = carve(&mut pool, &[("pc.ram", 48 << 20), ("vga", 1 << 20), ("bios", 256 << 10)]);
    assert_eq!((blocks.late_bytes(), blocks.late_ns()), (0, 0));
    assert_eq!(pool.report().bytes, before.bytes);
    assert_aligned_and_apart(&blocks);
}

#[test]
fn what_a_pool_is_short_of_is_mapped_at_that_moment_and_timed() {
    let mut pool = pool(8 << 20, Hugepages::Off);
    let sizes = [("bios", 256 << 10), ("pc.ram", 32 << 20), ("dimm", 8 << 20)];
    let told = std::sync::Mutex::new(Vec::new());
    let blocks = pool
        .carve(&requests(&sizes), 4096, &|done, total| told.lock().unwrap().push((done, total)))
        .expect("memory");
    assert_eq!(blocks.late_bytes(), (32 << 20) + (256 << 10), "dimm fills the pool");
    assert!(blocks.late_ns() > 0);
    let told = told.into_inner().unwrap();
    assert_eq!(told.last(), Some(&(blocks.late_bytes(), blocks.late_bytes())));
    assert_aligned_and_apart(&blocks);
    assert_all_zero(&blocks);
    pool.reclaim(blocks);
    let blocks = carve(&mut pool, &sizes);
    assert_eq!(blocks.late_bytes(), 0, "the same guest again finds all of it");
}

#[test]
fn taking_back_clears_what_was_written_and_nothing_else() {
    let mut pool = pool(0, Hugepages::Off);
    let blocks = carve(&mut pool, &[("pc.ram", 16 << 20), ("vga", 1 << 20)]);
    let ram = &blocks[0];
    ram.lend(3..5);
    ram.lend(64..200);
    ram.write(3 * 4096, &[0x55; 2 * 4096]);
    ram.write(64 * 4096 + 1, &[0x66; 100]); // of the rest of the pages nothing ever arrives
    blocks[1].lend(255..256);
    blocks[1].write((1 << 20) - 1, &[1]);
    assert_eq!(ram.mark_received(3..5), 2);
    let reclaimed = pool.reclaim(blocks);
    assert_eq!(reclaimed.bytes, (2 + 136 + 1) * 4096);
    let blocks = carve(&mut pool, &[("pc.ram", 16 << 20), ("vga", 1 << 20)]);
    assert_all_zero(&blocks);
    for block in &blocks {
        assert_eq!(block.received_count(), 0);
        assert!((0..block.pages()).all(|page| !block.is_written(page)));
    }
}

#[test]
fn a_page_lent_by_a_cut_run_is_zero_for_the_next() {
    let mut pool = pool(4 << 20, Hugepages::Auto);
    let blocks = carve(&mut pool, &[("pc.ram", 4 << 20)]);
    let span = {
        blocks[0].lend(7..8);
        blocks[0].span(7 * 4096 + 4095, 1).expect("inside")
    };
    assert_eq!(span.len(), 1);
    blocks[0].write(7 * 4096 + 4095, &[0x80]); // and the run is cut: never received
    pool.reclaim(blocks);
    let blocks = carve(&mut pool, &[("pc.ram", 4 << 20)]);
    assert_eq!(blocks[0].announce_zero(7), ZeroOutcome::AlreadyZero);
    assert_all_zero(&blocks);
}

#[test]
fn blocks_dropped_and_never_taken_back_leave_no_bytes_behind() {
    let mut pool = pool(8 << 20, Hugepages::Off);
    let blocks = carve(&mut pool, &[("pc.ram", 8 << 20)]);
    blocks[0].lend(0..2048);
    blocks[0].write(0, &vec![0xff; 8 << 20]);
    drop(blocks);
    assert_all_zero(&carve(&mut pool, &[("a", 4 << 20), ("b", 4 << 20)]));
}

#[test]
fn blocks_still_held_keep_the_pool_from_giving_their_memory_twice() {
    let mut pool = pool(1 << 20, Hugepages::Off);
    let blocks = carve(&mut pool, &[("pc.ram", 1 << 20)]);
    let again = pool.carve(&requests(&[("pc.ram", 1 << 20)]), 4096, &|_, _| {});
    assert!(matches!(again, Err(PoolError::StillLent)));
    drop(blocks);
    carve(&mut pool, &[("pc.ram", 1 << 20)]);
}

#[test]
fn another_guest_does_not_keep_the_memory_of_the_last() {
    let mut pool = pool(0, Hugepages::Off);
    let blocks = carve(&mut pool, &[("pc.ram", 16 << 20)]);
    pool.reclaim(blocks);
    let blocks = carve(&mut pool, &[("pc.ram", 24 << 20)]);
    assert_eq!(pool.report().bytes, 24 << 20);
    pool.reclaim(blocks);
    let blocks = carve(&mut pool, &[("pc.ram", 8 << 20)]);
    assert_eq!((blocks.late_bytes(), pool.report().bytes), (0, 24 << 20));
}

#[test]
fn a_pool_in_the_way_of_a_guest_that_is_allowed_is_given_back() {
    let mut pool = open(&MemoryConfig {
        pool_bytes: 16 << 20,
        max_ram_bytes: Some(24 << 20),
        ..config(Hugepages::Off)
    });
    let blocks = carve(&mut pool, &[("pc.ram", 20 << 20)]);
    assert_eq!(blocks.late_bytes(), 20 << 20);
    assert_eq!(pool.report().bytes, 20 << 20, "16 and 20 MiB are more than 24");
}

#[test]
fn more_than_max_ram_is_refused_with_both_numbers() {
    let config = MemoryConfig { max_ram_bytes: Some(1 << 20), ..config(Hugepages::Auto) };
    let over = MemoryConfig { pool_bytes: (1 << 20) + 1, ..config.clone() };
    let error = Pool::open(&over, &|_, _| {}).err().expect("over");
    assert!(matches!(error, PoolError::OverMaxRam { found: 1048577, allowed: 1048576 }));
    let mut pool = open(&config);
    let requests = requests(&[("a", 1 << 20), ("b", 4096)]);
    let error = pool.carve(&requests, 4096, &|_, _| {}).expect_err("over");
    let text = error.to_string();
    assert!(text.contains("1052672") && text.contains("1048576"), "{text}");
    assert!(!error.is_request_fault());
    pool.carve(&requests[..1], 4096, &|_, _| {}).expect("exactly as much");
}

#[test]
fn four_tebibytes_are_refused_by_default_before_anything_is_mapped() {
    let mut pool = pool(0, Hugepages::Auto);
    let announced = requests(&[("pc.ram", 1 << 52)]);
    let error = pool.carve(&announced, 4096, &|_, _| {}).expect_err("4 PiB");
    assert!(matches!(error, PoolError::OverMaxRam { .. }), "{error}");
    let config = MemoryConfig { max_ram_bytes: Some(u64::MAX), ..config(Hugepages::Auto) };
    for bytes in [1 << 52, 1 << 60, (u64::MAX - 4095)] {
        let error = open(&config).carve(&requests(&[("pc.ram", bytes)]), 4096, &|_, _| {});
        println!("{bytes}: {}", error.expect_err("nobody has that"));
    }
}

#[test]
fn hugepages_by_name_are_those_or_an_error_with_the_line_to_run() {
    for (hugepages, backend) in [
        (Hugepages::Huge1G, Backend::Huge1G),
        (Hugepages::Huge2M, Backend::Huge2M),
        (Hugepages::Thp, Backend::Thp),
        (Hugepages::Off, Backend::Base4K),
    ] {
        let config = MemoryConfig { pool_bytes: 4 << 20, ..config(hugepages) };
        match Pool::open(&config, &|_, _| {}) {
            Ok(pool) => {
                println!("{}", pool.report());
                assert_eq!(pool.report().backend, Some(backend));
                assert!(pool.report().missing.is_empty());
            }
            Err(PoolError::HugepagesUnknown { .. }) => {}
            Err(error) => {
                assert!(error.to_string().contains("run: echo "), "{error}");
                assert_ne!(hugepages, Hugepages::Off);
            }
        }
        let oversized =
            MemoryConfig { pool_bytes: 1 << 50, max_ram_bytes: Some(u64::MAX), ..config };
        let error = Pool::open(&oversized, &|_, _| {}).err().expect("1 PiB");
        println!("{hugepages}: {error}");
    }
}

#[test]
fn small_blocks_do_not_fail_a_run_for_want_of_a_huge_page() {
    // As -mem-path does for QEMU, hugepages hold the memory, not each ROM.
    let config = MemoryConfig { pool_bytes: 64 << 20, ..config(Hugepages::Huge2M) };
    let Ok(mut pool) = Pool::open(&config, &|_, _| {}) else {
        return println!("no 2M pages here: the refusal is tested elsewhere");
    };
    let blocks = carve(&mut pool, &[("pc.ram", 64 << 20), ("bios", 256 << 10)]);
    println!("{}", pool.report());
    assert_eq!(blocks[0].backend(), Backend::Huge2M);
    assert_aligned_and_apart(&blocks);
}

#[test]
fn every_numa_choice_of_this_host_works_and_is_read_back() {
    for numa in [Numa::Local, Numa::Interleave, Numa::Bind(vec![0])] {
        let config =
            MemoryConfig { pool_bytes: 8 << 20, numa: numa.clone(), ..config(Hugepages::Auto) };
        let report = open(&config).report();
        println!("{report}");
        assert!(!report.nodes.is_empty());
        if let Numa::Bind(nodes) = numa {
            assert_eq!(report.nodes, nodes);
        }
    }
}

#[test]
fn four_thousand_small_blocks_are_packed_without_a_gap() {
    let sizes: Vec<(String, u64)> = (0..4096).map(|i| (format!("b{i}"), 4096)).collect();
    let sizes: Vec<(&str, u64)> = sizes.iter().map(|(name, bytes)| (&**name, *bytes)).collect();
    let mut pool = pool(0, Hugepages::Off);
    let blocks = carve(&mut pool, &sizes);
    assert_eq!(blocks.late_bytes(), 4096 * 4096, "pages, and nothing beside them");
    assert_aligned_and_apart(&blocks);
}

fn assert_aligned_and_apart(blocks: &RamBlocks) {
    let mut ranges = Vec::new();
    for block in blocks {
        let span = block.span(0, block.bytes()).expect("all of it");
        let start = span.as_ptr() as u64;
        let alignment = block.bytes().next_power_of_two().min(2 << 20);
        assert_eq!(start % alignment, 0, "{block:?}");
        ranges.push((start, start + block.bytes()));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "blocks overlap");
}

/// Reads every byte, trusting no bitmap.
fn assert_all_zero(blocks: &RamBlocks) {
    for block in blocks {
        let mut bytes = vec![1; block.bytes() as usize];
        block.read(0, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == 0), "{block:?}");
    }
}

fn carve(pool: &mut Pool, sizes: &[(&str, u64)]) -> RamBlocks {
    pool.carve(&requests(sizes), 4096, &|_, _| {}).expect("memory")
}

fn requests(sizes: &[(&str, u64)]) -> Vec<BlockRequest> {
    let request = |(name, bytes): &(&str, u64)| BlockRequest {
        name: BlockName::try_from(*name).expect("a name"),
        bytes: *bytes,
    };
    sizes.iter().map(request).collect()
}

fn pool(pool_bytes: u64, hugepages: Hugepages) -> Pool {
    open(&MemoryConfig { pool_bytes, ..config(hugepages) })
}

fn open(config: &MemoryConfig) -> Pool {
    Pool::open(config, &|_, _| {}).expect("pool")
}

fn config(hugepages: Hugepages) -> MemoryConfig {
    MemoryConfig { hugepages, ..MemoryConfig::default() }
}
