//! Guests saved to mapped-ram files by the synthetic source, and what a receiver makes of them.

#[path = "mask_parts/masks.rs"]
mod masks;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use landfall_bench::plan::Plan;
use landfall_bench::saved::{Saved, save};
use landfall_bench::send::{End, Progress, SendOptions, Target, send};
use landfall_bench::{BlockConfig, SourceConfig, verify};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::error::{Family, RunError};
use landfall_receiver::listen::Address;
use landfall_receiver::mapped_ram::FileReads;
use landfall_receiver::migration::Sink;
use landfall_receiver::receiver::{Incoming, Migration, Observer, Receiver, ReceiverConfig};
use landfall_receiver::report::query_receiver;
use landfall_receiver::status::Status;
use nix::fcntl::{FallocateFlags, fallocate};

/// A small guest of three blocks, saved in `rounds` rounds.
fn plan(page_bytes: u32, seed: u64) -> Plan {
    let mut config = SourceConfig::new(seed, 40 << 20, 0);
    config.page_bytes = page_bytes;
    config.target_page_bits = page_bytes != 4096;
    config.blocks.truncate(2);
    config.blocks.push(BlockConfig::new("small", 5 * 65536));
    config.return_path = false;
    // Pages turn zero and leave their old bytes in the file.
    (config.rounds, config.dirty_share, config.zero_share) = (3, 0.4, 0.4);
    config.early_sections = 1;
    Plan::new(config).expect("possible")
}

fn saved(plan: &Plan, path: &Path, offset: u64) -> Saved {
    save(plan, &File::create(path).expect("a file"), offset).expect("saved")
}

fn receiver(change: impl FnOnce(&mut ReceiverConfig), observer: Observer) -> Receiver {
    let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
    let mut config = ReceiverConfig { memory, readers: Some(2), ..ReceiverConfig::default() };
    change(&mut config);
    Receiver::new(config, observer, &|_, _| {}).expect("this host has io_uring")
}

fn quiet() -> Observer {
    Arc::new(|_, _| {})
}

fn received(receiver: &Receiver, path: &Path, offset: u64) -> Arc<Migration> {
    let address = Address::File { path: path.to_owned(), offset };
    let migration = receiver.start(&[address], Incoming::default(), &mut |_| None).expect("opens");
    assert!(migration.wait_for(Duration::from_secs(60)), "it ends");
    migration
}

fn completes(receiver: &Receiver, plan: &Plan, path: &Path, offset: u64) -> Arc<Migration> {
    let migration = received(receiver, path, offset);
    let ended = migration.ended().expect("it ended");
    assert_eq!(ended.error, None);
    if receiver.config().sink == Sink::Ram {
        let ram = ended.received.ram.as_ref().expect("a completed run has RAM");
        let read = |block: u16, offset: u64, out: &mut [u8]| {
            ram[usize::from(block)].read(offset, out);
            Ok(())
        };
        verify(plan, 1, read).expect("every page is right");
    }
    assert_eq!(ended.received.device_state.sections.len() as u64, sections(plan));
    migration
}

fn fails(receiver: &Receiver, path: &Path) -> RunError {
    let migration = received(receiver, path, 0);
    assert_eq!(*migration.run.status(), Status::Failed);
    migration.ended().and_then(|ended| ended.error.clone()).expect("an error")
}

/// Devices of the tail: every FULL of the script's end.
fn sections(plan: &Plan) -> u64 {
    // Two fixed ones, the invented ones, globalstate.
    u64::from(plan.config().devices.devices) + 3
}

