//! Pages that come on the main stream: placed one by one, counted in batches.

use landfall_pagepool::{RamBlocks, Span, ZeroOutcome};

use crate::main_stream::{NextPage, PageContent};
use crate::stats::{BlockCounters, MainCounters};
use crate::wire::WireError;
use crate::wire::xbzrle::Patches;

/// Where pages of the main stream go, and what counts them.
#[derive(Clone, Copy, Debug)]
pub struct Placing<'a> {
    /// Guest RAM.
    pub ram: &'a RamBlocks,
    /// Of the main stream.
    pub main: &'a MainCounters,
    /// Of the thread that walks it, one for each RAM block.
    pub blocks: &'a [BlockCounters],
}

/// Pages of one block that are in their place but not yet marked received.
#[derive(Debug)]
pub struct MainPages {
    block: usize,
    pages: Vec<u64>,
    zero: u64,
    zero_written: u64,
    zero_sent_full: u64,
    page_shift: u32,
    keep: bool,
}

impl MainPages {
    /// Nothing yet; pages are `1 << page_shift` bytes. Without `keep` content
    /// is dropped.
    pub fn new(page_shift: u32, keep: bool) -> Self {
        let pages = Vec::with_capacity(BATCH);
        Self { block: 0, pages, zero: 0, zero_written: 0, zero_sent_full: 0, page_shift, keep }
    }

    /// Takes pages of one block in their order, as [`MainPages::take`] one by one would.
    ///
    /// # Errors
    /// As [`MainPages::take`].
    pub fn take_batch(
        &mut self,
        placing: &Placing<'_>,
        batch: &[NextPage<'_>],
    ) -> Result<(), WireError> {
        let Some(first) = batch.first() else { return Ok(()) };
        let memory = &placing.ram[first.block];
        // All at once: an atomic operation waits for the streaming stores before it.
        let written = batch.iter().filter(|page| page.content != PageContent::Zero);
        memory.lend_each(written.map(|page| page.offset >> self.page_shift));
        for page in batch {
            self.make_room(placing, page.block);
            self.put(placing, page.block, page.offset, page.content)?;
        }
        Ok(())
    }

    /// Puts a page into its place, or changes it there: of XBZRLE only the changed bytes
    /// are copied.
    ///
    /// # Errors
    /// The content is no XBZRLE of one page. What stood before the wrong run may have been
    /// written.
    pub fn take(
        &mut self,
        placing: &Placing<'_>,
        block: usize,
        offset: u64,
        content: PageContent<'_>,
    ) -> Result<(), WireError> {
        self.make_room(placing, block);
        if content != PageContent::Zero {
            let page = offset >> self.page_shift;
            placing.ram[block].lend(page..page + 1);
        }
        self.put(placing, block, offset, content)
    }

    /// Puts a part of a page into its place; [`MainPages::take_whole`] follows its last one.
    pub fn put_part(&self, placing: &Placing<'_>, block: usize, offset: u64, bytes: &[u8]) {
        if self.keep {
            let page = offset >> self.page_shift;
            placing.ram[block].lend(page..page + 1);
            write(placing, block, offset, bytes);
        }
    }

    /// Takes a page whose parts are all in place.
    pub fn take_whole(&mut self, placing: &Placing<'_>, block: usize, offset: u64) {
        self.make_room(placing, block);
        self.note_full(placing, block, offset >> self.page_shift);
    }

    /// The page has been lent if it is not zero, and there is room to note it.
    #[inline]
    fn put(
        &mut self,
        placing: &Placing<'_>,
        block: usize,
        offset: u64,
        content: PageContent<'_>,
    ) -> Result<(), WireError> {
        let page = offset >> self.page_shift;
        let memory = &placing.ram[block];
        match content {
            PageContent::Full(bytes) => {
                if self.keep {
                    write(placing, block, offset, bytes);
                }
                self.note_full(placing, block, page);
                return Ok(());
            }
            PageContent::Zero => {
                let outcome = memory.announce_zero(page);
                self.zero_written += u64::from(outcome == ZeroOutcome::Cleared);
                self.zero += 1;
            }
            PageContent::Xbzrle(encoded) => {
                self.patch(memory.page_span(page), encoded)?;
                placing.main.xbzrle.add(1);
            }
        }
        self.note(block, page);
        Ok(())
    }

    /// Notes a page that came in full, and may be zero all the same; there is room.
    #[inline]
    fn note_full(&mut self, placing: &Placing<'_>, block: usize, page: u64) {
        if self.keep {
            self.zero_sent_full += u64::from(placing.ram[block].is_zero(page));
        }
        self.note(block, page);
    }

    #[inline]
    fn note(&mut self, block: usize, page: u64) {
        self.block = block;
        self.pages.push(page);
    }

    fn patch(&self, memory: Span<'_>, encoded: &[u8]) -> Result<(), WireError> {
        for patch in Patches::new(encoded, 1 << self.page_shift) {
            let patch = patch?;
            if self.keep {
                memory.patch(patch.at, patch.bytes);
            }
        }
        Ok(())
    }

    fn make_room(&mut self, placing: &Placing<'_>, block: usize) {
        if self.pages.len() == BATCH || (self.block != block && !self.pages.is_empty()) {
            self.mark(placing);
        }
    }

    /// Marks the batch received and counts it.
    pub fn mark(&mut self, placing: &Placing<'_>) {
        if self.pages.is_empty() {
            return;
        }
        let Placing { ram, main, blocks } = placing;
        let normal = self.pages.len() as u64 - self.zero;
        let unique = ram[self.block].mark_received(self.pages.iter().copied());
        let counters = &blocks[self.block];
        counters.unique.add(unique);
        counters.normal.add(normal);
        counters.zero.add(self.zero);
        counters.zero_written.add(self.zero_written);
        counters.zero_sent_full.add(self.zero_sent_full);
        main.normal.add(normal);
        main.zero.add(self.zero);
        self.pages.clear();
        (self.zero, self.zero_written, self.zero_sent_full) = (0, 0, 0);
    }

    /// True if nothing waits to be marked.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

/// The one copy of what came on main.
#[inline]
fn write(placing: &Placing<'_>, block: usize, offset: u64, bytes: &[u8]) {
    #[cfg(test)]
    placing.main.copies.place(bytes);
    placing.ram[block].write(offset, bytes);
}

/// Pages of a batch: as many as fill a word of the bitmap twice over, so that
/// marking stays a word's work, and as few as keep live figures alive.
const BATCH: usize = 128;
