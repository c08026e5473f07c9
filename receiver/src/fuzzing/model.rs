//! Guest RAM as it should be: vectors, written byte by byte.

use super::memory::{BLOCKS, PAGE};

/// All blocks.
#[derive(Debug)]
pub(super) struct Model {
    blocks: Vec<ModelBlock>,
}

/// One block, and what is counted for it.
#[derive(Debug, Default)]
pub(super) struct ModelBlock {
    bytes: Vec<u8>,
    came: Vec<bool>,
    /// Pages that came with content.
    pub(super) normal: u64,
    /// Pages that were said to be zero.
    pub(super) zero: u64,
    /// Those of them that held something.
    pub(super) zero_written: u64,
    /// Pages that came in full and are zero.
    pub(super) zero_sent_full: u64,
}

impl Model {
    /// All zero, nothing received.
    pub(super) fn new() -> Self {
        let block = |(_, pages): (&str, usize)| ModelBlock {
            bytes: vec![0; pages * PAGE],
            came: vec![false; pages],
            ..ModelBlock::default()
        };
        Self { blocks: BLOCKS.map(block).into() }
    }

    /// Which block has this name.
    pub(super) fn find(name: &[u8]) -> Option<usize> {
        BLOCKS.iter().position(|(known, _)| known.as_bytes() == name)
    }

    pub(super) fn blocks(&self) -> &[ModelBlock] {
        &self.blocks
    }

    pub(super) fn block(&mut self, block: usize) -> &mut ModelBlock {
        &mut self.blocks[block]
    }
}

impl ModelBlock {
    /// A page as it is.
    pub(super) fn page(&mut self, page: usize) -> &mut [u8] {
        &mut self.bytes[page * PAGE..][..PAGE]
    }

    /// All pages with their numbers.
    pub(super) fn pages(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.bytes.chunks(PAGE).enumerate()
    }

    /// How many pages it has.
    pub(super) fn page_count(&self) -> usize {
        self.came.len()
    }

    /// A page with its content has come.
    pub(super) fn normal(&mut self, page: usize) {
        self.came[page] = true;
        self.normal += 1;
    }

    /// A page is zero now.
    pub(super) fn make_zero(&mut self, page: usize) {
        self.zero_written += u64::from(!self.is_zero(page));
        self.page(page).fill(0);
        self.came[page] = true;
        self.zero += 1;
    }

    pub(super) fn is_zero(&self, page: usize) -> bool {
        self.bytes[page * PAGE..][..PAGE] == [0; PAGE]
    }

    pub(super) fn has_come(&self, page: usize) -> bool {
        self.came[page]
    }

    /// How many pages have come at all.
    pub(super) fn unique(&self) -> u64 {
        self.came.iter().filter(|&&came| came).count() as u64
    }
}
