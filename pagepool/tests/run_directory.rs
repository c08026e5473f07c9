//! Guest RAM in the files of a run directory, and blocks dumped to one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landfall_pagepool::{
    Backend, BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, PoolError, RUN_JSON,
    RamBlocks, ZeroOutcome, dump_block, ram_file_name,
};
use tempfile::TempDir;

#[test]
fn what_lands_in_a_block_is_in_its_file() {
    for directory in directories() {
        let path = directory.path().join("run");
        let mut pool = pool(&path);
        let long = "/".repeat(255);
        let sizes = [("pc.ram", 4 << 20), ("/rom@etc/acpi/tables", 128 << 10), (&*long, 4096)];
        let blocks = carve(&mut pool, &sizes);
        println!("{}", pool.report());
        assert_eq!(blocks[0].backend(), Backend::File { huge: false });
        assert!(blocks.late_bytes() > 0 && blocks.late_ns() > 0);
        for (value, block) in (1..).zip(&blocks) {
            assert_eq!(block.announce_zero(0), ZeroOutcome::AlreadyZero, "fresh is known zero");
            block.lend(0..1);
            block.write(100, &[value; 10]);
        }
        pool.reclaim(blocks);
        for (value, (name, bytes)) in (1..).zip(sizes) {
            let file = path.join("ram").join(ram_file_name(&BlockName::try_from(name).unwrap()));
            let mut expected = vec![0; bytes as usize];
            expected[100..110].fill(value);
            assert!(fs::read(&file).expect("file") == expected, "{}", file.display());
            let allocated = fs::metadata(&file).unwrap().blocks() * 512;
            assert!(allocated >= bytes, "{} has all its space", file.display());
        }
        assert_eq!(files(&path).len(), 3);
    }
}

#[test]
fn a_second_run_in_the_same_directory_starts_from_zero() {
    let directory = tempfile::tempdir().unwrap();
    let mut pool = pool(directory.path());
    let blocks = carve(&mut pool, &[("pc.ram", 1 << 20), ("gone", 4096)]);
    blocks[0].lend(0..256);
    blocks[0].write(0, &vec![9; 1 << 20]);
    pool.reclaim(blocks);
    let earlier = fs::File::open(directory.path().join("ram/pc.ram.ram")).unwrap();
    let blocks = carve(&mut pool, &[("pc.ram", 1 << 20)]);
    let mut seen = vec![1; 1 << 20];
    blocks[0].read(0, &mut seen);
    assert!(seen.iter().all(|byte| *byte == 0));
    assert_eq!(files(directory.path()), ["pc.ram.ram"], "no block of the earlier run is left");
    let kept = earlier.metadata().unwrap().len();
    assert_eq!(kept, 1 << 20, "whoever still has the earlier file keeps it whole");
}

#[test]
fn the_report_of_an_earlier_run_goes_before_its_files_do() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join(RUN_JSON);
    let mut pool = pool(directory.path());
    fs::write(&report, "{}").unwrap();
    carve(&mut pool, &[("pc.ram", 4096)]);
    assert!(!report.exists(), "it would say of half a guest that it is whole");
    // What cannot be removed keeps the files of the run that it tells of.
    fs::create_dir(&report).unwrap();
    let error = pool.carve(&requests(&[("other", 4096)]), 4096, &|_, _| {}).expect_err("stays");
    assert!(error.to_string().contains("run.json"), "{error}");
    assert_eq!(files(directory.path()), ["pc.ram.ram"]);
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::create_dir(directory.path().join("ram")).unwrap();
    std::os::unix::fs::symlink(&victim, directory.path().join("ram/pc.ram.ram")).unwrap();
    let mut pool = pool(directory.path());
    carve(&mut pool, &[("pc.ram", 4096)]);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn no_room_is_an_error_with_both_numbers_and_leaves_no_file() {
    for directory in directories() {
        let mut pool = Pool::open(
            &MemoryConfig { max_ram_bytes: Some(u64::MAX), ..config(directory.path()) },
            &|_, _| {},
        )
        .expect("pool");
        for bytes in [1 << 50, 1 << 60] {
            let announced = requests(&[("small", 4096), ("pc.ram", bytes)]);
            let error = pool.carve(&announced, 4096, &|_, _| {}).expect_err("1 PiB");
            println!("{error}");
            let PoolError::NoSpace { needed, available, directory: named } = error else {
                panic!("{error}");
            };
            assert_eq!((needed, &*named), (bytes + 4096, directory.path()));
            assert!(available < bytes);
            assert!(files(directory.path()).is_empty());
        }
        carve(&mut pool, &[("pc.ram", 4096)]);
    }
}

#[test]
fn files_in_memory_are_bounded_like_memory() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        return println!("no /dev/shm here; the disk's bound is its space");
    };
    assert!(pool(directory.path()).report().max_ram_bytes.is_some());
}

#[test]
fn a_directory_that_cannot_be_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Pool::open(&config(&file), &|_, _| {}).err().expect("a file");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    let both = MemoryConfig { pool_bytes: 4096, ..config(directory.path()) };
    let error = Pool::open(&both, &|_, _| {}).err().expect("excluded");
    assert!(matches!(error, PoolError::PoolWithMemPath { .. }));
}

