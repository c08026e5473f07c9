//! A RAM block: the page path.

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::bitmap::Bitmap;
use crate::region::Region;
use crate::streaming;
use crate::{Backend, BlockName, Span, ZeroKernel};

/// One of the source's RAM blocks (QEMU `RAMBlock`), with the memory that receives it.
///
/// Pages are counted from 0 in units of [`Self::page_bytes`], the *target's* page size; offsets are
/// bytes from the block's start. Two bits per page:
///
/// - **written**: the page may differ from zero. Set by [`Self::lend`] before anybody may write it.
/// - **received**: its content or its zero has arrived. Set by [`Self::mark_received`] afterwards.
///
/// Any number of threads may work on a block. Two that write the *same* page at the same time leave
/// a mixture of both in it, which only a source that breaks its own rounds can bring about.
pub struct RamBlock {
    name: BlockName,
    bytes: u64,
    page_shift: u32,
    region: Arc<Region>,
    region_offset: usize,
    written: Bitmap,
    received: Bitmap,
    zero_kernel: ZeroKernel,
}

/// What [`RamBlock::announce_zero`] found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroOutcome {
    /// The page was zero: never written since mapping, or found so by the zero kernel. Nothing was
    /// stored.
    AlreadyZero,
    /// The page held something and was cleared.
    Cleared,
}

/// The parts a block is put together from.
pub(crate) struct BlockParts {
    pub(crate) name: BlockName,
    pub(crate) bytes: u64,
    pub(crate) page_bytes: u32,
    pub(crate) region: Arc<Region>,
    pub(crate) region_offset: usize,
    pub(crate) written: Bitmap,
    pub(crate) received: Bitmap,
    pub(crate) zero_kernel: ZeroKernel,
}

impl RamBlock {
    pub(crate) fn new(parts: BlockParts) -> Self {
        assert!(parts.page_bytes.is_power_of_two());
        let inside = usize::try_from(parts.bytes)
            .ok()
            .and_then(|bytes| Span::new(parts.region.mapping(), parts.region_offset, bytes));
        assert!(inside.is_some(), "block {} outside its region", parts.name);
        Self {
            name: parts.name,
            bytes: parts.bytes,
            page_shift: parts.page_bytes.trailing_zeros(),
            region: parts.region,
            region_offset: parts.region_offset,
            written: parts.written,
            received: parts.received,
            zero_kernel: parts.zero_kernel,
        }
    }

    /// The source's name for it.
    pub fn name(&self) -> &BlockName {
        &self.name
    }

    /// Its size; a multiple of [`Self::page_bytes`], never 0.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The target's page size, a power of two from 4096 to 65536.
    pub fn page_bytes(&self) -> u32 {
        1 << self.page_shift
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.bytes >> self.page_shift
    }

    /// What kind of memory it is in.
    pub fn backend(&self) -> Backend {
        self.region.report().backend
    }

    /// The range `offset .. offset + len` of its memory; `None` if it is empty or not all inside
    /// the block, however the numbers are chosen.
    #[inline]
    pub fn span(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        let end = offset.checked_add(len)?;
        if end > self.bytes {
            return None;
        }
        // Both fit: they are within the block, and the block is mapped.
        let (offset, len) = (offset as usize, len as usize);
        Span::new(self.region.mapping(), self.region_offset + offset, len)
    }

    /// Notes that pages are about to be handed to the kernel or a decoder to write to. Call it
    /// before, or a run cut short leaves bytes that the next zero page does not see.
    ///
    /// # Panics
    /// If a page is outside the block: our own bug, as [`Self::span`] has refused it before.
    #[inline]
    pub fn lend(&self, pages: Range<u64>) {
        self.written.set_range(pages);
    }

    /// As [`Self::lend`], for pages in any order: one atomic operation for neighbours in the
    /// sequence that share a 64-page word.
    ///
    /// # Panics
    /// If a page is outside the block: our own bug.
    pub fn lend_each(&self, pages: impl Iterator<Item = u64>) {
        self.written.set_each(pages);
    }

