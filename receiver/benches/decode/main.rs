//! Decoding: the receiver's own decoders into guest RAM whose pages lie together or apart, zlib-rs a
//! page at a time beside them, and XBZRLE; and zstd, design against design. Bytes are those of the
//! pages.

mod zstd_contest;
#[allow(unsafe_code, reason = "zstd writes guest RAM: docs/unsafe.md#decode-bench")]
mod zstd_straight;
#[allow(unsafe_code, reason = "zstd's functions for blocks: docs/unsafe.md#decode-bench")]
mod zstd_window;

use std::io::Write;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use fastrand::Rng;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use landfall_receiver::codec::Decoder;
use landfall_receiver::place::{Filled, Places, Run};
use landfall_receiver::staging::{STAGING_MAX_DEFAULT, Staging};
use landfall_receiver::wire::xbzrle::Patches;
use landfall_receiver::wire::{Compression, PageBytes};
use zstd::stream::raw::{Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let packets = if measuring { 32 } else { 2 };
    let small = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
    let ram = ram(&small, 2 * (PACKET_PAGES * PAGE) as u64);
    for (what, content) in [("text", text as fn(usize) -> Vec<u8>), ("noise", noise)] {
        let pages: Vec<Vec<u8>> = (0..packets).map(content).collect();
        let mut group = criterion.benchmark_group(what);
        group.throughput(Throughput::Bytes((packets * PACKET_PAGES * PAGE) as u64));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        for compression in
            [Compression::Zlib, Compression::Zstd, Compression::Qpl, Compression::Uadk]
        {
            decoders(&mut group, compression, &pages, &ram);
        }
        let units: Vec<Vec<u8>> = pages.iter().flat_map(|p| p.chunks(PAGE)).map(zlib).collect();
        group.bench_function("unit-a-page-by-zlib-rs", |bencher| {
            bencher.iter(|| by_zlib_rs(&units));
        });
        assert!(
            pages[packets - 1].ends_with(&by_zlib_rs(&units)),
            "{what}: the last page is there"
        );
        group.finish();
    }
    xbzrle(&mut criterion, &ram);
    // Far beyond any cache; in the test suite only what shows right answers.
    let (packets, turns, ram_packets) = if measuring { (64, 15, 512) } else { (2, 1, 4) };
    zstd_contest::hold(packets, turns, ram_packets);
    criterion.final_summary();
}

fn decoders(
    group: &mut BenchmarkGroup<'_, WallTime>,
    compression: Compression,
    pages: &[Vec<u8>],
    ram: &RamBlocks,
) {
    let payloads = encoded(compression, pages);
    for place_pages in [128, 16, 8, 4, 1] {
        let runs = runs(place_pages);
        let name = format!("{}/places-of-{place_pages}", compression.as_str());
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode(compression, &payloads, ram, &runs));
        });
        // Whether or not the bench was asked for.
        decode(compression, &payloads, ram, &runs);
        let mut found = Vec::with_capacity(PACKET_PAGES * PAGE);
        for run in &runs {
            let mut place = vec![0; run.bytes as usize];
            ram[0].read(run.offset, &mut place);
            found.extend(place);
        }
        assert!(Some(&found) == pages.last(), "{compression:?}: the last packet is there");
    }
}

/// Pages with `changed` bytes every `step`, as a source encodes them.
fn xbzrle(criterion: &mut Criterion, ram: &RamBlocks) {
    let mut group = criterion.benchmark_group("xbzrle");
    group.throughput(Throughput::Bytes((PACKET_PAGES * PAGE) as u64));
    for (changed, step) in [(1, 2048), (8, 64), (100, 120)] {
        let mut encoded = Vec::new();
        for _ in 0..PAGE / step {
            let unchanged = step - changed;
            length(unchanged, &mut encoded);
            length(changed, &mut encoded);
            encoded.extend(vec![0xc3; changed]);
        }
        ram[0].write(0, &[0; PACKET_PAGES * PAGE]);
        let patch = || {
            for page in 0..PACKET_PAGES {
                for patch in Patches::new(&encoded, PAGE) {
                    let patch = patch.expect("right");
                    ram[0].write((page * PAGE + patch.at) as u64, patch.bytes);
                }
            }
        };
        group.bench_function(format!("{changed}-of-{step}"), |bencher| bencher.iter(patch));
        patch();
        let mut found = vec![0; PACKET_PAGES * PAGE];
        ram[0].read(0, &mut found);
        for page in found.chunks(PAGE) {
            let right = page.iter().enumerate().all(|(at, &byte)| {
                let inside = at < PAGE / step * step && at % step >= step - changed;
                byte == if inside { 0xc3 } else { 0 }
            });
            assert!(right, "{changed} of {step}: changed bytes and no others");
        }
    }
    group.finish();
}