#[test]
fn every_page_arrives_with_every_page_size_depth_and_number_of_readers() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    for (seed, page_bytes) in (1..).zip([4096, 8192, 16384, 65536]) {
        let plan = plan(page_bytes, seed);
        let offset = [0, 65536, 512, 4096][seed as usize % 4];
        let saved = saved(&plan, &path, offset);
        for (readers, queue_depth, direct_io) in [(1, 1, false), (3, 32, true), (2, 5, false)] {
            let receiver = receiver(
                |config| {
                    config.readers = Some(readers);
                    config.file_reads = FileReads { queue_depth, direct_io };
                },
                quiet(),
            );
            let migration = completes(&receiver, &plan, &path, offset);
            let report = query_receiver(&migration);
            let number = |pointer: &str| report.pointer(pointer).and_then(|n| n.as_u64());
            assert_eq!(number("/pages/normal-pages"), Some(saved.normal));
            assert_eq!(number("/pages/zero-pages"), Some(saved.zero));
            assert_eq!(number("/pages/unique-pages"), Some(saved.normal + saved.zero));
            assert_eq!(number("/pages/zero-written-pages"), Some(0), "no memory was touched");
        }
    }
}

#[test]
fn blocks_that_x_ignore_shared_leaves_out_have_no_place_and_all_others_load() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    for shared in [&[0][..], &[1, 2], &[0, 2]] {
        let mut config = plan(4096, 11).config().clone();
        config.x_ignore_shared = true;
        shared.iter().for_each(|&block: &usize| config.blocks[block].shared = true);
        let plan = Plan::new(config).expect("possible");
        let saved = saved(&plan, &path, 512);
        let migration = completes(&receiver(|_| {}, quiet()), &plan, &path, 512);
        let main = &migration.run.main;
        assert_eq!((main.normal.get(), main.zero.get()), (saved.normal, saved.zero));
        let ram = &migration.ended().expect("it ended").received.ram;
        for &block in shared {
            assert!(!ram.as_ref().expect("RAM")[block].is_received(0), "block {block}");
        }
    }
}

#[test]
fn what_was_received_before_does_not_show_under_clear_bits() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    // The pool keeps its memory from run to run.
    let receiver = receiver(|config| config.memory.pool_bytes = 96 << 20, quiet());
    for seed in 1..5 {
        let plan = plan(4096, seed);
        saved(&plan, &path, 0);
        completes(&receiver, &plan, &path, 0);
    }
}

#[test]
fn with_the_sink_discard_all_is_read_and_nothing_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    let plan = plan(4096, 9);
    let saved = saved(&plan, &path, 0);
    for direct_io in [false, true] {
        let receiver = receiver(
            |config| {
                config.sink = Sink::Discard;
                config.file_reads.direct_io = direct_io;
            },
            quiet(),
        );
        let migration = completes(&receiver, &plan, &path, 0);
        assert_eq!(migration.run.main.normal.get(), saved.normal);
        assert!(migration.run.main.wire_bytes.get() > saved.normal * 4096);
    }
}

#[test]
fn a_file_cut_anywhere_is_told_as_such_and_the_next_run_completes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (whole, cut) = (directory.path().join("whole"), directory.path().join("cut"));
    let plan = plan(4096, 3);
    let saved = saved(&plan, &whole, 0);
    let receiver = receiver(|_| {}, quiet());
    let places = saved.blocks.iter().flat_map(|block| {
        [block.header_offset + 5, block.bitmap_offset, block.bitmap_offset + 3, block.pages_offset]
    });
    let inside_pages = saved.blocks[1].pages_offset + 12_345;
    let tail = [saved.rest_offset, saved.rest_offset + 8, saved.bytes - 1000, saved.bytes - 1];
    for bytes in places.chain([9, inside_pages]).chain(tail) {
        copy(&whole, &cut, bytes);
        let error = fails(&receiver, &cut);
        let text = &error.text;
        assert!(text.contains("or its save is not finished"), "cut at {bytes}: {text}");
        assert!(!text.contains("bitmaps are empty"), "{text}");
        completes(&receiver, &plan, &whole, 0);
    }
}

#[test]
fn a_save_that_was_not_finished_is_told_by_its_empty_bitmaps() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    let plan = plan(4096, 4);
    let saved = saved(&plan, &path, 0);
    let file = OpenOptions::new().write(true).open(&path).expect("opens");
    for block in &saved.blocks {
        file.write_all_at(&vec![0; block.bitmap_bytes as usize], block.bitmap_offset).unwrap();
    }
    file.set_len(saved.rest_offset + 13).unwrap();
    let text = fails(&receiver(|_| {}, quiet()), &path).text;
    assert!(text.contains("all its bitmaps are empty"), "{text}");
}