#[test]
fn hugepages_by_name_need_a_file_system_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let config = MemoryConfig { hugepages: Hugepages::Huge2M, ..config(directory.path()) };
    let error = Pool::open(&config, &|_, _| {}).err().expect("no hugetlbfs");
    let text = error.to_string();
    assert!(text.contains("run: mount -t hugetlbfs -o pagesize=2M none"), "{text}");
}

#[test]
fn a_mount_of_huge_pages_makes_huge_files_or_says_how_many_are_missing() {
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let hugetlbfs = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (mount, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "hugetlbfs").then(|| tempfile::tempdir_in(mount).ok()).flatten()
    });
    for directory in hugetlbfs {
        let mut pool = pool(directory.path());
        let announced = requests(&[("pc.ram", 4 << 20), ("bios", 256 << 10)]);
        match pool.carve(&announced, 4096, &|_, _| {}) {
            Ok(blocks) => {
                println!("{}", pool.report());
                assert_eq!(blocks[0].backend(), Backend::File { huge: true });
                let page = fs::metadata(directory.path()).unwrap().blksize();
                for block in &blocks {
                    block.lend(0..block.pages());
                    block.write(block.bytes() - 1, &[1]);
                    let file = directory.path().join("ram").join(ram_file_name(block.name()));
                    assert_eq!(fs::metadata(file).unwrap().len() % page, 0);
                }
            }
            Err(error) => {
                println!("{error}");
                assert!(matches!(error, PoolError::NoSpace { .. }), "{error}");
                assert!(files(directory.path()).is_empty());
            }
        }
    }
}

#[test]
fn a_dump_is_the_block_with_holes_for_its_zero_pages() {
    for directory in directories() {
        for page_bytes in [4096, 65536] {
            let bytes = 16u64 << 20;
            let mut pool = Pool::open(&MemoryConfig::default(), &|_, _| {}).expect("pool");
            let request = requests(&[("pc.ram", bytes)]);
            let blocks = pool.carve(&request, page_bytes, &|_, _| {}).expect("memory");
            let expected = write_some_pages(&blocks, u64::from(page_bytes));
            // A file of an earlier dump must not shine through.
            fs::create_dir_all(directory.path().join("ram")).unwrap();
            fs::write(directory.path().join("ram/pc.ram.ram"), vec![0xff; 1 << 20]).unwrap();
            let dumped = dump_block(&blocks[0], directory.path()).expect("dump");
            assert_eq!(dumped.path, directory.path().join("ram/pc.ram.ram"));
            assert!(fs::read(&dumped.path).unwrap() == expected, "page of {page_bytes}");
            let pages = expected.chunks(page_bytes as usize);
            let content = pages.filter(|page| page.iter().any(|byte| *byte != 0)).count();
            assert_eq!(dumped.data_bytes, content as u64 * u64::from(page_bytes));
            let allocated = fs::metadata(&dumped.path).unwrap().blocks() * 512;
            println!("{} data, {allocated} allocated, {bytes} long", dumped.data_bytes);
            assert!(allocated < bytes, "there are holes");
        }
    }
}

/// Content in runs of several lengths, one longer than any buffer, and pages lent but left zero.
fn write_some_pages(blocks: &RamBlocks, page_bytes: u64) -> Vec<u8> {
    let block = &blocks[0];
    let mut expected = vec![0; block.bytes() as usize];
    let pages = block.pages();
    let runs = [0..1, 3..4, pages / 4..pages / 2, pages - 2..pages];
    block.lend(0..pages / 2);
    for (value, run) in (1u8..).zip(runs) {
        block.lend(run.clone());
        let (start, end) = ((run.start * page_bytes) as usize, (run.end * page_bytes) as usize);
        expected[start..end].fill(value);
        block.write(start as u64, &expected[start..end]);
    }
    // A zero page in the middle of a long run.
    let hole = (pages / 3 * page_bytes) as usize;
    expected[hole..hole + page_bytes as usize].fill(0);
    block.announce_zero(pages / 3);
    expected
}

/// The build's temporary directory, and one on tmpfs where there is one.
fn directories() -> Vec<TempDir> {
    let disk = tempfile::tempdir().expect("tempdir");
    std::iter::once(disk).chain(tempfile::tempdir_in("/dev/shm")).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("ram")).expect("ram folder");
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    entries.map(|entry| name(entry.unwrap().path())).collect()
}

fn carve(pool: &mut Pool, sizes: &[(&str, u64)]) -> RamBlocks {
    pool.carve(&requests(sizes), 4096, &|_, _| {}).expect("space")
}

fn requests(sizes: &[(&str, u64)]) -> Vec<BlockRequest> {
    let request = |(name, bytes): &(&str, u64)| BlockRequest {
        name: BlockName::try_from(*name).expect("a name"),
        bytes: *bytes,
    };
    sizes.iter().map(request).collect()
}

fn pool(mem_path: &Path) -> Pool {
    Pool::open(&config(mem_path), &|_, _| {}).expect("pool")
}

fn config(mem_path: &Path) -> MemoryConfig {
    MemoryConfig { mem_path: Some(mem_path.to_owned()), ..MemoryConfig::default() }
}
