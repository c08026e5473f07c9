//! Facts about whole comparisons, on real files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use landfall_pagepool::{BlockName, ram_file_name};
use nix::unistd::{Whence, lseek};
use serde_json::json;
use tempfile::TempDir;

use super::difference::Content;
use super::*;

#[test]
fn directories_are_equal_however_their_blocks_came_to_be_named() {
    let root = Root::new();
    let long = "/".repeat(200);
    let blocks = [("mem", pages(3)), ("/rom@etc/acpi/tables", pages(1)), (long.as_str(), pages(2))];
    let plain = root.directory("plain", &blocks);
    let listed = root.directory("listed", &blocks);
    root.list(&listed, &blocks);
    let equal = Equal { blocks: 3, bytes: 6 * 4096 };
    for (a, b) in [(&plain, &listed), (&listed, &plain), (&plain, &plain)] {
        assert_eq!(verify(a, b, &[]).unwrap(), Ok(equal));
    }
}

#[test]
fn the_first_of_several_differing_bytes_is_shown() {
    let root = Root::new();
    let bytes = pages(10_000); // more than two pieces
    let a = root.directory("a", &[("mem", bytes.clone()), ("other", pages(1))]);
    let b = root.directory("b", &[("mem", bytes.clone()), ("other", pages(1))]);
    for (block, at) in [("other", 5), ("mem", 30_000_000), ("mem", 20_000_123), ("mem", 20_000_200)]
    {
        root.flip(&b, block, at);
    }
    let Err(Difference::Content(content)) = verify(&a, &b, &[]).unwrap() else {
        panic!("no difference in content");
    };
    let Content { block, offset, page_bytes, shown_from, a, b } = content;
    assert_eq!((block.as_str(), offset, page_bytes), ("mem", 20_000_123, 4096));
    assert_eq!(shown_from, 20_000_112);
    assert_eq!(a, bytes[20_000_112..20_000_128]);
    assert_eq!(b[11], a[11] ^ 1);
    assert_eq!((&a[..11], &a[12..]), (&b[..11], &b[12..]));
}

#[test]
fn every_single_byte_counts() {
    let root = Root::new();
    let bytes = pages(2);
    let a = root.file("a", &bytes);
    for at in [0, 1, 15, 16, 4095, 4096, 8190, 8191] {
        let mut other = bytes.clone();
        other[at] ^= 0x80;
        let b = root.file("b", &other);
        let Err(Difference::Content(content)) = verify(&a, &b, &[]).unwrap() else {
            panic!("byte {at} does not count");
        };
        assert_eq!(content.offset, at as u64);
    }
}

#[test]
fn sizes_and_missing_blocks_are_differences() {
    let root = Root::new();
    let a = root.directory("a", &[("mem", pages(2)), ("vga", pages(1))]);
    let b = root.directory("b", &[("mem", pages(2))]);
    let missing = |side| Err(Difference::Missing { block: "vga".to_owned(), side });
    assert_eq!(verify(&a, &b, &[]).unwrap(), missing('B'));
    assert_eq!(verify(&b, &a, &[]).unwrap(), missing('A'));

    let c = root.directory("c", &[("mem", pages(3)), ("vga", pages(1))]);
    let size = Difference::Size { block: "mem".to_owned(), a: 8192, b: 12288 };
    assert_eq!(verify(&a, &c, &[]).unwrap(), Err(size));

    // Listed in run.json, but the file has gone.
    root.list(&a, &[("mem", pages(2)), ("vga", pages(1))]);
    fs::remove_file(a.join("ram/1.ram")).unwrap();
    let d = root.directory("d", &[("mem", pages(2)), ("vga", pages(1))]);
    assert_eq!(verify(&a, &d, &[]).unwrap(), missing('A'));
}

#[test]
fn a_hole_is_equal_to_zeros_and_to_nothing_else() {
    let root = Root::new();
    let zeros = root.file("zeros", &vec![0; 40 << 20]);
    let holes = root.sparse("holes", 40 << 20);
    assert_eq!(verify(&zeros, &holes, &[]).unwrap(), Ok(Equal { blocks: 1, bytes: 40 << 20 }));
    for at in [0, (16 << 20) - 1, 16 << 20, 33_333_333, (40 << 20) - 1] {
        let other = root.sparse("other", 40 << 20);
        File::options().write(true).open(&other).unwrap().write_all_at(b"x", at).unwrap();
        for (a, b) in [(&holes, &other), (&other, &holes), (&zeros, &other)] {
            let Err(Difference::Content(content)) = verify(a, b, &[]).unwrap() else {
                panic!("byte {at} is not seen");
            };
            assert_eq!(content.offset, at);
        }
    }
}

