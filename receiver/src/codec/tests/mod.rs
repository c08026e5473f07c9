//! Each method against its own library's encoder, and against what a hostile
//! source makes of it.

pub(super) mod encode;

use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use zstd_safe::CParameter;

use super::stream::DETOUR_BYTES;
use super::{CodecError, Decoder};
use crate::error::Family;
use crate::place::{Filled, Places, Run};
use crate::staging::{STAGING_MAX_DEFAULT, Staging, StagingFull};
use crate::wire::{Compression, PageBytes};
use encode::Encoder;

/// A decoder with guest memory of 64 pages.
struct Bed {
    ram: RamBlocks,
    decoder: Decoder,
}

impl Bed {
    fn new(compression: Compression) -> Self {
        let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).unwrap();
        let request = BlockRequest { name: BlockName::parse(b"mem").unwrap(), bytes: 64 * PAGE };
        let ram = pool.carve(&[request], 4096, &|_, _| {}).unwrap();
        ram[0].lend(0..64);
        Self { ram, decoder: decoder(compression) }
    }

    /// Decodes one packet, `cut` bytes at a time.
    fn packet(&mut self, payload: &[u8], runs: &[Run], cut: usize) -> Result<(), CodecError> {
        let pages = runs.iter().map(|run| run.bytes / PAGE).sum::<u64>();
        self.decoder.begin(pages as usize, payload.len() as u64);
        let mut filled = Filled::default();
        let mut places = Places::new(&self.ram[0], runs, &mut filled);
        for piece in payload.chunks(cut) {
            self.decoder.take(piece, &mut places)?;
        }
        self.decoder.end(&mut places)
    }

    fn read(&self, runs: &[Run]) -> Vec<u8> {
        let mut content = Vec::new();
        for run in runs {
            let mut bytes = vec![0; run.bytes as usize];
            self.ram[0].read(run.offset, &mut bytes);
            content.extend(bytes);
        }
        content
    }
}

/// A decoder that has seen nothing.
fn decoder(compression: Compression) -> Decoder {
    let staging = Staging::new(STAGING_MAX_DEFAULT);
    Decoder::new(compression, PageBytes::DEFAULT, &staging).unwrap()
}

fn run(page: u64, pages: u64) -> Run {
    Run { offset: page * PAGE, bytes: pages * PAGE }
}

/// Pages of three kinds: noise, text, one value.
fn pages(salt: u64, count: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(salt);
    let mut page = |number: u64| -> Vec<u8> {
        let byte = |at: u64| match number % 3 {
            0 => random.u8(..),
            1 => b"the same again "[(at % 15) as usize],
            _ => salt as u8,
        };
        (0..PAGE).map(byte).collect()
    };
    (0..count).flat_map(&mut page).collect()
}

#[test]
fn pages_come_back_packet_after_packet_however_they_are_cut_and_placed() {
    for compression in Compression::METHODS {
        for cut in [1, 13, 4096, usize::MAX] {
            let mut bed = Bed::new(compression);
            let mut encoder = Encoder::new(compression);
            for (salt, runs) in [
                (1, vec![run(0, 30)]),
                (2, vec![run(40, 1), run(3, 2), run(50, 7), run(20, 1)]),
                (3, vec![run(63, 1)]),
            ] {
                let content = pages(salt, runs.iter().map(|run| run.bytes / PAGE).sum());
                let payload = encoder.packet(&content);
                let label = format!("{} cut by {cut}, packet {salt}", compression.as_str());
                assert_eq!(bed.packet(&payload, &runs, cut), Ok(()), "{label}");
                assert!(bed.read(&runs) == content, "{label}");
            }
        }
    }
}

#[test]
fn a_payload_cut_short_lengthened_or_of_another_size_is_refused() {
    for compression in Compression::METHODS {
        let payload = |pages| Encoder::new(compression).packet(pages);
        let label = compression.as_str();
        let (two, three) = (pages(5, 2), pages(5, 3));
        let mut bed = Bed::new(compression);
        let mut refused = |bytes: &[u8]| {
            bed.decoder = decoder(compression);
            bed.packet(bytes, &[run(0, 2)], usize::MAX)
        };
        let whole = payload(&two);
        assert_eq!(refused(&whole), Ok(()), "{label}");
        // Zlib's ends with a block's end and a flush, which hold no page.
        let needed = if compression == Compression::Zlib { 8 } else { 1 };
        for cut in 0..=whole.len() - needed {
            assert!(refused(&whole[..cut]).is_err(), "{label}, {cut} of {} bytes", whole.len());
        }
        // (To zlib a single byte may be the beginning of the next block.)
        for tail in [&[0xff; 40][..], &[0x77; 9], &whole] {
            let longer = [&whole[..], tail].concat();
            let error = refused(&longer).expect_err(label);
            assert_eq!(error.family(), Family::Malformed, "{label}: {error}");
        }
        assert!(refused(&payload(&three)).is_err(), "{label}: a page too many");
        assert!(refused(&payload(&two[..4096])).is_err(), "{label}: a page too few");
        assert!(refused(&payload(&two[..8191])).is_err(), "{label}: a byte too few");
        assert!(refused(&[0x77; 500]).is_err(), "{label}: noise");
    }
}