    /// Marks pages whose content or zero has arrived, and makes sure that whoever is told of
    /// them sees what [`Self::write`] wrote; says how many had not been marked yet.
    /// Neighbours in the sequence that share a 64-page word cost one relaxed `fetch_or` together,
    /// so ascending pages are the cheap order.
    ///
    /// # Panics
    /// If a page is outside the block: our own bug.
    #[inline]
    pub fn mark_received(&self, pages: impl Iterator<Item = u64>) -> u64 {
        streaming::fence();
        self.received.set_each(pages)
    }

    /// As [`Self::mark_received`], for all pages of a range: one step for 64 of them.
    ///
    /// # Panics
    /// If a page is outside the block: our own bug.
    pub fn mark_received_range(&self, pages: Range<u64>) -> u64 {
        self.received.set_range(pages)
    }

    /// As [`Self::announce_zero`], for all pages of a range; says how many had to be cleared. Pages
    /// that were never written cost a 64th of a look.
    ///
    /// # Panics
    /// If a page is outside the block: our own bug.
    pub fn announce_zero_range(&self, pages: Range<u64>) -> u64 {
        let mut cleared = 0;
        let Ok(()) = self.written.for_each_run(pages, |run| {
            let was_cleared = |&page: &u64| self.announce_zero(page) == ZeroOutcome::Cleared;
            cleared += run.filter(was_cleared).count() as u64;
            Ok::<_, Infallible>(())
        });
        cleared
    }

    /// Makes a page zero, storing only if it is not. Does not mark it received.
    ///
    /// # Panics
    /// If the page is outside the block: our own bug.
    pub fn announce_zero(&self, page: u64) -> ZeroOutcome {
        if !self.written.get(page) {
            return ZeroOutcome::AlreadyZero;
        }
        let span = self.page_span(page);
        if self.zero_kernel.is_zero(span) {
            return ZeroOutcome::AlreadyZero;
        }
        span.clear();
        ZeroOutcome::Cleared
    }

    /// Whether a page is zero now.
    ///
    /// # Panics
    /// If the page is outside the block: our own bug.
    pub fn is_zero(&self, page: u64) -> bool {
        !self.written.get(page) || self.zero_kernel.is_zero(self.page_span(page))
    }

    /// Copies bytes into the block, past the caches where they are many. The pages have been
    /// lent. Other threads see the bytes for sure once the pages are marked received.
    ///
    /// # Panics
    /// If not all of it is inside the block, or (debug builds) was not lent: our own bug.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let span = self.asserted_span(offset, bytes.len());
        let last = offset + bytes.len() as u64 - 1;
        debug_assert!(self.written.get(offset >> self.page_shift), "written before lent");
        debug_assert!(self.written.get(last >> self.page_shift), "written before lent");
        span.copy_from(bytes);
    }

    /// Copies bytes out of the block.
    ///
    /// # Panics
    /// If not all of it is inside the block: our own bug.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        if out.is_empty() {
            return;
        }
        self.asserted_span(offset, out.len()).copy_to(out);
    }

    /// How many pages have been received. Reads the whole bitmap: not for the page path.
    pub fn received_count(&self) -> u64 {
        self.received.count()
    }

    /// Whether a page has been received.
    ///
    /// # Panics
    /// If the page is outside the block: our own bug.
    pub fn is_received(&self, page: u64) -> bool {
        self.received.get(page)
    }

    /// Whether a page may differ from zero.
    ///
    /// # Panics
    /// If the page is outside the block: our own bug.
    pub fn is_written(&self, page: u64) -> bool {
        self.written.get(page)
    }

    /// Calls `found` with every run of pages within `pages` that were lent, in order.
    pub(crate) fn for_each_written_run<E>(
        &self,
        pages: Range<u64>,
        found: impl FnMut(Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.written.for_each_run(pages, found)
    }

    /// The memory of a run of pages.
    pub(crate) fn run_span(&self, pages: Range<u64>) -> Span<'_> {
        let offset = pages.start << self.page_shift;
        let len = (pages.end - pages.start) << self.page_shift;
        self.span(offset, len).expect("pages of the block")
    }

    /// The memory of a page.
    ///
    /// # Panics
    /// If the page is outside the block: our own bug.
    #[inline]
    pub fn page_span(&self, page: u64) -> Span<'_> {
        self.run_span(page..page + 1)
    }

    fn asserted_span(&self, offset: u64, len: usize) -> Span<'_> {
        match self.span(offset, len as u64) {
            Some(span) => span,
            None => panic!("{len} bytes at {offset} of block {self:?}"),
        }
    }
}

