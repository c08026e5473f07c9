//! The imaginary guest: which pages it has, which are zero, which it dirties when, what they hold.
//!
//! A page's *generation* is the last round in which it was found dirty; the first round, 0, finds
//! every page. Its content follows from the generation, so what the destination must hold at the
//! end is known without a record of what was sent.

use std::ops::Range;

use crate::{
    config::{ConfigError, SourceConfig},
    content::{self, PageContent},
    hash::{Share, hash, mix},
    image::Images,
};

/// What a page must hold when the migration is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Zero bytes.
    Zero,
    /// The content of this generation: see [`Guest::fill`].
    Generation(u32),
}

/// One page at the moment it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRef {
    /// Its index in its block.
    pub page: u64,
    /// The round that sends it, which decides its content.
    pub generation: u32,
    /// Whether it is zero in this generation.
    pub zero: bool,
}

/// The guest's memory through all rounds, as a function.
#[derive(Debug)]
pub struct Guest {
    page_bytes: u32,
    rounds: u32,
    blocks: Vec<GuestBlock>,
    dirty: Share,
    dirty_run: u64,
    zero: Share,
    zero_run: u64,
    content: PageContent,
    images: Option<Images>,
}

#[derive(Debug)]
struct GuestBlock {
    pages: u64,
    is_sent: bool,
    dirty_key: u64,
    zero_key: u64,
}

impl Guest {
    /// The guest that `config` describes.
    ///
    /// # Errors
    /// [`ConfigError::Image`] when an image cannot be opened.
    pub(crate) fn new(config: &SourceConfig) -> Result<Self, ConfigError> {
        let block = |(index, block): (usize, &crate::config::BlockConfig)| GuestBlock {
            pages: block.bytes / u64::from(config.page_bytes),
            is_sent: config.sends(index),
            dirty_key: hash(&[config.seed, TAG_DIRTY, index as u64]),
            zero_key: hash(&[config.seed, TAG_ZERO, index as u64]),
        };
        Ok(Self {
            page_bytes: config.page_bytes,
            rounds: config.rounds,
            blocks: config.blocks.iter().enumerate().map(block).collect(),
            dirty: Share::new(config.dirty_share),
            dirty_run: u64::from(config.dirty_run),
            zero: Share::new(config.zero_share),
            zero_run: u64::from(config.zero_run),
            content: PageContent::new(
                config.seed,
                config.page_bytes,
                config.compressible_share,
                config.patched_share,
            ),
            images: match config.images.as_slice() {
                [] => None,
                paths => Some(Images::open(paths)?),
            },
        })
    }

    /// Bytes in a page.
    #[must_use]
    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    /// How many RAM blocks there are.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// How many pages a block has.
    ///
    /// # Panics
    /// When there is no such block.
    #[must_use]
    pub fn pages(&self, block: u16) -> u64 {
        self.blocks[usize::from(block)].pages
    }

    /// How many pages of a block are sent: all, or none with x-ignore-shared.
    #[must_use]
    pub fn pages_sent(&self, block: u16) -> u64 {
        let block = &self.blocks[usize::from(block)];
        if block.is_sent { block.pages } else { 0 }
    }

    /// How many pages are sent, over all blocks.
    #[must_use]
    pub fn pages_sent_total(&self) -> u64 {
        (0..self.block_count() as u16).map(|block| self.pages_sent(block)).sum()
    }

    /// Whether `round` finds a page dirty. Round 0 finds all of them.
    #[inline]
    #[must_use]
    pub fn is_dirty(&self, block: u16, page: u64, round: u32) -> bool {
        if round == 0 {
            return true;
        }
        let run = mix(self.blocks[usize::from(block)].dirty_key ^ (page / self.dirty_run));
        self.dirty.takes(mix(run ^ u64::from(round)))
    }

    /// The first page from `page` on that `round` finds dirty and sends; `None` when there is none in
    /// the rest of the block. Clean runs are passed over whole.
    #[must_use]
    pub(crate) fn next_dirty(&self, block: u16, mut page: u64, round: u32) -> Option<u64> {
        let pages = self.pages_sent(block);
        while page < pages {
            if self.is_dirty(block, page, round) {
                return Some(page);
            }
            page = (page / self.dirty_run + 1) * self.dirty_run;
        }
        None
    }

    /// The last round that found the page dirty.
    #[must_use]
    pub fn generation(&self, block: u16, page: u64) -> u32 {
        (1..self.rounds).rev().find(|&round| self.is_dirty(block, page, round)).unwrap_or(0)
    }

    /// Whether the page is zero in that generation.
    #[inline]
    #[must_use]
    pub fn is_zero(&self, block: u16, page: u64, generation: u32) -> bool {
        if let Some(images) = &self.images {
            return images.is_zero(block, page, self.page_bytes);
        }
        let run = mix(self.blocks[usize::from(block)].zero_key ^ (page / self.zero_run));
        self.zero.takes(mix(run ^ u64::from(generation)))
    }

