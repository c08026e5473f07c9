//! How the readers share the blocks: in chunks, each claimed by one reader.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::wire::{BlockInfo, MappedRamHeader, PageBytes};

/// All chunks of all blocks.
#[derive(Debug)]
pub(super) struct Chunks {
    blocks: Box<[Pages]>,
    pages_each: u64,
    next: AtomicU64,
}

/// One block's place in the file.
#[derive(Debug)]
struct Pages {
    count: u64,
    bitmap_offset: u64,
    pages_offset: u64,
    /// Chunks of the blocks up to this one, it included.
    chunks_end: u64,
}

/// Pages that one reader takes care of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Index in the list of blocks.
    pub(super) block: usize,
    /// In the block.
    pub(super) pages: Range<u64>,
    /// Where their bits stand in the file.
    pub(super) bitmap_offset: u64,
    /// How many bytes these are.
    pub(super) bitmap_bytes: usize,
    /// Where the first of the pages has its place in the file.
    pub(super) pages_offset: u64,
}

impl Chunks {
    /// Of the blocks that have places in the file; those without have no chunk.
    pub(super) fn new(blocks: &[BlockInfo], page: PageBytes) -> Self {
        let pages_each = CHUNK_BYTES / page.as_u64();
        let mut chunks_end = 0;
        let places = blocks.iter().map(|block| {
            let (count, bitmap_offset, pages_offset) = match block.mapped {
                Some(MappedRamHeader { bitmap_offset, pages_offset, .. }) => {
                    (block.used_bytes / page.as_u64(), bitmap_offset, pages_offset)
                }
                None => (0, 0, 0),
            };
            chunks_end += count.div_ceil(pages_each);
            Pages { count, bitmap_offset, pages_offset, chunks_end }
        });
        Self { blocks: places.collect(), pages_each, next: AtomicU64::new(0) }
    }

    /// The most bytes that a chunk's bits take.
    pub(super) fn bitmap_bytes_max(&self) -> usize {
        (self.pages_each / 8) as usize
    }

    /// A chunk that nobody has claimed yet.
    pub(super) fn claim(&self, page: PageBytes) -> Option<Chunk> {
        let number = self.next.fetch_add(1, Relaxed);
        let block = self.blocks.partition_point(|block| block.chunks_end <= number);
        let place = self.blocks.get(block)?;
        let in_block = place.chunks_end - number; // from the block's end, at least 1
        let start = (place.count.div_ceil(self.pages_each) - in_block) * self.pages_each;
        let end = place.count.min(start + self.pages_each);
        Some(Chunk {
            block,
            pages: start..end,
            bitmap_offset: place.bitmap_offset + start / 8,
            bitmap_bytes: (end - start).div_ceil(64) as usize * 8,
            pages_offset: place.pages_offset + start * page.as_u64(),
        })
    }
}

/// RAM of a chunk: large enough that its bits are worth a read of their own,
/// small enough that at the end no reader works long alone.
const CHUNK_BYTES: u64 = 32 << 20;

// Chunks begin at whole words of the bitmap, whatever the page size.
const _: () = assert!(CHUNK_BYTES.is_multiple_of(64 * PageBytes::MAX as u64));

#[cfg(test)]
mod tests {
    use super::*;

    fn block(used_bytes: u64, bitmap_offset: u64, pages_offset: u64) -> BlockInfo {
        let pages_end = pages_offset + used_bytes;
        BlockInfo {
            name: "mem".into(),
            used_bytes,
            page_bytes: None,
            guest_phys_addr: None,
            mapped: Some(MappedRamHeader { bitmap_offset, pages_offset, pages_end }),
        }
    }

    #[test]
    fn every_page_is_in_one_chunk_and_has_its_place_in_the_file() {
        for bytes in [4096, 65536] {
            let page = PageBytes::new(bytes).unwrap();
            let sizes = [1 << 16, CHUNK_BYTES, CHUNK_BYTES + 65536, 3 * CHUNK_BYTES, 1 << 17];
            let blocks: Vec<_> =
                sizes.iter().map(|&size| block(size, 1000 + size, 10 * size)).collect();
            let chunks = Chunks::new(&blocks, page);
            let mut next = (0, 0);
            while let Some(chunk) = chunks.claim(page) {
                if chunk.block != next.0 {
                    assert_eq!(next.1 * page.as_u64(), sizes[next.0], "block {} whole", next.0);
                    next = (next.0 + 1, 0);
                }
                assert_eq!((chunk.block, chunk.pages.start), next);
                let size = sizes[chunk.block];
                assert_eq!(chunk.pages_offset, 10 * size + chunk.pages.start * page.as_u64());
                assert_eq!(chunk.bitmap_offset, 1000 + size + chunk.pages.start / 8);
                assert!(chunk.pages.start.is_multiple_of(64));
                let pages = chunk.pages.end - chunk.pages.start;
                assert!(chunk.bitmap_bytes as u64 * 8 >= pages);
                assert!(chunk.bitmap_bytes <= chunks.bitmap_bytes_max());
                next.1 = chunk.pages.end;
            }
            assert_eq!(next, (sizes.len() - 1, 131_072 / page.as_u64()));
            assert_eq!(chunks.claim(page), None, "for good");
        }
    }

    #[test]
    fn blocks_without_a_place_have_no_chunk_and_the_others_keep_their_index() {
        let page = PageBytes::DEFAULT;
        let ignored = || BlockInfo { mapped: None, ..block(CHUNK_BYTES, 0, 0) };
        let sizes = [None, Some(CHUNK_BYTES + 4096), None, None, Some(4096), None];
        let blocks: Vec<_> = sizes
            .map(|size| size.map_or_else(ignored, |size| block(size, 8, 4096)))
            .into_iter()
            .collect();
        let chunks = Chunks::new(&blocks, page);
        let claimed: Vec<_> = std::iter::from_fn(|| chunks.claim(page))
            .map(|chunk| (chunk.block, chunk.pages))
            .collect();
        assert_eq!(claimed, [(1, 0..8192), (1, 8192..8193), (4, 0..1)]);
    }
}