impl fmt::Debug for RamBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use crate::blocks::{test_blocks, test_blocks_in};
    use crate::mapping::Mapping;
    use crate::region::Region;
    use crate::{RamBlocks, ZeroOutcome};

    #[test]
    fn a_span_exists_exactly_for_ranges_inside() {
        let blocks = one_block();
        let block = &blocks[0];
        let edges = [0, 1, 4095, 4096, BYTES - 1, BYTES, BYTES + 1, 1 << 63, u64::MAX];
        for offset in edges {
            for len in edges {
                let inside = len > 0 && u128::from(offset) + u128::from(len) <= BYTES.into();
                let span = block.span(offset, len);
                assert_eq!(span.is_some(), inside, "{len} at {offset}");
                if let Some(span) = span {
                    let base = block.span(0, 1).expect("first byte").as_ptr() as usize;
                    assert_eq!(span.as_ptr() as usize, base + offset as usize);
                    assert_eq!(span.len() as u64, len);
                }
            }
        }
    }

    #[test]
    fn neighbour_blocks_do_not_share_bytes() {
        let blocks = test_blocks(&[("a", 8192), ("b", 8192), ("c", 4096)], 4096);
        for (value, block) in (1..).zip(blocks.iter()) {
            block.lend(0..block.pages());
            block.write(0, &vec![value; block.bytes() as usize]);
        }
        for (value, block) in (1..).zip(blocks.iter()) {
            let mut seen = vec![0; block.bytes() as usize];
            block.read(0, &mut seen);
            assert!(seen.iter().all(|byte| *byte == value), "{block:?}");
        }
    }

    #[test]
    fn a_page_torn_by_a_cut_run_is_cleared_when_zero_is_announced() {
        let blocks = one_block();
        let block = &blocks[0];
        assert_eq!(block.announce_zero(5), ZeroOutcome::AlreadyZero, "never lent");
        block.lend(5..6);
        block.write(5 * 4096 + 4000, &[0xee; 3]); // and never received
        assert!(!block.is_zero(5));
        assert!(!block.is_received(5));
        assert_eq!(block.announce_zero(5), ZeroOutcome::Cleared);
        assert!(block.is_zero(5));
        assert_eq!(block.announce_zero(5), ZeroOutcome::AlreadyZero, "looked at, not stored to");
    }

    #[test]
    fn clearing_a_page_leaves_its_neighbours() {
        let blocks = test_blocks(&[("a", 3 * 65536)], 65536);
        let block = &blocks[0];
        block.lend(0..3);
        block.write(0, &vec![7; 3 * 65536]);
        assert_eq!(block.announce_zero(1), ZeroOutcome::Cleared);
        let mut seen = vec![0; 3 * 65536];
        block.read(0, &mut seen);
        for (index, byte) in seen.iter().enumerate() {
            assert_eq!(*byte, if index / 65536 == 1 { 0 } else { 7 }, "byte {index}");
        }
    }

    #[test]
    fn received_pages_count_once() {
        let blocks = one_block();
        let block = &blocks[0];
        assert_eq!(block.mark_received([0, 1, 2, 1, 70].into_iter()), 4);
        assert_eq!(block.mark_received([2, 3].into_iter()), 1);
        assert_eq!(block.received_count(), 5);
        assert!(block.is_received(70) && !block.is_received(4));
        assert!(!block.is_written(70), "received is not written");
    }

    #[test]
    fn a_range_is_as_its_pages_one_by_one() {
        let blocks = one_block();
        let block = &blocks[0];
        block.lend(10..14);
        block.write(10 * 4096, &[1; 4096]);
        block.write(13 * 4096, &[1; 4096]);
        assert_eq!(block.announce_zero_range(0..13), 1, "11 and 12 were zero");
        assert!(block.is_zero(10) && !block.is_zero(13), "13 is behind the range");
        assert_eq!(block.announce_zero_range(13..100), 1);
        assert_eq!(block.mark_received_range(60..70), 10);
        assert_eq!(block.mark_received_range(65..75), 5);
        assert_eq!(block.received_count(), 15);
    }

    #[test]
    fn accesses_outside_are_our_bug_and_panic() {
        let blocks = one_block();
        let block = std::panic::AssertUnwindSafe(&blocks[0]);
        let pages = block.pages();
        assert!(std::panic::catch_unwind(|| block.write(BYTES - 1, &[0; 2])).is_err());
        assert!(std::panic::catch_unwind(|| block.read(u64::MAX, &mut [0; 2])).is_err());
        assert!(std::panic::catch_unwind(|| block.announce_zero(pages)).is_err());
        assert!(std::panic::catch_unwind(|| block.is_zero(u64::MAX)).is_err());
        assert!(std::panic::catch_unwind(|| block.lend(0..pages + 1)).is_err());
    }

    #[test]
    fn readers_on_other_threads_write_their_own_pages() {
        let blocks = test_blocks(&[("a", 64 << 20)], 4096);
        let block = &blocks[0];
        std::thread::scope(|scope| {
            for reader in 0..4u64 {
                scope.spawn(move || {
                    for page in (reader..block.pages()).step_by(4) {
                        block.lend(page..page + 1);
                        block.write(page * 4096, &[reader as u8 + 1; 4096]);
                        assert_eq!(block.mark_received(std::iter::once(page)), 1);
                    }
                });
            }
        });
        assert_eq!(block.received_count(), block.pages());
        let mut page = [0; 4096];
        for index in 0..block.pages() {
            block.read(index * 4096, &mut page);
            assert!(page.iter().all(|byte| u64::from(*byte) == index % 4 + 1));
        }
    }

    #[test]
    fn a_block_of_four_tebibytes_works_to_its_last_byte() {
        // A sparse file of memory: no host has to have 4 TiB for it.
        let bytes = 4 << 40;
        let file = memfd_create("four tebibytes", MFdFlags::MFD_CLOEXEC).expect("memfd");
        let file = std::fs::File::from(file);
        file.set_len(bytes).expect("sparse");
        let mapping = Mapping::file(&file, bytes).expect("map");
        let region = Region::untouched(mapping);
        let blocks = test_blocks_in(region, &[("pc.ram", bytes)]);
        let block = &blocks[0];
        let last = block.pages() - 1;
        assert_eq!(block.pages(), 1 << 30);
        assert!(block.span(bytes - 4096, 4096).is_some());
        assert!(block.span(bytes - 4096, 4097).is_none());
        block.lend(last - 1..last + 1);
        block.write(bytes - 4096, &[1; 4096]);
        assert_eq!(block.mark_received([0, last].into_iter()), 2);
        assert_eq!(block.received_count(), 2);
        assert_eq!(block.announce_zero(last - 1), ZeroOutcome::AlreadyZero);
        assert_eq!(block.announce_zero(last), ZeroOutcome::Cleared);
        assert_eq!(block.announce_zero(1 << 29), ZeroOutcome::AlreadyZero);
        assert!(block.is_zero(last));
    }

    fn one_block() -> RamBlocks {
        test_blocks(&[("pc.ram", BYTES)], 4096)
    }

    const BYTES: u64 = 100 * 4096;
}