fn length(bytes: usize, out: &mut Vec<u8>) {
    if bytes < 128 {
        out.push(bytes as u8);
    } else {
        out.extend([bytes as u8 & 127 | 128, (bytes >> 7) as u8]);
    }
}

/// One packet after the other to the same places.
fn decode(compression: Compression, payloads: &[Vec<u8>], ram: &RamBlocks, runs: &[Run]) {
    let staging = Staging::new(STAGING_MAX_DEFAULT);
    let mut decoder = Decoder::new(compression, PageBytes::DEFAULT, &staging).expect("memory");
    for payload in payloads {
        decoder.begin(PACKET_PAGES, payload.len() as u64);
        let mut filled = Filled::default();
        let mut places = Places::new(&ram[0], runs, &mut filled);
        decoder.take(payload, &mut places).expect("right");
        decoder.end(&mut places).expect("whole");
    }
}

/// Decodes all units; returns the last page.
fn by_zlib_rs(units: &[Vec<u8>]) -> [u8; PAGE] {
    let mut inflate = Decompress::new(true);
    let mut page = [0; PAGE];
    for unit in units {
        inflate.reset(true);
        inflate.decompress(unit, &mut page, FlushDecompress::Finish).expect("right");
    }
    page
}

fn encoded(compression: Compression, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut zlib_stream = Compress::new(Level::fast(), true);
    let mut zstd = ZstdEncoder::new(1).expect("memory");
    let packet = |pages: &Vec<u8>| match compression {
        Compression::Zlib => {
            let mut out = Vec::with_capacity(2 * pages.len());
            zlib_stream.compress_vec(pages, &mut out, FlushCompress::Sync).expect("room");
            out
        }
        Compression::Zstd => {
            let mut out = vec![0; 2 * pages.len()];
            let (mut input, mut output) =
                (InBuffer::around(pages), OutBuffer::around(&mut out[..]));
            while input.pos() < pages.len() {
                zstd.run(&mut input, &mut output).expect("room");
            }
            zstd.flush(&mut output).expect("room");
            let bytes = output.pos();
            out.truncate(bytes);
            out
        }
        Compression::Qpl => by_page(pages, deflate),
        _ => by_page(pages, zlib),
    };
    packets.iter().map(packet).collect()
}

fn by_page(pages: &[u8], encode: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let units: Vec<Vec<u8>> = pages
        .chunks(PAGE)
        .map(|page| Some(encode(page)).filter(|unit| unit.len() < PAGE).unwrap_or(page.to_vec()))
        .collect();
    let lengths = units.iter().flat_map(|unit| (unit.len() as u32).to_be_bytes());
    lengths.chain(units.iter().flatten().copied()).collect()
}

fn deflate(page: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(page).and_then(|()| encoder.finish()).expect("memory")
}

fn zlib(page: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(page).and_then(|()| encoder.finish()).expect("memory")
}

fn text(number: usize) -> Vec<u8> {
    let mut random = Rng::with_seed(number as u64);
    let mut out = Vec::with_capacity(PACKET_PAGES * PAGE + 16);
    while out.len() < PACKET_PAGES * PAGE {
        write!(out, "word{} ", random.u32(..5000)).expect("memory");
    }
    out.truncate(PACKET_PAGES * PAGE);
    out
}

fn noise(number: usize) -> Vec<u8> {
    let mut random = Rng::with_seed(number as u64);
    (0..PACKET_PAGES * PAGE / 4).flat_map(|_| random.u32(..1 << 31).to_le_bytes()).collect()
}

fn ram(config: &MemoryConfig, bytes: u64) -> RamBlocks {
    let mut pool = Pool::open(config, &|_, _| {}).expect("memory");
    let name = BlockName::parse(b"mem").expect("a name");
    let ram = pool.carve(&[BlockRequest { name, bytes }], 4096, &|_, _| {}).expect("memory");
    ram[0].lend(0..bytes / PAGE as u64);
    ram
}

/// Places of so many pages, with a page between them.
fn runs(place_pages: usize) -> Vec<Run> {
    let bytes = (place_pages * PAGE) as u64;
    let places = (PACKET_PAGES / place_pages) as u64;
    (0..places).map(|place| Run { offset: place * (bytes + PAGE as u64), bytes }).collect()
}

const PAGE: usize = 4096;
const PACKET_PAGES: usize = 128;
