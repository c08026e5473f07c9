//! Loading a mapped-ram file against plain `pread`: same RAM, and not a byte read that no bit
//! asks for or that is a hole, with each set of ring features.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::thread;

use fastrand::Rng;
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use landfall_receiver::arrivals::Arrivals;
use landfall_receiver::channel::Terms;
use landfall_receiver::mapped_ram::{FileReads, Load, Loaded, SavedFile};
use landfall_receiver::ring::RingFeatures;
use landfall_receiver::run::Run;
use landfall_receiver::wire::{BlockInfo, MappedRamHeader, PageBytes, bitmap_bytes};

/// Blocks with random bitmaps, their pages in a file that has old bytes under every clear bit.
struct Case {
    file: File,
    page: PageBytes,
    blocks: Vec<BlockInfo>,
    /// One for each block, a bit a page.
    bitmaps: Vec<Vec<u8>>,
    /// Pages that are holes, by block and index.
    holes: HashSet<(usize, u64)>,
}

impl Case {
    fn new(random: &mut Rng, has_holes: bool) -> Self {
        let page = PageBytes::new(4096 << random.usize(..5)).expect("4 KiB to 64 KiB");
        let file = tempfile::tempfile().expect("a file");
        let (mut blocks, mut bitmaps, mut holes) = (Vec::new(), Vec::new(), HashSet::new());
        let mut at = random.u64(..10_000);
        for index in 0..random.usize(1..=4) {
            let pages = random.u64(1..=600);
            let used_bytes = pages * page.as_u64();
            let bitmap_offset = at + random.u64(..100);
            let mut bitmap = vec![0; bitmap_bytes(used_bytes, page) as usize];
            for byte in &mut bitmap {
                // As without detection of zero pages, or as with it.
                let few = [0xff, 0xff, 0xff, random.u8(..)];
                let some = [0, 0xff, 0xff, random.u8(..)];
                *byte = if has_holes { few } else { some }[random.usize(..4)];
            }
            let bitmap_end = bitmap_offset + bitmap.len() as u64;
            let pages_offset = (bitmap_end + random.u64(..5000)).next_multiple_of(page.as_u64());
            file.write_all_at(&bitmap, bitmap_offset).expect("written");
            let mut is_hole = false;
            for number in 0..pages {
                is_hole ^= has_holes && random.usize(..3) == 0;
                if is_hole {
                    holes.insert((index, number));
                    continue;
                }
                let byte = random.u8(1..=255);
                let content = vec![byte; page.as_usize()];
                let place = pages_offset + number * page.as_u64();
                file.write_all_at(&content, place).expect("written");
            }
            at = pages_offset + used_bytes;
            blocks.push(BlockInfo {
                name: format!("block{index}").into(),
                used_bytes,
                page_bytes: None,
                guest_phys_addr: None,
                mapped: Some(MappedRamHeader { bitmap_offset, pages_offset, pages_end: at }),
            });
            bitmaps.push(bitmap);
        }
        file.set_len(at).expect("sparse");
        Self { file, page, blocks, bitmaps, holes }
    }