#[test]
fn headers_that_lead_elsewhere_are_refused_and_nothing_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let (whole, path) = (directory.path().join("whole"), directory.path().join("changed"));
    let plan = plan(4096, 5);
    let saved = saved(&plan, &whole, 0);
    let receiver = receiver(|_| {}, quiet());
    let (first, second) = (saved.blocks[0], saved.blocks[1]);
    for (at, bytes, says) in [
        (first.header_offset, 2u32.to_be_bytes().to_vec(), "version"),
        (first.header_offset + 4, 8192u64.to_be_bytes().to_vec(), "page_size"),
        (second.header_offset + 12, first.bitmap_offset.to_be_bytes().to_vec(), "bitmap_offset"),
        (second.header_offset + 20, first.pages_offset.to_be_bytes().to_vec(), "pages_offset"),
        (second.header_offset + 20, (1u64 << 50).to_be_bytes().to_vec(), "end at byte"),
        (first.header_offset + 20, u64::MAX.to_be_bytes().to_vec(), "pages_offset"),
    ] {
        copy(&whole, &path, saved.bytes);
        let file = OpenOptions::new().write(true).open(&path).expect("opens");
        file.write_all_at(&bytes, at).unwrap();
        let error = fails(&receiver, &path);
        assert_eq!(error.family, Family::Malformed, "{error}");
        assert!(error.text.contains(says), "{says}: {error}");
        completes(&receiver, &plan, &whole, 0);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_the_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    let plan = plan(4096, 6);
    let saved = saved(&plan, &path, 0);
    let (first, was) = (saved.blocks[0], saved.bytes);
    let inside_pages = first.pages_offset + 12_345;
    let grown = format!("it had {was} bytes and now has {}", was + 4);
    let cut_behind_pages = format!("it had {was} bytes and now has {}", saved.rest_offset);
    let bitmap_cut = format!("the file ends at byte {}, inside the bitmap", first.bitmap_offset);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (change, says) in [
        (Change::Write(was), &*grown),
        (Change::Write(first.pages_offset), "somebody wrote to it"),
        (Change::Shrink(saved.rest_offset), &*cut_behind_pages),
        // Of several reads under way one that is all behind the end may be the first to say so.
        (Change::Shrink(inside_pages), "inside the pages of block 'pc.ram': it was cut"),
        (Change::Shrink(first.bitmap_offset), &*bitmap_cut),
    ] {
        self::saved(&plan, &path, 0);
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        file.set_modified(long_ago).expect("a time");
        // Told on main's thread, when the list of blocks is there and no page has been read.
        let observer: Observer = Arc::new(move |_, status| {
            if status == Status::Active {
                change.make(&file);
            }
        });
        // One reader: of two, either may be the first to meet the end, and elsewhere.
        let error = fails(&receiver(|config| config.readers = Some(1), observer), &path);
        assert_eq!(error.family, Family::Misbehaved, "{change:?}");
        assert!(error.text.contains(says), "{change:?}: {error}, not {says}");
        // The observer has gone with its receiver.
        self::saved(&plan, &path, 0);
        completes(&self::receiver(|_| {}, quiet()), &plan, &path, 0);
    }
}

/// What somebody does to a file that is being read.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A few bytes at this place.
    Write(u64),
    /// Cuts it to so many bytes.
    Shrink(u64),
}

impl Change {
    fn make(self, file: &File) {
        match self {
            Self::Write(place) => file.write_all_at(b"more", place).expect("written"),
            Self::Shrink(bytes) => file.set_len(bytes).expect("cut"),
        }
    }
}

