//! Pages that came compressed one by one: `COMPRESS_PAGE` of sources up to 9.0.

use super::CodecError;
use super::deflate_unit::{DeflateUnit, UnitFormat};

/// Decodes one page at a time into memory of its own; all of it is allocated
/// at the first page.
#[derive(Default)]
pub struct PageInflate {
    unit: Option<DeflateUnit>,
    page: Vec<u8>,
}

/// Why a compressed page is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The bytes are not one zlib stream (RFC 1950) of exactly one page.
    #[error("compressed page is not a zlib stream of {expected} bytes that ends with the record")]
    Broken {
        /// Bytes of a page.
        expected: usize,
    },
    /// The decoder could not be made.
    #[error(transparent)]
    Decoder(#[from] CodecError),
}

impl PageInflate {
    /// The page behind `encoded`, one whole zlib stream
    /// (`migration/ram-compress.c`, `qemu_put_compression_data`).
    ///
    /// # Errors
    /// It is no zlib stream, or not of exactly `page_bytes`; never more than
    /// that is written.
    pub fn page(&mut self, encoded: &[u8], page_bytes: usize) -> Result<&[u8], InflateError> {
        let unit = match &mut self.unit {
            Some(unit) => unit,
            none => none.insert(DeflateUnit::new(UnitFormat::Zlib)?),
        };
        self.page.resize(page_bytes, 0);
        if !unit.decode_to(encoded, &mut self.page) {
            return Err(InflateError::Broken { expected: page_bytes });
        }
        Ok(&self.page)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn encoded(page: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(page).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_page_comes_back_as_it_was_again_and_again() {
        let mut inflate = PageInflate::default();
        for seed in 0..4u32 {
            let page: Vec<u8> = (0..4096u32).map(|at| ((at * seed) >> 4) as u8).collect();
            assert_eq!(inflate.page(&encoded(&page), 4096), Ok(&page[..]));
        }
    }

    #[test]
    fn bombs_cuts_garbage_and_left_over_bytes_are_errors() {
        let mut inflate = PageInflate::default();
        let bomb = encoded(&vec![0; 1 << 20]);
        assert_eq!(inflate.page(&bomb, 4096), Err(InflateError::Broken { expected: 4096 }));
        let mut page = encoded(&[7; 4096]);
        for cut in 0..page.len() {
            assert!(inflate.page(&page[..cut], 4096).is_err(), "cut at {cut}");
        }
        assert!(inflate.page(&encoded(&[7; 4095]), 4096).is_err());
        page.push(0);
        assert!(inflate.page(&page, 4096).is_err(), "left over");
        assert!(inflate.page(&[0xff; 64], 4096).is_err());
        page.pop();
        assert!(inflate.page(&page, 4096).is_ok(), "an error leaves nothing behind");
    }
}
