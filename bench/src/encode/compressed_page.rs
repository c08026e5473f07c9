//! COMPRESS_PAGE: a page on main as a zlib stream of its own, from sources up to 9.0.
//! (QEMU: migration/ram-compress.c.)

use flate2::{Compress, Compression as Level, FlushCompress, Status};

/// Compresses pages, each for itself.
pub struct PageCompressor {
    deflate: Compress,
    /// For pages that come out larger than any zlib stream of theirs need be.
    stored: Compress,
}

impl PageCompressor {
    /// At a level from 0 to 9.
    #[must_use]
    pub fn new(level: u32) -> Self {
        let stream = |level: u32| Compress::new(Level::new(level), true);
        Self { deflate: stream(level.min(9)), stored: stream(0) }
    }

    /// Appends the page's stream and says how many bytes that has: at most
    /// [`compressed_bytes_max`], which is more than the page.
    ///
    /// # Panics
    /// When the library fails at what cannot fail.
    pub fn page(&mut self, page: &[u8], out: &mut Vec<u8>) -> usize {
        let start = out.len();
        // The library's fastest way makes noise larger by an eighth, zlib's none of its ways.
        out.reserve(page.len() + page.len() / 4 + 64);
        finish(&mut self.deflate, page, out);
        if out.len() - start > compressed_bytes_max(page.len()) {
            out.truncate(start);
            finish(&mut self.stored, page, out);
        }
        out.len() - start
    }
}

/// The most bytes that a destination takes for a page (zlib's `compressBound`).
#[must_use]
pub const fn compressed_bytes_max(page_bytes: usize) -> usize {
    page_bytes + (page_bytes >> 12) + (page_bytes >> 14) + (page_bytes >> 25) + 13
}

fn finish(stream: &mut Compress, page: &[u8], out: &mut Vec<u8>) {
    stream.reset();
    let status = stream.compress_vec(page, out, FlushCompress::Finish);
    assert_eq!(status.expect("a new stream"), Status::StreamEnd, "room for all of it");
}

impl std::fmt::Debug for PageCompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCompressor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::*;
    use crate::hash::Sequence;

    #[test]
    fn every_page_is_a_stream_of_its_own_and_none_is_larger_than_allowed() {
        for level in 0..10 {
            let mut compressor = PageCompressor::new(level);
            let noise = Sequence::new(&[3]).bytes(4096);
            let half = [&noise[..2048], &[7; 2048]].concat();
            for page in [&noise[..], &half, &[0; 4096], &noise] {
                let mut out = b"before".to_vec();
                let bytes = compressor.page(page, &mut out);
                assert_eq!(out.len(), 6 + bytes);
                assert!(bytes <= compressed_bytes_max(4096), "level {level}: {bytes}");
                let mut back = Vec::new();
                ZlibDecoder::new(&out[6..]).read_to_end(&mut back).expect("a stream");
                assert!(back == page, "level {level}");
            }
        }
    }

    #[test]
    fn a_page_alike_all_over_gets_small() {
        let mut out = Vec::new();
        assert!(PageCompressor::new(1).page(&[9; 65536], &mut out) < 1000);
    }
}