#[test]
fn holes_on_both_sides_are_not_read() {
    let root = Root::new();
    let a = root.sparse("a", 1 << 40);
    let b = root.sparse("b", 1 << 40);
    let opened = File::open(&a).unwrap();
    if lseek(&opened, 0, Whence::SeekData).is_ok() {
        let why = format!("the file system of {} has no holes", a.display());
        assert!(std::env::var_os("LANDFALL_REQUIRE_ALL").is_none(), "SKIPPED: {why}");
        println!("SKIPPED: {why}");
        return;
    }
    for file in [&a, &b] {
        let file = File::options().write(true).open(file).unwrap();
        file.write_all_at(b"same", 700 << 30).unwrap();
    }
    assert_eq!(verify(&a, &b, &[]).unwrap(), Ok(Equal { blocks: 1, bytes: 1 << 40 }));
}

#[test]
fn a_named_block_is_compared_with_its_file_alone() {
    let root = Root::new();
    let directory = root.directory("a", &[("mem", pages(2)), ("vga", pages(1))]);
    let other = root.directory("b", &[("mem", pages(7)), ("vga", pages(9))]);
    let same = root.file("same", &pages(2));
    let wrong = root.file("wrong", &vec![7; 8192]);
    let block = |file: &Path| format!("mem={}", file.display());
    let equal = Ok(Equal { blocks: 1, bytes: 8192 });
    // FILE stands for the raw side, or for B.
    for (a, b) in [(&directory, &same), (&same, &directory), (&directory, &other)] {
        assert_eq!(verify(a, b, &[block(&same)]).unwrap(), equal);
        assert!(matches!(verify(a, b, &[block(&wrong)]).unwrap(), Err(Difference::Content(_))));
    }
    let size = Difference::Size { block: "mem".to_owned(), a: 28672, b: 8192 };
    assert_eq!(verify(&other, &directory, &[block(&same)]).unwrap(), Err(size));
    let unknown = format!("nvram={}", same.display());
    let missing = Difference::Missing { block: "nvram".to_owned(), side: 'A' };
    assert_eq!(verify(&directory, &same, std::slice::from_ref(&unknown)).unwrap(), Err(missing));
    let missing = Difference::Missing { block: "nvram".to_owned(), side: 'B' };
    assert_eq!(verify(&same, &directory, &[unknown]).unwrap(), Err(missing));
}

