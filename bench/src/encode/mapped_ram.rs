//! What a mapped-ram file has beside the stream: a header behind each entry of the list of RAM
//! blocks, and bitmaps. (QEMU: migration/ram.c, `MappedRamHeader`.)

use super::Append;

/// The header of a block: version 1, the page size, and where in the file its bitmap and its first
/// page stand.
pub fn block_header(out: &mut Vec<u8>, page_bytes: u32, bitmap_offset: u64, pages_offset: u64) {
    out.be32(VERSION);
    out.be64(page_bytes.into());
    out.be64(bitmap_offset);
    out.be64(pages_offset);
}

/// How many bytes [`block_header`] appends.
pub const HEADER_BYTES: u64 = 28;

/// Which pages of a block have data in the file.
#[derive(Clone, Debug)]
pub struct Bitmap {
    bytes: Vec<u8>,
}

impl Bitmap {
    /// Of `pages` pages, none with data: whole words of 64 bits.
    #[must_use]
    pub fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).expect("a bitmap fits the memory");
        Self { bytes: vec![0; words * 8] }
    }

    /// Says of a page whether it has data. Page i is bit i % 8 of byte i / 8: words of a
    /// little-endian host.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn set(&mut self, page: u64, has_data: bool) {
        let byte = &mut self.bytes[(page / 8) as usize];
        let bit = 1 << (page % 8);
        *byte = if has_data { *byte | bit } else { *byte & !bit };
    }

    /// As it stands in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    #[test]
    fn the_header_is_the_golden_one() {
        let mut out = Vec::new();
        block_header(&mut out, 4096, 0x88, 0x10_0000);
        assert_eq!(out, hex("00000001 0000000000001000 0000000000000088 0000000000100000"));
        assert_eq!(out.len() as u64, HEADER_BYTES);
    }

    #[test]
    fn a_page_is_a_bit_and_a_block_has_whole_words() {
        let mut bitmap = Bitmap::new(65);
        assert_eq!(bitmap.bytes().len(), 16);
        bitmap.set(0, true);
        bitmap.set(9, true);
        bitmap.set(64, true);
        bitmap.set(9, false);
        assert_eq!(bitmap.bytes(), hex("01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00"));
    }
}