#[test]
fn a_bomb_writes_its_pages_and_no_more() {
    for compression in [Compression::Zlib, Compression::Zstd, Compression::Qatzip] {
        let bomb = Encoder::new(compression).packet(&vec![7; 1 << 20]);
        let mut bed = Bed::new(compression);
        let error = bed.packet(&bomb, &[run(3, 1)], usize::MAX).unwrap_err();
        assert_eq!(error, CodecError::Excess { pages_bytes: PAGE }, "{}", compression.as_str());
        assert!(bed.read(&[run(4, 60)]).iter().all(|&byte| byte == 0), "{}", compression.as_str());
    }
    for compression in [Compression::Qpl, Compression::Uadk] {
        // A page of a bomb: its entry in the table is right.
        let whole = Encoder::new(Compression::Zlib).packet(&[7; 1 << 16]);
        let unit = if compression == Compression::Qpl { &whole[2..] } else { &whole[..] };
        let bomb = [&(unit.len() as u32).to_be_bytes()[..], unit].concat();
        let mut bed = Bed::new(compression);
        let error = bed.packet(&bomb, &[run(3, 1)], usize::MAX).unwrap_err();
        assert_eq!(error, CodecError::Page { page: 0 }, "{}", compression.as_str());
        assert!(bed.read(&[run(4, 60)]).iter().all(|&byte| byte == 0), "{}", compression.as_str());
    }
}

#[test]
fn a_stream_that_belongs_to_another_channel_or_run_is_refused() {
    for compression in [Compression::Zlib, Compression::Zstd] {
        let mut encoder = Encoder::new(compression);
        let first = encoder.packet(&pages(1, 3));
        let second = encoder.packet(&pages(2, 3));
        let mut bed = Bed::new(compression);
        assert!(bed.packet(&second, &[run(0, 3)], usize::MAX).is_err(), "no beginning");
        // A decoder is of one run: the next one knows nothing of the last.
        let mut bed = Bed::new(compression);
        assert_eq!(bed.packet(&first, &[run(0, 3)], usize::MAX), Ok(()));
        assert!(bed.packet(&first, &[run(0, 3)], usize::MAX).is_err(), "two beginnings");
        let mut bed = Bed::new(compression);
        assert_eq!(bed.packet(&first, &[run(0, 3)], usize::MAX), Ok(()));
        assert_eq!(bed.packet(&second, &[run(0, 3)], usize::MAX), Ok(()));
    }
}

#[test]
fn a_stream_that_ends_is_refused() {
    use std::io::Write;
    let content = pages(1, 1);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&content).unwrap();
    let cases = [
        (Compression::Zlib, zlib.finish().unwrap()),
        (Compression::Zstd, zstd::bulk::compress(&content, 1).unwrap()),
    ];
    for (compression, payload) in cases {
        let error = Bed::new(compression).packet(&payload, &[run(0, 1)], usize::MAX).unwrap_err();
        assert_eq!(error, CodecError::Ended, "{}", compression.as_str());
    }
}

