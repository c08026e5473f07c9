//! What a mapped-ram file has beside the stream: for each RAM block a bitmap,
//! and a place for every page.

use super::{PageBytes, Reader, WireError, WireFault};

/// What a mapped-ram file has after each entry of the list
/// (`migration/ram.c`, `MappedRamHeader`). Offsets are absolute in the file,
/// also where the stream begins behind the file's beginning.
///
/// ```text
/// entry │ header │ bitmap │ … │ pages: used_length bytes │ next entry, or items
///                └ bitmap_offset └ pages_offset
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRamHeader {
    /// Where the block's bitmap begins: a set bit is a page with data.
    pub bitmap_offset: u64,
    /// Where the block's first page has its place.
    pub pages_offset: u64,
    /// One past the place of its last page: there the list goes on.
    pub pages_end: u64,
}

impl MappedRamHeader {
    /// Takes the header of a block of `used_bytes` off `reader`, whose first
    /// byte stands at `file_offset` of the file.
    ///
    /// `None`: the block has no place in the file, and the next entry follows at
    /// once. So it is with a block that x-ignore-shared leaves out, from 11.0 on
    /// (`migration/ram.c`, `mapped_ram_setup_ramblock`): both offsets are 0, which
    /// no place can be. Without that capability (`may_lack_place`) it is an error.
    ///
    /// What comes out lies in this order and apart: header, bitmap, pages. As
    /// the next header is behind the pages, so do all blocks of a file. Whether
    /// the file is long enough is for the caller to see.
    pub fn parse(
        reader: &mut Reader<'_>,
        page: PageBytes,
        used_bytes: u64,
        file_offset: u64,
        may_lack_place: bool,
    ) -> Result<Option<Self>, WireError> {
        reader.be32_is("mapped-ram version", 1)?;
        let at = reader.at();
        let found = reader.be64("mapped-ram page_size")?;
        if found != page.as_u64() {
            let fault = WireFault::Mismatch { found, expected: page.as_u64() };
            return Err(reader.fault_at("mapped-ram page_size", at, fault));
        }
        let at = reader.at();
        let bitmap_offset = reader.be64("bitmap_offset")?;
        let pages_at = reader.at();
        let pages_offset = reader.be64("pages_offset")?;
        if may_lack_place && (bitmap_offset, pages_offset) == (0, 0) {
            return Ok(None);
        }
        let header_end = u64::try_from(reader.at())
            .ok()
            .and_then(|taken| file_offset.checked_add(taken))
            .unwrap_or(u64::MAX);
        if bitmap_offset < header_end {
            let fault = WireFault::UnderLimit { found: bitmap_offset, limit: header_end };
            return Err(reader.fault_at("bitmap_offset", at, fault));
        }
        let Some(bitmap_end) = bitmap_offset.checked_add(bitmap_bytes(used_bytes, page)) else {
            return Err(reader.fault_at("bitmap_offset", at, past_the_end(bitmap_offset)));
        };
        if pages_offset < bitmap_end {
            let fault = WireFault::UnderLimit { found: pages_offset, limit: bitmap_end };
            return Err(reader.fault_at("pages_offset", pages_at, fault));
        }
        if !page.divides(pages_offset) {
            let fault = WireFault::Unaligned { found: pages_offset, unit: page.as_u64() };
            return Err(reader.fault_at("pages_offset", pages_at, fault));
        }
        match pages_offset.checked_add(used_bytes) {
            // off_t has a sign.
            Some(pages_end) if i64::try_from(pages_end).is_ok() => {
                Ok(Some(Self { bitmap_offset, pages_offset, pages_end }))
            }
            _ => Err(reader.fault_at("pages_offset", pages_at, past_the_end(pages_offset))),
        }
    }
}

/// Bytes of the bitmap of a block of `used_bytes`: one bit a page, in whole
/// words of 8 bytes.
pub fn bitmap_bytes(used_bytes: u64, page: PageBytes) -> u64 {
    let pages = used_bytes.checked_div(page.as_u64()).unwrap_or(0);
    pages.div_ceil(64).saturating_mul(8)
}

/// No file is so long.
fn past_the_end(found: u64) -> WireFault {
    WireFault::OverLimit { found, limit: u64::try_from(i64::MAX).unwrap_or(u64::MAX) }
}

/// The file that a stream is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// Where in the file the stream begins.
    pub offset: u64,
    /// How long the file is, in bytes.
    pub bytes: u64,
}

