//! The bytes of a page: cheap to make, cheap to check, known from the seed alone.
//!
//! A page is a window of a random table, every word of it XORed with a key that is a hash of the
//! seed, the block, the page and the generation. The window's place depends on the same hash. So a
//! page that lands in the wrong place, a stale generation and a shifted page all differ in nearly
//! every word, while making a page costs little more than copying it: the table stays in the
//! processor's first-level cache and the loop is one load, one XOR, one store.

use crate::hash::{Sequence, Share, hash, mix};

/// The content of every non-zero page of a guest.
#[derive(Debug)]
pub(crate) struct PageContent {
    seed: u64,
    page_words: usize,
    compressible: Share,
    table: Box<[u64]>,
}

impl PageContent {
    /// The content that `seed` stands for, in pages of `page_bytes`, of which a share has each word
    /// [`REPEATS`] times.
    ///
    /// # Panics
    /// When `page_bytes` is not a multiple of 8.
    #[must_use]
    pub(crate) fn new(seed: u64, page_bytes: u32, compressible_share: f64) -> Self {
        assert!(
            page_bytes.is_multiple_of(8),
            "pages are made of words, {page_bytes} bytes are not"
        );
        let page_words = page_bytes as usize / 8;
        let mut words = Sequence::new(&[seed, TAG_TABLE]);
        let table = (0..WINDOW_WORDS + page_words).map(|_| words.word()).collect();
        Self { seed, page_words, compressible: Share::new(compressible_share), table }
    }

    /// Bytes in a page.
    #[must_use]
    pub(crate) fn page_bytes(&self) -> usize {
        self.page_words * 8
    }

    /// Writes the content of a page as it is in `generation`.
    ///
    /// # Panics
    /// When `out` is not exactly one page.
    #[inline]
    pub(crate) fn fill(&self, block: u16, page: u64, generation: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.page_bytes(), "a page is filled whole");
        let (key, window) = self.page(block, page, generation);
        if self.is_compressible(key) {
            for (bytes, word) in out.chunks_exact_mut(8 * REPEATS).zip(window) {
                bytes.chunks_exact_mut(8).for_each(|out| {
                    out.copy_from_slice(&(word ^ key).to_le_bytes());
                });
            }
            return;
        }
        for (bytes, word) in out.chunks_exact_mut(8).zip(window) {
            bytes.copy_from_slice(&(word ^ key).to_le_bytes());
        }
    }

    /// Whether `found` is the content of this page in `generation`.
    ///
    /// # Panics
    /// When `found` is not exactly one page.
    #[inline]
    #[must_use]
    pub(crate) fn matches(&self, block: u16, page: u64, generation: u32, found: &[u8]) -> bool {
        assert_eq!(found.len(), self.page_bytes(), "a page is checked whole");
        let (key, window) = self.page(block, page, generation);
        if self.is_compressible(key) {
            let mut words = found.chunks_exact(8).zip(window.iter().flat_map(|w| [w; REPEATS]));
            return words.all(|(bytes, word)| bytes == (word ^ key).to_le_bytes());
        }
        // No early exit inside a page: the loop without one is vectorised, and pages are right
        // nearly always.
        let differing = found.chunks_exact(8).zip(window).fold(0, |differing, (bytes, word)| {
            let bytes = bytes.try_into().expect("chunks_exact gives eight bytes");
            differing | (u64::from_le_bytes(bytes) ^ word ^ key)
        });
        differing == 0
    }

    #[inline]
    fn is_compressible(&self, key: u64) -> bool {
        self.compressible.takes(mix(key))
    }

    #[inline]
    fn page(&self, block: u16, page: u64, generation: u32) -> (u64, &[u64]) {
        let place = (u64::from(block) << 32) | u64::from(generation);
        let key = hash(&[self.seed ^ TAG_KEY, place, page]);
        // Whole cache lines: eight words.
        let start = (key as usize % (WINDOW_WORDS / 8)) * 8;
        (key, &self.table[start..start + self.page_words])
    }
}

/// How many words the window moves over: 16 KiB, which with a 4 KiB page fits a 32 KiB L1 cache.
const WINDOW_WORDS: usize = 2048;
/// How often each word stands in a page that can be made smaller; divides the words of every page.
const REPEATS: usize = 16;
const TAG_TABLE: u64 = 0x7461_626c_6500_0000;
const TAG_KEY: u64 = 0x6b65_7900_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn page(content: &PageContent, block: u16, page: u64, generation: u32) -> Vec<u8> {
        let mut out = vec![0; content.page_bytes()];
        content.fill(block, page, generation, &mut out);
        out
    }

    #[test]
    fn content_depends_on_seed_block_page_and_generation_and_on_nothing_else() {
        let content = PageContent::new(7, 4096, 0.0);
        let first = page(&content, 1, 2, 3);
        assert_eq!(first, page(&PageContent::new(7, 4096, 0.0), 1, 2, 3));
        for other in [
            page(&content, 0, 2, 3),
            page(&content, 1, 3, 3),
            page(&content, 1, 2, 4),
            page(&PageContent::new(8, 4096, 0.0), 1, 2, 3),
        ] {
            let same = first.chunks(8).zip(other.chunks(8)).filter(|(a, b)| a == b).count();
            assert!(same < 3, "{same} of 512 words are equal");
        }
    }

    #[test]
    fn a_match_sees_every_single_byte() {
        for share in [0.0, 1.0] {
            let content = PageContent::new(1, 4096, share);
            let mut found = page(&content, 0, 9, 0);
            assert!(content.matches(0, 9, 0, &found));
            for at in 0..found.len() {
                found[at] ^= 0x40;
                assert!(!content.matches(0, 9, 0, &found), "byte {at} changed unseen");
                found[at] ^= 0x40;
            }
        }
    }
}