#[test]
fn dictionaries_skippable_frames_and_large_windows_are_refused_by_their_headers() {
    let refused = |compression, header: &[u8]| {
        Bed::new(compression).packet(header, &[run(0, 1)], 1).unwrap_err()
    };
    // RFC 1950: FDICT, and the dictionary's checksum.
    let error = refused(Compression::Zlib, &[0x78, 0x20 + 0x1b, 1, 2, 3, 4, 0, 0]);
    assert!(matches!(error, CodecError::Dictionary | CodecError::Broken), "{error}");
    let zlib_fdict = [0x78, 0xbb, 1, 2, 3, 4, 0, 0];
    assert_eq!(refused(Compression::Zlib, &zlib_fdict), CodecError::Dictionary);
    // RFC 8878: a dictionary id of one byte; window descriptor.
    let zstd = |rest: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd][..], rest].concat();
    let error = refused(Compression::Zstd, &zstd(&[0x01, 0x48, 9, 0, 0, 0]));
    assert_eq!(error, CodecError::Dictionary);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(refused(Compression::Zstd, &skippable), CodecError::Skippable);
    // Window log 10 + 15 is the cap; one step of an eighth above it is not.
    let error = refused(Compression::Zstd, &zstd(&[0x00, (15 << 3) | 1, 0, 0, 0, 0]));
    assert_eq!(error, CodecError::Window { found: (1 << 25) + (1 << 22), limit: 1 << 25 });
    assert_eq!(error.family(), Family::Malformed);
    let text = "the frame's window is 37748736 bytes, limit 33554432 (window log 25)";
    assert_eq!(error.to_string(), text);
    // One segment: the window is as large as the content.
    let huge = zstd(&[0b1110_0000, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    let error = refused(Compression::Zstd, &huge);
    assert_eq!(error, CodecError::Window { found: 1 << 32, limit: 1 << 25 });
    assert_eq!(error.family(), Family::Malformed);
    let error = refused(Compression::Zstd, &zstd(&[0x00, 15 << 3, 0, 0, 0]));
    assert!(!matches!(error, CodecError::Window { .. }), "{error}");
}

#[test]
fn a_frame_reaches_back_through_its_whole_window_however_often_it_has_gone_round_it() {
    for (window_log, distance_pages) in [(10, 3), (14, 3), (17, 31), (19, 127)] {
        let mut zstd = zstd::stream::raw::Encoder::new(7).unwrap();
        zstd.set_parameter(CParameter::WindowLog(window_log)).unwrap();
        let mut encoder = Encoder::Zstd(zstd);
        let mut bed = Bed::new(Compression::Zstd);
        let (mut from, mut sent) = (0, 0);
        let all_pages = 6 * distance_pages.max(32);
        for count in [1, 2, 50, 13, 64, 30].into_iter().cycle() {
            // Noise, that comes again from so far back, and a word that never does.
            let page = |number: u64| {
                let mut page = pages(3 * (number % distance_pages), 1);
                page[..8].copy_from_slice(&number.to_le_bytes());
                page
            };
            let content: Vec<u8> = (from..from + count).flat_map(page).collect();
            let payload = encoder.packet(&content);
            sent += payload.len() as u64;
            let label = format!("window log {window_log}, page {from}");
            assert_eq!(bed.packet(&payload, &[run(0, count)], 50_000), Ok(()), "{label}");
            assert!(bed.read(&[run(0, count)]) == content, "{label}");
            from += count;
            if from > all_pages {
                break;
            }
        }
        let reaches_back = distance_pages * PAGE < 1 << window_log;
        assert_eq!(sent < from * PAGE / 3, reaches_back, "window log {window_log}: {sent} bytes");
    }
}

#[test]
fn what_comes_behind_a_full_detour_of_zstd_is_not_overlooked() {
    let detour_pages = DETOUR_BYTES as u64 / PAGE;
    let packet = |payload: &[u8]| {
        let mut bed = Bed::new(Compression::Zstd);
        bed.packet(payload, &[run(0, detour_pages)], usize::MAX)
    };
    let payload = |count| Encoder::new(Compression::Zstd).packet(&pages(1, count));
    assert_eq!(packet(&payload(detour_pages)), Ok(()));
    let excess = CodecError::Excess { pages_bytes: DETOUR_BYTES as u64 };
    assert_eq!(packet(&payload(detour_pages + 1)), Err(excess));
    let missing = CodecError::Missing { missing: PAGE };
    assert_eq!(packet(&payload(detour_pages - 1)), Err(missing));
    let ending = zstd::bulk::compress(&pages(1, detour_pages), 1).unwrap();
    assert_eq!(packet(&ending), Err(CodecError::Ended));
}

#[test]
fn tables_of_lengths_are_checked_before_their_pages() {
    for compression in [Compression::Qpl, Compression::Uadk] {
        let refused = |lengths: &[u32], rest: usize| {
            let mut payload: Vec<u8> = lengths.iter().flat_map(|n| n.to_be_bytes()).collect();
            payload.resize(payload.len() + rest, 0);
            Bed::new(compression).packet(&payload, &[run(0, 2)], usize::MAX).unwrap_err()
        };
        let length = |page, found| CodecError::Length { page, found, limit: 4096 };
        assert_eq!(refused(&[4096, 4097], 8193), length(1, 4097));
        assert_eq!(refused(&[0, 4096], 4096), length(0, 0));
        assert_eq!(refused(&[u32::MAX, 1], 10), length(0, u32::MAX));
        let size = CodecError::Size { found: 8 + 8191, expected: 8 + 8192 };
        assert_eq!(refused(&[4096, 4096], 8191), size);
        assert_eq!(refused(&[4], 0), CodecError::Missing { missing: 2 * PAGE });
    }
}

#[test]
fn a_decoder_is_lent_its_memory_before_it_has_any_and_gives_it_back() {
    for compression in Compression::METHODS {
        let staging = Staging::new(1000);
        let payload = Encoder::new(compression).packet(&pages(1, 1));
        let outcome = Decoder::new(compression, PageBytes::DEFAULT, &staging);
        let bed = Bed::new(compression);
        let runs = [run(0, 1)];
        let error = match outcome {
            Err(error) => error,
            // What a zstd frame takes is told by its first bytes.
            Ok(mut decoder) => {
                let mut filled = Filled::default();
                let mut places = Places::new(&bed.ram[0], &runs, &mut filled);
                decoder.take(&payload, &mut places).unwrap_err()
            }
        };
        let CodecError::Staging(StagingFull { lent: 0, max: 1000, .. }) = error else {
            panic!("{}: {error}", compression.as_str());
        };
        assert_eq!(error.family(), Family::Environment);
        assert_eq!(staging.lent(), 0);
    }
}

const PAGE: u64 = 4096;