#[test]
fn holes_under_set_bits_are_zero_pages_that_came_in_full_and_are_not_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    // The pool keeps its memory from run to run: what one left must not show under a hole.
    let receiver = receiver(|config| config.memory.pool_bytes = 96 << 20, quiet());
    for (seed, page_bytes) in [(21, 4096), (22, 65536), (23, 4096)] {
        let plan = plan(page_bytes, seed);
        let saved = saved(&plan, &path, 0);
        completes(&receiver, &plan, &path, 0);
        // As a source leaves it that looks for no zero pages, and as a sparse copy makes it.
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        for (place, block) in saved.blocks.iter().zip(&plan.config().blocks) {
            let mut bits = vec![0; place.bitmap_bytes as usize];
            file.read_exact_at(&mut bits, place.bitmap_offset).expect("a bitmap");
            for page in 0..block.bytes / u64::from(page_bytes) {
                let (byte, bit) = (page as usize / 8, 1 << (page % 8));
                if bits[byte] & bit == 0 {
                    let offset = place.pages_offset + page * u64::from(page_bytes);
                    dig(&file, offset, page_bytes.into());
                    bits[byte] |= bit;
                }
            }
            file.write_all_at(&bits, place.bitmap_offset).expect("written");
        }
        let all = saved.normal + saved.zero;
        let set_bytes = all * u64::from(page_bytes);
        let has_holes = file.metadata().expect("fstat").blocks() * 512 < set_bytes;
        let migration = completes(&receiver, &plan, &path, 0);
        let report = query_receiver(&migration);
        let number = |pointer: &str| report.pointer(pointer).and_then(|n| n.as_u64());
        assert_eq!(number("/pages/normal-pages"), Some(all));
        assert_eq!(number("/pages/zero-pages"), Some(0));
        assert_eq!(number("/pages/unique-pages"), Some(all));
        // A page of the plan may be zero although it is none of the source's zero pages.
        assert!(number("/pages/zero-sent-full-pages") >= Some(saved.zero));
        let read = number("/wire/main-bytes").expect("bytes");
        assert_eq!(read < set_bytes, has_holes, "{read} bytes read for {all} pages");
    }
}

/// Makes a hole, or zeros where the file system has none.
fn dig(file: &File, offset: u64, bytes: u64) {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    if fallocate(file, flags, offset.cast_signed(), bytes.cast_signed()).is_err() {
        file.write_all_at(&vec![0; bytes as usize], offset).expect("written");
    }
}

#[test]
fn a_plain_file_that_shrinks_while_it_is_read_is_told_as_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("plain");
    let mut config = SourceConfig::new(8, 8 << 20, 0);
    config.return_path = false;
    let plan = Plan::new(config).expect("possible");
    let (near, far) = UnixStream::pair().expect("a pair");
    let bytes = thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut bytes = Vec::new();
            (&far).read_to_end(&mut bytes).map(|_| bytes)
        });
        let target = Target::connected([near.into()]);
        let outcome = send(&plan, &target, &SendOptions::default(), &Progress::new());
        assert_eq!(outcome.end, End::Completed, "{outcome:?}");
        drop(target);
        received.join().expect("no panic").expect("all of it")
    });
    std::fs::write(&path, &bytes).expect("written");
    completes(&receiver(|_| {}, quiet()), &plan, &path, 0);
    for left in [bytes.len() as u64 / 2, bytes.len() as u64 - 1] {
        std::fs::write(&path, &bytes).expect("written");
        let file = OpenOptions::new().write(true).open(&path).expect("opens");
        // When RAM is mapped one buffer of the file has been read.
        let observer: Observer = Arc::new(move |_, status| {
            if status == Status::Active {
                file.set_len(left).expect("cut");
            }
        });
        let error = fails(&receiver(|_| {}, observer), &path);
        assert!(error.text.contains("or its save is not finished"), "{left}: {error}");
    }
}

/// The first `bytes` of a file, holes and all.
fn copy(from: &Path, to: &Path, bytes: u64) {
    let mut source = File::open(from).expect("opens");
    let mut target = File::create(to).expect("a file");
    target.set_len(bytes).expect("sparse");
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let most = (bytes - at).min(piece.len() as u64) as usize;
        let count = source.read(&mut piece[..most]).expect("reads");
        assert!(count > 0, "the source is longer");
        if piece[..count].iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(at)).expect("seeks");
            target.write_all(&piece[..count]).expect("writes");
        }
        at += count as u64;
    }
}