    fn ram(&self) -> Arc<RamBlocks> {
        let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&memory, &|_, _| {}).expect("a pool");
        let request = |block: &BlockInfo| BlockRequest {
            name: BlockName::parse(block.name.as_bytes()).expect("a name"),
            bytes: block.used_bytes,
        };
        let requests: Vec<_> = self.blocks.iter().map(request).collect();
        Arc::new(pool.carve(&requests, self.page.get(), &|_, _| {}).expect("carved"))
    }

    /// Loads it by `readers` threads.
    fn load(
        &self,
        readers: usize,
        reads: FileReads,
        features: RingFeatures,
    ) -> (Arc<RamBlocks>, Loaded) {
        let ram = self.ram();
        let run = Run::new(1, Arrivals::new(None), &vec![None; readers], Terms::new(true, 1 << 30))
            .expect("a run");
        run.set_ram(Arc::clone(&ram));
        run.set_channels(Box::new([]));
        let fd = Arc::new(OwnedFd::from(self.file.try_clone().expect("a descriptor")));
        let saved = SavedFile::of(&fd, 0).expect("fstat").expect("a file");
        let load = Load::new(saved, &self.blocks, self.page, reads, readers, true);
        thread::scope(|scope| {
            for index in 0..readers {
                let (load, run) = (&load, &run);
                scope.spawn(move || load.work(run, index, features).expect("loaded"));
            }
        });
        assert!(load.is_done());
        (ram, load.loaded(&run))
    }

    fn has_data(&self, block: usize, page: u64) -> bool {
        self.bitmaps[block][page as usize / 8] >> (page % 8) & 1 == 1
    }

    /// Where bits ask for more than the file has on its disk, holes are not read.
    fn is_looked_through(&self) -> bool {
        let set = self.blocks.iter().enumerate().map(|(index, block)| {
            let pages = 0..block.used_bytes / self.page.as_u64();
            pages.filter(|&number| self.has_data(index, number)).count() as u64
        });
        self.file.metadata().expect("fstat").blocks() * 512 < set.sum::<u64>() * self.page.as_u64()
    }

    /// By `pread`, page by page.
    fn check(&self, ram: &RamBlocks, loaded: Loaded) {
        let is_looked_through = self.is_looked_through();
        let page = self.page.as_u64();
        let (mut wanted, mut found) =
            (vec![0; self.page.as_usize()], vec![0; self.page.as_usize()]);
        let mut expected = Loaded::default();
        for (index, block) in self.blocks.iter().enumerate() {
            expected.bytes += self.bitmaps[index].len() as u64;
            let is_read = |number: u64| {
                let is_skipped = is_looked_through && self.holes.contains(&(index, number));
                self.has_data(index, number) && !is_skipped
            };
            for number in 0..block.used_bytes / page {
                wanted.fill(0);
                if self.has_data(index, number) {
                    let place = block.mapped.expect("a place").pages_offset + number * page;
                    self.file.read_exact_at(&mut wanted, place).expect("read");
                    expected.normal += 1;
                    expected.bytes += if is_read(number) { page } else { 0 };
                } else {
                    expected.zero += 1;
                }
                ram[index].read(number * page, &mut found);
                assert!(wanted == found, "page {number} of {}", block.name);
                assert!(ram[index].is_received(number));
                assert_eq!(ram[index].is_written(number), is_read(number));
            }
        }
        assert_eq!(loaded, expected);
    }
}

#[test]
fn random_files_load_as_pread_reads_them_and_neither_clear_bits_nor_holes_are_read() {
    let mut random = landfall_seed::random();
    let masks = ["", "defer_taskrun", "single_issuer,coop_taskrun", "all"];
    let mut looked_through = 0;
    for round in 0..24 {
        let has_holes = round % 3 == 1;
        let case = Case::new(&mut random, has_holes);
        looked_through += u32::from(has_holes && case.is_looked_through());
        let features = RingFeatures::probe_masked(masks[round % 4]).expect("io_uring");
        let reads = FileReads { queue_depth: random.usize(1..=40), direct_io: round % 5 == 0 };
        let (ram, loaded) = case.load(random.usize(1..=3), reads, features);
        case.check(&ram, loaded);
    }
    // A small one may have too few holes to be worth it, or the file system has none.
    println!("holes were looked for in {looked_through} of 8 files");
}

#[test]
fn a_run_that_is_stopped_lets_go_in_the_middle() {
    let mut random = Rng::with_seed(7);
    let case = Case::new(&mut random, false);
    let ram = case.ram();
    let run = Run::new(1, Arrivals::new(None), &[None], Terms::new(true, 1 << 30)).expect("a run");
    run.set_ram(Arc::clone(&ram));
    run.set_channels(Box::new([]));
    run.stop();
    let fd = Arc::new(OwnedFd::from(case.file.try_clone().expect("a descriptor")));
    let saved = SavedFile::of(&fd, 0).expect("fstat").expect("a file");
    let reads = FileReads { queue_depth: 2, direct_io: false };
    let load = Load::new(saved, &case.blocks, case.page, reads, 1, true);
    load.work(&run, 0, RingFeatures::probe_masked("").expect("io_uring")).expect("no error");
    drop(load);
    drop(run);
    assert_eq!(Arc::strong_count(&ram), 1, "nobody holds guest RAM any more");
    assert_eq!(Arc::strong_count(&fd), 1, "nor the file");
}