#[test]
fn a_raw_file_is_the_only_block_of_a_directory() {
    let root = Root::new();
    let one = root.directory("one", &[("mem", pages(2))]);
    let same = root.file("same", &pages(2));
    for (a, b) in [(&one, &same), (&same, &one)] {
        assert_eq!(verify(a, b, &[]).unwrap(), Ok(Equal { blocks: 1, bytes: 8192 }));
    }
    let two = root.directory("two", &[("mem", pages(2)), ("vga", pages(1))]);
    assert_usage(verify(&two, &same, &[]), "2 RAM blocks");
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_2() {
    let root = Root::new();
    let file = root.file("file", &pages(1));
    let directory = root.directory("directory", &[("mem", pages(1))]);
    let empty = root.directory("empty", &[]);
    let no_ram = root.0.path().join("no-ram");
    fs::create_dir(&no_ram).unwrap();
    let gone = root.0.path().join("gone");
    assert_usage(verify(&gone, &file, &[]), "gone");
    assert_usage(verify(&file, &gone, &[]), "gone");
    assert_usage(verify(&no_ram, &file, &[]), "no run directory");
    assert_usage(verify(Path::new("/dev/null"), &file, &[]), "neither");
    assert_usage(verify(&empty, &empty, &[]), "nothing to compare");
    assert_usage(verify(&file, &file, &["mem=x".to_owned()]), "needs a run directory");
    for wrong in ["mem", "mem=", "=file", "mem=/gone", "mem=/tmp"] {
        assert_usage(verify(&directory, &file, &[wrong.to_owned()]), "");
    }
    fs::write(directory.join("run.json"), "{\"blocks\": [1]}").unwrap();
    assert_usage(verify(&directory, &file, &[]), "run.json");
    fs::write(directory.join("run.json"), "{").unwrap();
    assert_usage(verify(&directory, &file, &[]), "no JSON");
}

#[test]
fn of_a_file_that_is_longer_than_its_block_only_the_block_counts() {
    let root = Root::new();
    let block = [("mem", pages(2))];
    // As on hugetlbfs: a whole huge page.
    let huge = root.directory("huge", &[("mem", [pages(2), vec![0; 20480]].concat())]);
    let list = |bytes: u64| {
        let run = json!({"blocks": [{"name": "mem", "file": "mem.ram", "bytes": bytes}]});
        fs::write(huge.join("run.json"), run.to_string()).unwrap();
    };
    list(8192);
    let dumped = root.directory("dumped", &block);
    let raw = root.file("raw", &block[0].1);
    let equal = Ok(Equal { blocks: 1, bytes: 8192 });
    for (a, b) in [(&huge, &dumped), (&dumped, &huge), (&huge, &raw), (&raw, &huge)] {
        assert_eq!(verify(a, b, &[]).unwrap(), equal);
    }
    assert_eq!(verify(&huge, &raw, &[format!("mem={}", raw.display())]).unwrap(), equal);
    root.flip(&huge, "mem", 8191);
    assert!(matches!(verify(&huge, &raw, &[]).unwrap(), Err(Difference::Content(_))));
    // A file that lacks a part of its block is no block.
    list(1 << 20);
    let size = Difference::Size { block: "mem".to_owned(), a: 28672, b: 8192 };
    assert_eq!(verify(&huge, &dumped, &[]).unwrap(), Err(size));
}

#[test]
fn the_page_of_a_difference_counts_in_the_runs_own_pages() {
    let root = Root::new();
    let a = root.directory("a", &[("mem", pages(64))]);
    let b = root.directory("b", &[("mem", pages(64))]);
    let run = json!({"pages": {"page-bytes": 65536}});
    fs::write(b.join("run.json"), run.to_string()).unwrap();
    root.flip(&b, "mem", 3 * 65536 + 9);
    let text = verify(&a, &b, &[]).unwrap().unwrap_err().to_string();
    assert!(text.contains("page 3 of 65536 bytes"), "{text}");
}

fn verify(a: &Path, b: &Path, block: &[String]) -> Result<Result<Equal, Difference>, Failure> {
    check(&VerifyArguments { a: a.to_owned(), b: b.to_owned(), block: block.to_vec() })
}

fn assert_usage(result: Result<Result<Equal, Difference>, Failure>, part: &str) {
    let failure = result.expect_err("makes no sense");
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
    assert!(failure.to_string().contains(part), "{failure} lacks {part}");
}

/// So many pages of bytes that repeat nowhere near.
fn pages(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * 4096];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

/// A folder for one test.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn sparse(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.path().join(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    fn directory(&self, name: &str, blocks: &[(&str, Vec<u8>)]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.join("ram")).unwrap();
        for (name, bytes) in blocks {
            fs::write(path.join("ram").join(file_of(name)), bytes).unwrap();
        }
        path
    }

    /// Puts a `run.json` in, with other file names than the usual.
    fn list(&self, directory: &Path, blocks: &[(&str, Vec<u8>)]) {
        let mut listed = Vec::new();
        for (index, (name, _)) in blocks.iter().enumerate() {
            let file = format!("{index}.ram");
            let ram = directory.join("ram");
            fs::rename(ram.join(file_of(name)), ram.join(&file)).unwrap();
            listed.push(json!({"name": name, "file": file}));
            // The list is what counts, not the folder.
            fs::write(ram.join("stray.ram"), "").unwrap();
        }
        fs::write(directory.join("run.json"), json!({"blocks": listed}).to_string()).unwrap();
    }

    fn flip(&self, directory: &Path, block: &str, at: u64) {
        let path = directory.join("ram").join(file_of(block));
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

fn file_of(name: &str) -> String {
    ram_file_name(&BlockName::try_from(name).unwrap())
}
