//! Guest memory made from a seed: what compresses, what does not, what is zero.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use serde::Deserialize;

use crate::hash::mix;

/// What pages hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Content {
    /// Of the pages that are not zero.
    pub kind: Kind,
    /// How many pages are zero, in percent; which ones, the seed decides.
    pub zero_percent: u8,
}

/// What a page holds that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing that compresses.
    Random,
    /// Words.
    Text,
    /// A quarter of it random, the rest words.
    QuarterRandom,
}

impl Content {
    /// Writes `bytes` of it to a file: the same every time.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut page = vec![0; PAGE_BYTES];
        for index in 0..bytes / PAGE_BYTES as u64 {
            self.fill(index, &mut page);
            file.write_all(&page)?;
        }
        file.flush()
    }

    /// Fills page `index`.
    pub fn fill(self, index: u64, page: &mut [u8]) {
        let mut state = mix(SEED ^ index);
        if state % 100 < u64::from(self.zero_percent) {
            return page.fill(0);
        }
        let random = match self.kind {
            Kind::Random => page.len(),
            Kind::Text => 0,
            Kind::QuarterRandom => page.len() / 4,
        };
        let (noise, text) = page.split_at_mut(random);
        for word in noise.chunks_mut(8) {
            state = mix(state);
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
        let mut at = 0;
        while at < text.len() {
            state = mix(state);
            let word = WORDS[(state % WORDS.len() as u64) as usize].as_bytes();
            let len = word.len().min(text.len() - at);
            text[at..at + len].copy_from_slice(&word[..len]);
            at += len;
        }
    }
}

const PAGE_BYTES: usize = 4096;
const SEED: u64 = 0x6c61_6e64_6661_6c6c;

/// The field's own words, with the blanks between them.
const WORDS: [&str; 64] = [
    "migration ",
    "channel ",
    "page ",
    "guest ",
    "memory ",
    "source ",
    "destination ",
    "packet ",
    "header ",
    "block ",
    "offset ",
    "normal ",
    "zero ",
    "received ",
    "bitmap ",
    "stream ",
    "section ",
    "footer ",
    "device ",
    "state ",
    "return ",
    "path ",
    "switchover ",
    "downtime ",
    "bandwidth ",
    "latency ",
    "round ",
    "sync ",
    "point ",
    "barrier ",
    "reader ",
    "ring ",
    "submission ",
    "completion ",
    "queue ",
    "kernel ",
    "socket ",
    "buffer ",
    "copy ",
    "scatter ",
    "gather ",
    "iovec ",
    "hugepage ",
    "prefault ",
    "node ",
    "local ",
    "interleave ",
    "bind ",
    "thread ",
    "pinned ",
    "counter ",
    "snapshot ",
    "report ",
    "status ",
    "active ",
    "completed ",
    "failed ",
    "capability ",
    "parameter ",
    "monitor ",
    "command ",
    "event ",
    "reply ",
    "error ",
];

#[cfg(test)]
mod tests {
    use flate2::write::ZlibEncoder;

    use super::*;

    #[test]
    fn the_share_of_zero_pages_is_as_asked_and_the_rest_is_never_zero() {
        for (kind, zero_percent) in [(Kind::Random, 0), (Kind::Text, 50), (Kind::QuarterRandom, 98)]
        {
            let content = Content { kind, zero_percent };
            let mut page = vec![0; PAGE_BYTES];
            let pages = 10_000;
            let zero = (0..pages)
                .filter(|&index| {
                    content.fill(index, &mut page);
                    page.iter().all(|&byte| byte == 0)
                })
                .count() as f64;
            let wanted = pages as f64 * f64::from(zero_percent) / 100.0;
            assert!((zero - wanted).abs() <= 150.0, "{kind:?}: {zero} of {pages}");
        }
    }

    /// Bytes of the first pages, and how many of them zlib and zstd leave of 1000, at level 1 as
    /// QEMU has it, each page alone.
    fn compressed(content: Content) -> (u64, [u64; 2]) {
        let pages = 256;
        let (mut digest, mut zlib, mut zstd) = (0, 0, 0);
        let mut page = vec![0; PAGE_BYTES];
        for index in 0..pages {
            content.fill(index, &mut page);
            for word in page.chunks_exact(8) {
                digest = mix(digest ^ u64::from_le_bytes(word.try_into().expect("eight bytes")));
            }
            let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::new(1));
            encoder.write_all(&page).expect("into memory");
            zlib += encoder.finish().expect("into memory").len() as u64;
            zstd += zstd::bulk::compress(&page, 1).expect("compressed").len() as u64;
        }
        let of_1000 = |bytes: u64| bytes * 1000 / (pages * PAGE_BYTES as u64);
        (digest, [of_1000(zlib), of_1000(zstd)])
    }

    #[test]
    fn nobody_softens_what_codecs_are_measured_with() {
        let of = |kind, zero_percent| compressed(Content { kind, zero_percent });
        for (kind, zero_percent, digest, ratios) in [
            (Kind::Random, 0, 0x91ed_bd63_61e7_a956, [1056, 1002]),
            (Kind::Text, 0, 0x859b_9401_2663_ba5b, [389, 282]),
            (Kind::QuarterRandom, 0, 0x5277_42a8_1664_38dd, [571, 520]),
            (Kind::QuarterRandom, 50, 0x9979_5b50_2d6b_d7d7, [278, 250]),
        ] {
            let (found, sizes) = of(kind, zero_percent);
            assert_eq!(found, digest, "{kind:?}, {zero_percent} % zero: the bytes are others");
            for (found, wanted) in sizes.into_iter().zip(ratios) {
                // Another version of a codec may do a little better.
                assert!(found.abs_diff(wanted) <= 20, "{kind:?}: {sizes:?}, not {ratios:?}");
            }
        }
    }

    #[test]
    fn a_page_is_the_same_every_time_and_unlike_the_next() {
        let content = Content { kind: Kind::Text, zero_percent: 0 };
        let page = |index| {
            let mut page = vec![0; PAGE_BYTES];
            content.fill(index, &mut page);
            page
        };
        assert!(page(3) == page(3) && page(3) != page(4));
    }
}
