//! zstd into guest RAM that is in no cache, design against design: alternating, in one run, CPU
//! seconds per GiB of pages, medians, and medians of ratios to the first.

use std::time::Duration;

use landfall_pagepool::{MemoryConfig, RamBlock};
use landfall_receiver::codec::Decoder;
use landfall_receiver::place::{Filled, Places, Run};
use landfall_receiver::staging::{STAGING_MAX_DEFAULT, Staging};
use landfall_receiver::wire::{Compression, PageBytes};
use nix::time::{ClockId, clock_gettime};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use crate::zstd_straight::Straight;
use crate::zstd_window::Windowed;
use crate::{PACKET_PAGES, PAGE, encoded, noise, ram, runs, text};

/// Prints what each design costs; wrong pages panic.
pub(crate) fn hold(packets: usize, turns: usize, ram_packets: u64) {
    let pages: Vec<Vec<u8>> = (0..packets).map(quarter_noise).collect();
    let payloads = encoded(Compression::Zstd, &pages);
    // A page between the places of a packet, at most.
    let place_bytes = 2 * (PACKET_PAGES * PAGE) as u64;
    let ram = ram(&MemoryConfig::default(), ram_packets * place_bytes);
    for place_pages in [PACKET_PAGES, 1] {
        println!("zstd, a quarter noise, places of {place_pages}:");
        let mut packet = 0;
        let mut costs: Vec<Vec<f64>> = Vec::new();
        for turn in 0..turns {
            let mut of_turn = vec![0.0; DESIGNS.len()];
            for index in (0..DESIGNS.len()).map(|index| (index + turn) % DESIGNS.len()) {
                let mut spent = Duration::ZERO;
                let mut design = (DESIGNS[index].make)();
                for (payload, pages) in payloads.iter().zip(&pages) {
                    let mut runs = runs(place_pages);
                    runs.iter_mut().for_each(|run| run.offset += packet * place_bytes);
                    packet = (packet + 1) % ram_packets;
                    // As it lies in staging memory: just received.
                    let payload = payload.clone();
                    let start = cpu();
                    design.packet(&payload, &ram[0], &runs);
                    if DESIGNS[index].places {
                        // As the receiver does, which counts zero pages that were sent in full.
                        let zero = page_numbers(&runs).filter(|&page| ram[0].is_zero(page));
                        assert_eq!(zero.count(), 0, "no page is zero");
                    }
                    spent += cpu() - start;
                    if turn == 0 && DESIGNS[index].places {
                        assert!(&read(&ram[0], &runs) == pages, "{}: pages", DESIGNS[index].name);
                    }
                }
                let gib = (packets * PACKET_PAGES * PAGE) as f64 / f64::from(1u32 << 30);
                of_turn[index] = spent.as_secs_f64() / gib;
            }
            costs.push(of_turn);
        }
        for (index, Design { name, .. }) in DESIGNS.iter().enumerate() {
            let cost = median(costs.iter().map(|of_turn| of_turn[index]));
            let ratio = median(costs.iter().map(|of_turn| of_turn[index] / of_turn[0]));
            println!("    {name:<44} {cost:.3} CPU-s/GiB, {ratio:.3}");
        }
    }
}

/// A way to decode.
struct Design {
    name: &'static str,
    make: fn() -> Box<dyn Contestant>,
    /// Whether it brings the pages to where they go.
    places: bool,
}

/// One frame's decoder.
pub(crate) trait Contestant {
    /// Decodes a whole packet.
    fn packet(&mut self, payload: &[u8], block: &RamBlock, runs: &[Run]);
}

const DESIGNS: [Design; 6] = [
    Design {
        name: "zstd's window, memcpy to a page (QEMU)",
        make: || Box::new(Straight::new(PAGE)),
        places: true,
    },
    Design {
        name: "zstd's window, memcpy to a place",
        make: || Box::new(Straight::new(usize::MAX)),
        places: true,
    },
    Design {
        name: "zstd's window, 64 KiB, past the caches",
        make: || Box::new(Through::new(64 << 10, true)),
        places: true,
    },
    Design {
        name: "zstd's window, 128 KiB, past (the receiver)",
        make: || Box::new(Receiver::new()),
        places: true,
    },
    Design {
        name: "our window, past the caches",
        make: || Box::new(Windowed::new()),
        places: true,
    },
    Design {
        name: "zstd's window, 128 KiB, not copied",
        make: || Box::new(Through::new(128 << 10, false)),
        places: false,
    },
];

/// The receiver's own decoder.
struct Receiver(Decoder);

impl Receiver {
    fn new() -> Self {
        let staging = Staging::new(STAGING_MAX_DEFAULT);
        let decoder = Decoder::new(Compression::Zstd, PageBytes::DEFAULT, &staging);
        Self(decoder.expect("memory"))
    }
}

impl Contestant for Receiver {
    fn packet(&mut self, payload: &[u8], block: &RamBlock, runs: &[Run]) {
        let mut filled = Filled::default();
        let mut places = Places::new(block, runs, &mut filled);
        self.0.begin(PACKET_PAGES, payload.len() as u64);
        self.0.take(payload, &mut places).expect("right");
        self.0.end(&mut places).expect("whole");
    }
}

/// zstd's streaming call into a buffer, and from there to guest RAM.
struct Through {
    zstd: ZstdDecoder<'static>,
    buffer: Vec<u8>,
    places: bool,
}

impl Through {
    fn new(bytes: usize, places: bool) -> Self {
        let zstd = ZstdDecoder::new().expect("memory");
        Self { zstd, buffer: vec![0; bytes], places }
    }
}

impl Contestant for Through {
    fn packet(&mut self, payload: &[u8], block: &RamBlock, runs: &[Run]) {
        let mut filled = Filled::default();
        let mut places = Places::new(block, runs, &mut filled);
        let mut input = InBuffer::around(payload);
        let mut made_in_all = 0;
        while input.pos() < payload.len() || made_in_all < PACKET_PAGES * PAGE {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.zstd.run(&mut input, &mut output).expect("right");
            let made = output.pos();
            made_in_all += made;
            if self.places {
                put(&self.buffer[..made], &mut places);
            }
        }
    }
}

/// Copies what has been decoded, page by page: of each copy the first line stays in the caches, to
/// be looked at.
pub(crate) fn put(mut decoded: &[u8], places: &mut Places<'_>) {
    while !decoded.is_empty() {
        let page = PAGE - places.filled() as usize % PAGE;
        let (now, rest) = decoded.split_at(decoded.len().min(page));
        places.put(now);
        decoded = rest;
    }
}

/// As `landfall compare` has them in its scenarios of zstd, with other words.
fn quarter_noise(number: usize) -> Vec<u8> {
    let (mut pages, noise) = (text(number), noise(number));
    for (page, noise) in pages.chunks_mut(PAGE).zip(noise.chunks(PAGE)) {
        page[..PAGE / 4].copy_from_slice(&noise[..PAGE / 4]);
    }
    pages
}

fn page_numbers(runs: &[Run]) -> impl Iterator<Item = u64> {
    let page = PAGE as u64;
    runs.iter().flat_map(move |run| run.offset / page..(run.offset + run.bytes) / page)
}

fn read(block: &RamBlock, runs: &[Run]) -> Vec<u8> {
    let mut found = Vec::with_capacity(PACKET_PAGES * PAGE);
    for run in runs {
        let mut place = vec![0; run.bytes as usize];
        block.read(run.offset, &mut place);
        found.extend(place);
    }
    found
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has it").into()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
