//! The bytes of a page: never made when they are needed, cheap to check, known from the seed alone.
//!
//! All pages are windows of one stretch of random bytes, the same in every process, which is made
//! once and never written again. So a source sends pages from where they lie, and a guest of any
//! size needs no more memory than that. Where a window begins is a hash of the seed, the block, the
//! generation and the run of pages: as many as a packet holds, aligned. Inside a run pages adjoin,
//! so that a packet's pages are one range, as they are in a guest.
//!
//! Where writes change some places only, a page is its first generation with other places changed in
//! each later one.
//!
//! A page that lands in the wrong place, a stale generation and a shifted page differ in nearly
//! every byte, unless two windows happen to be the same: one pair of pages in 2^20.

use std::{ops::Range, sync::LazyLock};

use memmap2::{Advice, Mmap, MmapMut};

use crate::{
    config::PAGE_BYTES_MAX,
    encode::packet::packet_pages,
    hash::{Sequence, Share, hash, mix},
};

/// The content of every page of a guest.
#[derive(Debug)]
pub(crate) struct PageContent {
    seed: u64,
    page_bytes: usize,
    /// Pages that adjoin.
    run_pages: u64,
    compressible: Share,
    /// Of which pages a write changes some places only.
    patched: Share,
}

impl PageContent {
    /// The content that `seed` stands for, in pages of `page_bytes`, of which a share has each word
    /// [`REPEATS`] times, and of which a share is never changed as a whole.
    ///
    /// # Panics
    /// When `page_bytes` is not a multiple of 8.
    #[must_use]
    pub(crate) fn new(
        seed: u64,
        page_bytes: u32,
        compressible_share: f64,
        patched_share: f64,
    ) -> Self {
        assert!(
            page_bytes.is_multiple_of(8),
            "pages are made of words, {page_bytes} bytes are not"
        );
        LazyLock::force(&STRETCH);
        Self {
            seed,
            page_bytes: page_bytes as usize,
            run_pages: u64::from(packet_pages(page_bytes)),
            compressible: Share::new(compressible_share),
            patched: Share::new(patched_share),
        }
    }

    /// Where in [`stretch`] the page lies as it is in `generation`; `None` for one of those that
    /// can be made smaller or were changed in places, which are made when they are needed.
    #[inline]
    #[must_use]
    pub(crate) fn lies_at(&self, block: u16, page: u64, generation: u32) -> Option<Range<usize>> {
        (!self.is_compressible(block, page, generation)
            && !self.is_patched(block, page, generation))
        .then(|| self.window(block, page, generation))
    }

    /// Writes the content of a page as it is in `generation`.
    ///
    /// # Panics
    /// When `out` is not exactly one page.
    #[inline]
    pub(crate) fn fill(&self, block: u16, page: u64, generation: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.page_bytes, "a page is filled whole");
        if self.is_patched(block, page, generation) {
            self.fill(block, page, 0, out);
            return self.patch(block, page, generation, out);
        }
        let window = &stretch()[self.window(block, page, generation)];
        if self.is_compressible(block, page, generation) {
            let words = window.chunks_exact(8);
            for (bytes, word) in out.chunks_exact_mut(8 * REPEATS).zip(words) {
                bytes.chunks_exact_mut(8).for_each(|out| out.copy_from_slice(word));
            }
            return;
        }
        out.copy_from_slice(window);
    }

    /// Whether `found` is the content of this page in `generation`.
    ///
    /// # Panics
    /// When `found` is not exactly one page.
    #[inline]
    #[must_use]
    pub(crate) fn matches(&self, block: u16, page: u64, generation: u32, found: &[u8]) -> bool {
        assert_eq!(found.len(), self.page_bytes, "a page is checked whole");
        if self.is_patched(block, page, generation) {
            let mut expected = vec![0; found.len()];
            self.fill(block, page, generation, &mut expected);
            return expected == found;
        }
        let window = &stretch()[self.window(block, page, generation)];
        if self.is_compressible(block, page, generation) {
            let mut words = found.chunks_exact(8 * REPEATS).zip(window.chunks_exact(8));
            return words.all(|(bytes, word)| bytes.chunks_exact(8).all(|found| found == word));
        }
        found == window
    }

    #[inline]
    fn is_compressible(&self, block: u16, page: u64, generation: u32) -> bool {
        // No hash where the answer is always the same.
        match self.compressible {
            Share::None => false,
            share => share.takes(mix(self.key(block, page, generation))),
        }
    }

    /// The first generation is whole, and what a page is goes for all of its later ones.
    #[inline]
    fn is_patched(&self, block: u16, page: u64, generation: u32) -> bool {
        match self.patched {
            Share::None => false,
            share => generation > 0 && share.takes(mix(self.key(block, page, 0) ^ TAG_PATCHED)),
        }
    }

    /// Changes some places of a page.
    fn patch(&self, block: u16, page: u64, generation: u32, out: &mut [u8]) {
        let mut random = Sequence::new(&[self.key(block, page, generation), TAG_PATCHED]);
        for _ in 0..=random.below(PLACES_MAX) {
            let at = random.below(out.len() as u64) as usize;
            let most = PLACE_BYTES_MAX[random.below(3) as usize];
            let count = 1 + random.below(most) as usize;
            let bytes = random.bytes(count);
            out[at..].iter_mut().zip(bytes).for_each(|(out, byte)| *out = byte);
        }
    }

    #[inline]
    fn window(&self, block: u16, page: u64, generation: u32) -> Range<usize> {
        let (run, in_run) = (page / self.run_pages, page % self.run_pages);
        let window = self.key(block, run, generation) % WINDOWS;
        let start = window as usize * WINDOW_STEP + in_run as usize * self.page_bytes;
        start..start + self.page_bytes
    }

    #[inline]
    fn key(&self, block: u16, number: u64, generation: u32) -> u64 {
        let place = (u64::from(block) << 32) | u64::from(generation);
        hash(&[self.seed ^ TAG_KEY, place, number])
    }
}