    /// The page as `round` sends it.
    #[inline]
    #[must_use]
    pub fn page(&self, block: u16, page: u64, round: u32) -> PageRef {
        PageRef { page, generation: round, zero: self.is_zero(block, page, round) }
    }

    /// The page as an XBZRLE cache without a limit has it when `round` comes to it: as it was last
    /// sent, unless that was in the first round, from which nothing is kept.
    #[must_use]
    pub(crate) fn cached(&self, block: u16, page: u64, round: u32) -> Option<PageRef> {
        let before = (1..round).rev().find(|&before| self.is_dirty(block, page, before))?;
        Some(self.page(block, page, before))
    }

    /// What the page holds when everything was sent.
    #[must_use]
    pub fn expected(&self, block: u16, page: u64) -> Expected {
        let generation = self.generation(block, page);
        if self.is_zero(block, page, generation) {
            Expected::Zero
        } else {
            Expected::Generation(generation)
        }
    }

    /// Writes the bytes of a page.
    ///
    /// # Panics
    /// When `out` is not exactly one page.
    #[inline]
    pub fn fill(&self, block: u16, page: PageRef, out: &mut [u8]) {
        match &self.images {
            _ if page.zero => out.fill(0),
            Some(images) => images.read(block, page.page, out),
            None => self.content.fill(block, page.page, page.generation, out),
        }
    }

    /// Where in [`content::stretch`] the bytes of a page lie; `None` for a page that must be made,
    /// by [`Guest::fill`].
    #[inline]
    #[must_use]
    pub(crate) fn lies_at(&self, block: u16, page: PageRef) -> Option<Range<usize>> {
        match &self.images {
            _ if page.zero => Some(content::zeros_at(self.page_bytes as usize)),
            Some(_) => None,
            None => self.content.lies_at(block, page.page, page.generation),
        }
    }

    /// The first image that could not be read: what was sent of it since then is zero.
    #[must_use]
    pub fn image_error(&self) -> Option<&ConfigError> {
        self.images.as_ref()?.error()
    }

    /// Whether `found` is what [`Guest::expected`] says of the page.
    ///
    /// # Panics
    /// When `found` is not exactly one page.
    #[must_use]
    pub fn matches(&self, block: u16, page: u64, expected: Expected, found: &[u8]) -> bool {
        match (expected, &self.images) {
            (Expected::Zero, _) => is_zero(found),
            (Expected::Generation(_), Some(images)) => {
                let mut expected = vec![0; found.len()];
                images.read(block, page, &mut expected);
                expected == found
            }
            (Expected::Generation(generation), None) => {
                self.content.matches(block, page, generation, found)
            }
        }
    }
}

/// Whether all bytes are zero.
#[inline]
#[must_use]
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // In steps, so that each step is vectorised and a page that is not zero is left early.
    bytes.chunks(256).all(|step| step.iter().fold(0, |seen, byte| seen | byte) == 0)
}

const TAG_DIRTY: u64 = 0x6469_7274_7900_0000;
const TAG_ZERO: u64 = 0x7a65_726f_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(change: impl FnOnce(&mut SourceConfig)) -> Guest {
        let mut config = SourceConfig::new(3, 16 << 20, 2);
        change(&mut config);
        Guest::new(&config).expect("no images")
    }

    #[test]
    fn the_generation_is_the_last_round_that_found_the_page_dirty() {
        let guest = guest(|c| (c.rounds, c.dirty_share) = (6, 0.4));
        for page in 0..guest.pages(0) {
            let last = (0..6).filter(|&round| guest.is_dirty(0, page, round)).max();
            assert_eq!(Some(guest.generation(0, page)), last, "page {page}");
        }
    }

    #[test]
    fn next_dirty_finds_what_is_dirty_finds() {
        let guest = guest(|c| (c.rounds, c.dirty_share, c.dirty_run) = (3, 0.1, 7));
        for round in 0..3 {
            let slow: Vec<u64> =
                (0..guest.pages(0)).filter(|&page| guest.is_dirty(0, page, round)).collect();
            let mut fast = Vec::new();
            let mut from = 0;
            while let Some(page) = guest.next_dirty(0, from, round) {
                fast.push(page);
                from = page + 1;
            }
            assert_eq!(fast, slow, "round {round}");
        }
    }

    #[test]
    fn shares_are_kept_and_pages_turn_zero_and_back() {
        let guest = guest(|c| (c.zero_share, c.dirty_share) = (0.25, 0.1));
        let pages = guest.pages(0);
        let zero = (0..pages).filter(|&page| guest.is_zero(0, page, 0)).count() as f64;
        assert!((zero / pages as f64 - 0.25).abs() < 0.1, "{zero} of {pages} zero");
        let (turned, back) = (0..pages).fold((0, 0), |(turned, back), page| {
            match (guest.is_zero(0, page, 0), guest.is_zero(0, page, 1)) {
                (false, true) => (turned + 1, back),
                (true, false) => (turned, back + 1),
                _ => (turned, back),
            }
        });
        assert!(turned > 0 && back > 0, "{turned} turned zero, {back} turned back");
    }
}
