//! What runs leave on disk.

use std::fs;
use std::path::Path;

use tempfile::tempdir;

use super::Run;
use super::source::{BIOS_BYTES, MEM_BYTES, VMDESC};
use crate::report::query_receiver;
use crate::report::run_directory::{dump, write_run_directory};

#[test]
fn a_dump_is_a_whole_run_directory() {
    let folder = tempdir().unwrap();
    let completed = completed();
    let report = query_receiver(&completed.migration);
    let dumped = dump(folder.path(), &completed.migration, &report).unwrap();
    assert_eq!(dumped.len(), 2);

    let ram = folder.path().join("ram");
    let mem = fs::read(ram.join("mem.ram")).unwrap();
    assert_eq!(mem.len() as u64, MEM_BYTES);
    for (page, fill) in [(0, 0), (1, 5), (2, 9), (3, 0), (4, 0)] {
        assert!(mem[page * 4096..][..4096].iter().all(|byte| *byte == fill), "page {page}");
    }
    assert_eq!(fs::metadata(ram.join("%2From%40x.ram")).unwrap().len(), BIOS_BYTES);
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("configuration"), b"\x07\0\0\0\x0bpc-q35-10.0");
    assert_eq!(read("vmdesc.json"), VMDESC.as_bytes());
    let state = read("device-state");
    assert_eq!((state.first(), state.last()), (Some(&4), Some(&0)));
    assert_eq!(read("run.json"), format!("{report:#}\n").as_bytes());
    for block in report["blocks"].as_array().unwrap() {
        let file = ram.join(block["file"].as_str().unwrap());
        assert_eq!(fs::metadata(file).unwrap().len(), block["bytes"].as_u64().unwrap());
    }
}

#[test]
fn nothing_of_an_earlier_run_is_left_in_a_run_directory() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("ram")).unwrap();
    for name in ["ram/other.ram", "configuration", "device-state", "vmdesc.json", "run.json"] {
        fs::write(folder.path().join(name), "old").unwrap();
    }
    let failed = Run::listen();
    let mut source = failed.source();
    failed.arrive(&mut source);
    source.vanish();
    failed.migration.wait();
    dump(folder.path(), &failed.migration, &query_receiver(&failed.migration)).unwrap();
    assert_eq!(names_in(folder.path()), ["ram", "run.json"]);
    assert_eq!(names_in(&folder.path().join("ram")), ["%2From%40x.ram", "mem.ram"]);
}

#[test]
fn run_json_is_written_last() {
    let folder = tempdir().unwrap();
    let completed = completed();
    fs::write(folder.path().join("run.json"), "old").unwrap();
    // What is to be a file is a folder: it cannot be replaced.
    fs::create_dir(folder.path().join("device-state")).unwrap();
    let report = query_receiver(&completed.migration);
    let error = write_run_directory(folder.path(), &completed.migration, &report).unwrap_err();
    assert!(error.text.contains("device-state"), "{error}");
    assert_eq!(names_in(folder.path()), ["configuration", "device-state"]);
}

fn completed() -> Run {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    source.finish();
    assert_eq!(run.migration.wait().error, None);
    run
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