/// What all pages are windows of; zeros at the end.
#[inline]
#[must_use]
pub(crate) fn stretch() -> &'static [u8] {
    &STRETCH
}

/// Where in [`stretch`] a zero page of so many bytes lies.
///
/// # Panics
/// When it has more bytes than any page.
#[must_use]
pub(crate) fn zeros_at(page_bytes: usize) -> Range<usize> {
    assert!(page_bytes <= ZERO_BYTES, "no page is larger than {ZERO_BYTES} bytes");
    RANDOM_BYTES..RANDOM_BYTES + page_bytes
}

static STRETCH: LazyLock<Mmap> = LazyLock::new(|| {
    let map = MmapMut::map_anon(RANDOM_BYTES + ZERO_BYTES);
    let mut map = map.expect("address space for the content of pages");
    // Only a matter of speed; a kernel without large pages does as well.
    let _ = map.advise(Advice::HugePage);
    for (index, bytes) in map[..RANDOM_BYTES].chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&mix(TAG_STRETCH ^ index as u64).to_le_bytes());
    }
    map.make_read_only().expect("memory of our own can be made read-only")
});

/// How many windows there are: 64 MiB of them.
const WINDOWS: u64 = 1 << 20;
/// A window begins at a cache line.
const WINDOW_STEP: usize = 64;
/// The pages of a packet, of whatever size.
const RUN_BYTES: usize = 512 << 10;
const RANDOM_BYTES: usize = WINDOWS as usize * WINDOW_STEP + RUN_BYTES;
const ZERO_BYTES: usize = PAGE_BYTES_MAX as usize;
/// How often each word stands in a page that can be made smaller; divides the words of every page.
const REPEATS: usize = 16;
const TAG_STRETCH: u64 = 0x7374_7265_7463_6800;
const TAG_KEY: u64 = 0x6b65_7900_0000_0000;
const TAG_PATCHED: u64 = 0x7061_7463_6865_6400;
/// A write changes at most so many places of a page and one more.
const PLACES_MAX: u64 = 12;
/// A counter, a structure, a buffer.
const PLACE_BYTES_MAX: [u64; 3] = [8, 64, 600];

#[cfg(test)]
mod tests {
    use super::*;

    fn page(content: &PageContent, block: u16, page: u64, generation: u32) -> Vec<u8> {
        let mut out = vec![0; content.page_bytes];
        content.fill(block, page, generation, &mut out);
        out
    }

    #[test]
    fn content_depends_on_seed_block_page_and_generation_and_on_nothing_else() {
        let content = PageContent::new(7, 4096, 0.0, 0.0);
        let first = page(&content, 1, 2, 3);
        assert_eq!(first, page(&PageContent::new(7, 4096, 0.0, 0.0), 1, 2, 3));
        for other in [
            page(&content, 0, 2, 3),
            page(&content, 1, 3, 3),
            page(&content, 1, 2, 4),
            page(&PageContent::new(8, 4096, 0.0, 0.0), 1, 2, 3),
        ] {
            let same = first.chunks(8).zip(other.chunks(8)).filter(|(a, b)| a == b).count();
            assert!(same < 3, "{same} of 512 words are equal");
        }
    }

    #[test]
    fn pages_of_a_packet_adjoin_and_those_of_different_packets_do_not() {
        for page_bytes in [4096, 16384, 65536] {
            let content = PageContent::new(5, page_bytes, 0.0, 0.0);
            let pages = u64::from(packet_pages(page_bytes));
            let at = |page| content.lies_at(0, page, 0).expect("lies somewhere");
            for page in 1..4 * pages {
                let adjoin = at(page).start == at(page - 1).end;
                assert_eq!(adjoin, page % pages != 0, "page {page} of {page_bytes} bytes");
            }
        }
    }

    #[test]
    fn a_page_that_lies_somewhere_is_the_page_that_is_filled() {
        let content = PageContent::new(5, 4096, 0.5, 0.0);
        let mut lying = 0;
        for number in 0..200 {
            if let Some(at) = content.lies_at(1, number, 2) {
                assert!(page(&content, 1, number, 2) == stretch()[at]);
                lying += 1;
            }
        }
        assert!((50..150).contains(&lying), "{lying} of 200 pages");
        assert!(stretch()[zeros_at(65536)].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_match_sees_every_single_byte() {
        for share in [0.0, 1.0] {
            let content = PageContent::new(1, 4096, share, share);
            for generation in [0, 3] {
                let mut found = page(&content, 0, 9, generation);
                assert!(content.matches(0, 9, generation, &found));
                for at in 0..found.len() {
                    found[at] ^= 0x40;
                    assert!(!content.matches(0, 9, generation, &found), "byte {at} changed unseen");
                    found[at] ^= 0x40;
                }
            }
        }
    }

    #[test]
    fn some_pages_change_in_places_only_other_ones_in_each_generation() {
        let content = PageContent::new(9, 4096, 0.0, 0.5);
        let mut patched = 0;
        for number in 0..200 {
            let [first, second, third] = [0, 1, 2].map(|round| page(&content, 3, number, round));
            let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
            match differ(&first, &second) {
                4000.. => assert!(differ(&second, &third) > 4000, "page {number}"),
                some => {
                    assert!(some > 0 && differ(&second, &third) > 0, "page {number}");
                    patched += 1;
                }
            }
        }
        assert!((60..140).contains(&patched), "{patched} of 200 pages");
    }
}