/// Length of a [`MappedRamHeader`] on the wire.
pub const MAPPED_RAM_HEADER_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageBytes = PageBytes::DEFAULT;
    const USED: u64 = 0x200_0000;
    /// Where the observed header stood, so that its bitmap follows at 0x88.
    const AT: u64 = 0x88 - MAPPED_RAM_HEADER_BYTES as u64;

    fn header(version: u32, page: u64, bitmap: u64, pages: u64) -> Vec<u8> {
        let mut bytes = version.to_be_bytes().to_vec();
        for number in [page, bitmap, pages] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<MappedRamHeader, WireError> {
        let header = MappedRamHeader::parse(&mut Reader::new(bytes), PAGE, USED, AT, false)?;
        Ok(header.expect("a place"))
    }

    fn refused(bytes: &[u8]) -> &'static str {
        parse(bytes).unwrap_err().field
    }

    #[test]
    fn the_observed_header_parses_and_every_prefix_is_short() {
        let golden = b"\0\0\0\x01\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x88\0\0\0\0\0\x10\0\0";
        assert_eq!(golden.len(), MAPPED_RAM_HEADER_BYTES);
        let header = parse(golden).unwrap();
        assert_eq!((header.bitmap_offset, header.pages_offset), (0x88, 0x10_0000));
        assert_eq!(header.pages_end, 0x210_0000);
        for cut in 0..golden.len() {
            assert!(parse(&golden[..cut]).unwrap_err().is_short(), "cut at {cut}");
        }
    }

    #[test]
    fn another_version_or_page_size_is_refused() {
        assert_eq!(refused(&header(2, 4096, 0x88, 0x10_0000)), "mapped-ram version");
        assert_eq!(refused(&header(0, 4096, 0x88, 0x10_0000)), "mapped-ram version");
        assert_eq!(refused(&header(1, 16384, 0x88, 0x10_0000)), "mapped-ram page_size");
    }

    #[test]
    fn a_bitmap_over_the_header_and_pages_over_the_bitmap_are_refused() {
        assert_eq!(refused(&header(1, 4096, 0x87, 0x10_0000)), "bitmap_offset");
        assert_eq!(refused(&header(1, 4096, 0, 0x10_0000)), "bitmap_offset");
        assert!(parse(&header(1, 4096, 0x1000 - 0x400, 0x1000)).is_ok(), "one behind the other");
        assert_eq!(refused(&header(1, 4096, 0x1001 - 0x400, 0x1000)), "pages_offset");
        assert_eq!(refused(&header(1, 4096, 0x88, 0x88)), "pages_offset");
    }

    #[test]
    fn pages_that_are_not_aligned_or_past_every_file_are_refused() {
        assert_eq!(refused(&header(1, 4096, 0x88, 0x10_0800)), "pages_offset");
        let last = (i64::MAX as u64 - USED) & !0xfff;
        assert!(parse(&header(1, 4096, 0x88, last)).is_ok());
        assert_eq!(refused(&header(1, 4096, 0x88, last + 4096)), "pages_offset");
        assert_eq!(refused(&header(1, 4096, 0x88, !0xfff)), "pages_offset");
        assert_eq!(refused(&header(1, 4096, u64::MAX, 0x10_0000)), "bitmap_offset");
    }

    #[test]
    fn only_a_block_that_x_ignore_shared_leaves_out_has_no_place() {
        let parse = |bitmap, pages, may_lack_place| {
            let bytes = header(1, 4096, bitmap, pages);
            let mut reader = Reader::new(&bytes);
            let parsed = MappedRamHeader::parse(&mut reader, PAGE, USED, AT, may_lack_place);
            parsed.map(|header| (header.is_some(), reader.at()))
        };
        assert_eq!(parse(0, 0, true), Ok((false, MAPPED_RAM_HEADER_BYTES)));
        assert_eq!(parse(0x88, 0x10_0000, true), Ok((true, MAPPED_RAM_HEADER_BYTES)));
        for (bitmap, pages, may_lack_place) in
            [(0, 0, false), (0, 0x10_0000, true), (0x88, 0, true)]
        {
            assert!(parse(bitmap, pages, may_lack_place).is_err(), "{bitmap} {pages}");
        }
    }

    #[test]
    fn a_bitmap_has_whole_words() {
        for (pages, bytes) in [(1, 8), (64, 8), (65, 16), (8192, 1024)] {
            assert_eq!(bitmap_bytes(pages * 4096, PAGE), bytes, "{pages} pages");
        }
    }
}
