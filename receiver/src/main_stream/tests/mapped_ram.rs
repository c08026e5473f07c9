//! Streams whose pages have their places in the file.

use super::*;
use crate::main_stream::fuzzing;
use crate::wire::FileExtent;
use crate::wire::fuzzing::mutate;

const BLOCKS: [(&str, u64); 2] = [("mem", 0x1_0000), ("pc.bios", 0x2000)];

/// A file whose stream begins at `offset`; `places` are the offsets of bitmap
/// and pages of each block, as QEMU lays them out but for the space between.
fn file(offset: usize, change: impl Fn(usize, &mut [u64; 2])) -> Vec<u8> {
    let mut source = Source::new(true);
    source.bytes.resize(offset, 0xaa);
    source.header().configuration_with_capability("pc-q35-10.0", "mapped-ram");
    source.start(1, 1, "ram", 0, 4).be64(0x1_2000 | 0x04);
    for (index, (name, used_bytes)) in BLOCKS.into_iter().enumerate() {
        source.cstr(name).be64(used_bytes);
        let bitmap = source.bytes.len() as u64 + 28;
        let mut places = [bitmap, (bitmap + 8).next_multiple_of(4096)];
        change(index, &mut places);
        source.be32(1).be64(4096).be64(places[0]).be64(places[1]);
        let end = (bitmap + 8).next_multiple_of(4096) + used_bytes;
        source.bytes.resize(end as usize, 0xee);
    }
    source.eos().footer(1);
    source.go_on(2, 1).eos().footer(1);
    source.go_on(3, 1).eos().footer(1);
    source.device(0, "timer", 0, &[1; 24]).end();
    source.bytes
}

fn feed(bytes: &[u8], offset: usize) -> Outcome {
    let extent = FileExtent { offset: offset as u64, bytes: bytes.len() as u64 };
    let options = Options { file: Some(extent), ..Options::default() };
    run(bytes, options, || 100).0
}

fn refused(change: impl Fn(usize, &mut [u64; 2])) -> String {
    feed(&file(0, change), 0).end.unwrap_err().to_string()
}

#[test]
fn the_stream_goes_on_behind_each_blocks_pages() {
    for offset in [0, 512, 65536] {
        let bytes = file(offset, |_, _| {});
        let outcome = feed(&bytes, offset);
        assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
        let blocks = outcome.blocks.unwrap();
        for block in blocks.iter() {
            let mapped = block.mapped.unwrap();
            assert!(mapped.pages_offset.is_multiple_of(4096), "offsets are the file's");
            assert_eq!(bytes[mapped.bitmap_offset as usize], 0xee);
        }
        let seeks = outcome.log.iter().filter(|line| line.starts_with("Seek")).count();
        assert_eq!(seeks, blocks.len());
        fuzzing::file(&bytes, offset);
    }
}

/// As [`file`], with x-ignore-shared too: blocks that `places` says false of have none.
fn file_with_ignored_blocks(places: [bool; 2]) -> Vec<u8> {
    let mut source = Source::new(true);
    source.header().configuration("pc-q35-11.0").raw(&[5]).cstr("configuration/capabilities");
    source.be32(1).be32(2).cstr("x-ignore-shared").cstr("mapped-ram");
    source.start(1, 1, "ram", 0, 4).be64(0x1_2000 | 0x04);
    for ((name, used_bytes), has_place) in BLOCKS.into_iter().zip(places) {
        source.cstr(name).be64(used_bytes).be64(0xc000_0000).be32(1).be64(4096);
        if has_place {
            let bitmap = source.bytes.len() as u64 + 16;
            let pages = (bitmap + 8).next_multiple_of(4096);
            source.be64(bitmap).be64(pages);
            source.bytes.resize((pages + used_bytes) as usize, 0xee);
        } else {
            source.be64(0).be64(0);
        }
    }
    source.eos().footer(1);
    source.go_on(3, 1).eos().footer(1).device(0, "timer", 0, &[1; 24]).end();
    source.bytes
}

#[test]
fn blocks_that_x_ignore_shared_leaves_out_have_no_place_and_the_stream_goes_on_behind_them() {
    for places in [[true, false], [false, true], [false, false]] {
        let bytes = file_with_ignored_blocks(places);
        let outcome = feed(&bytes, 0);
        assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
        let blocks = outcome.blocks.unwrap();
        assert_eq!(blocks.iter().map(|block| block.mapped.is_some()).collect::<Vec<_>>(), places);
        let seeks = outcome.log.iter().filter(|line| line.starts_with("Seek")).count();
        assert_eq!(seeks, places.iter().filter(|&&has_place| has_place).count());
        fuzzing::file(&bytes, 0);
    }
}

#[test]
fn places_over_each_other_or_before_their_header_are_refused() {
    let text = refused(|index, places| places[0] -= u64::from(index == 1));
    assert!(text.contains("bitmap_offset is"), "{text}");
    let text = refused(|index, places| places[index] = 0x1000);
    assert!(text.contains("bitmap_offset is") || text.contains("pages_offset is"), "{text}");
    let text = refused(|_, places| places[1] += 512);
    assert!(text.contains("not a multiple of 0x1000"), "{text}");
    let text = refused(|index, places| places[1] += u64::from(index == 1) << 40);
    assert!(text.contains("pages of block 'pc.bios' end at byte"), "{text}");
}

#[test]
fn every_cut_of_the_file_is_told_as_one() {
    let bytes = file(0, |_, _| {});
    for cut in (0..bytes.len()).step_by(7) {
        let error = match feed(&bytes[..cut], 0).end {
            Err(error) => error.to_string(),
            Ok(end) => {
                assert_eq!((end, bytes[cut]), (End::WithoutDescription, 6));
                continue;
            }
        };
        assert!(error.contains("or its save is not finished"), "cut at {cut}: {error}");
    }
}

#[test]
fn a_page_in_the_stream_of_such_a_file_is_refused() {
    let mut bytes = file(0, |_, _| {});
    // The item behind the last block's pages becomes a ZERO item.
    let eos = bytes.windows(9).rposition(|bytes| bytes == b"\0\0\0\0\0\0\0\x10\x7e");
    let first = bytes.windows(9).position(|bytes| bytes == b"\0\0\0\0\0\0\0\x10\x7e").unwrap();
    assert!(eos > Some(first));
    bytes[first + 7] = 0x22;
    let text = feed(&bytes, 0).end.unwrap_err().to_string();
    assert!(text.contains("none may be in the stream"), "{text}");
}

#[test]
fn changed_files_never_panic_and_never_place_pages_outside_or_twice() {
    let mut random = landfall_seed::random();
    let base = file(64, |_, _| {});
    for _ in 0..1000 {
        let mut bytes = base.clone();
        // Most of the file is pages: change where the stream is.
        let at = [64, 0x1_1000, bytes.len() - 400][random.usize(..3)].min(bytes.len());
        let end = (at + 200).min(bytes.len());
        let mut part = bytes[at..end].to_vec();
        mutate(&mut random, &mut part);
        bytes.splice(at..end, part);
        fuzzing::file(&bytes, 64.min(bytes.len()));
    }
}
