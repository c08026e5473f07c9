//! Which pages are read together: runs of set bits, pure.

use std::ops::Range;

/// Pages of a chunk that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Their bits are set: the file has their data. Else they are zero, and what
    /// the file may have in their places is of no meaning.
    pub is_set: bool,
    /// Counted from the beginning of the bitmap's piece.
    pub pages: Range<u64>,
}

/// Goes through a piece of a block's bitmap: one bit a page, in words of 8
/// bytes in the order of a little-endian host, as QEMU on x86 writes them
/// (`migration/ram.c`, `ram_save_file_bmap`).
///
/// Every page is in exactly one stretch. Stretches with data are cut where they
/// would be longer than one read; others are as long as can be. Bits behind
/// the last page are not looked at.
#[derive(Clone, Debug)]
pub struct Stretches {
    end: u64,
    read_pages_max: u64,
    next: u64,
}

impl Stretches {
    /// Of `pages`; no read has more than `read_pages_max`, at least 1.
    pub fn new(pages: Range<u64>, read_pages_max: u64) -> Self {
        assert!(read_pages_max > 0, "a read has a page");
        Self { end: pages.end, read_pages_max, next: pages.start }
    }

    /// The next one; `bitmap` is the same each time.
    pub fn next(&mut self, bitmap: &[u8]) -> Option<Stretch> {
        let start = self.next;
        if start >= self.end {
            return None;
        }
        let is_set = bit(bitmap, start);
        let most = if is_set { self.read_pages_max.min(self.end - start) } else { self.end };
        let limit = start.saturating_add(most).min(self.end);
        let end = first_other(bitmap, is_set, start, limit);
        self.next = end;
        Some(Stretch { is_set, pages: start..end })
    }
}

/// The first bit in `from..limit` that is not `set`, or `limit`.
fn first_other(bitmap: &[u8], set: bool, from: u64, limit: u64) -> u64 {
    let mut at = from;
    while at < limit {
        let word = word(bitmap, at / 64);
        let others = if set { !word } else { word };
        let ahead = others >> (at % 64);
        if ahead != 0 {
            return (at + u64::from(ahead.trailing_zeros())).min(limit);
        }
        at = (at / 64 + 1) * 64;
    }
    limit
}

fn bit(bitmap: &[u8], index: u64) -> bool {
    word(bitmap, index / 64) >> (index % 64) & 1 == 1
}

fn word(bitmap: &[u8], index: u64) -> u64 {
    let words = bitmap.as_chunks::<8>().0;
    u64::from_le_bytes(words[index as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(bitmap: &[u8], pages: u64, most: u64) -> Vec<Stretch> {
        let mut all = Stretches::new(0..pages, most);
        std::iter::from_fn(|| all.next(bitmap)).collect()
    }

    #[test]
    fn runs_become_reads_and_the_rest_is_zero() {
        let mut bitmap = [0; 16];
        bitmap[0] = 0b0110_0000;
        bitmap[7] = 0x80;
        bitmap[8] = 0x01; // a run over two words
        let found = stretches(&bitmap, 128, 256);
        let expected =
            [(false, 0..5), (true, 5..7), (false, 7..63), (true, 63..65), (false, 65..128)];
        let expected: Vec<_> =
            expected.into_iter().map(|(is_set, pages)| Stretch { is_set, pages }).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn long_runs_are_cut_and_bits_behind_the_last_page_are_nothing() {
        let found = stretches(&[0xff; 8], 10, 4);
        let pages: Vec<_> = found.iter().map(|stretch| stretch.pages.clone()).collect();
        assert_eq!(pages, [0..4, 4..8, 8..10]);
        assert!(found.iter().all(|stretch| stretch.is_set));
        assert_eq!(stretches(&[0; 8], 10, 4), [Stretch { is_set: false, pages: 0..10 }]);
    }

    #[test]
    fn they_begin_in_the_middle_too() {
        let mut all = Stretches::new(3..9, u64::MAX);
        let next = || all.next(&[0b0001_1010, 0, 0, 0, 0, 0, 0, 0]);
        let pages: Vec<_> = std::iter::from_fn(next).map(|stretch| stretch.pages).collect();
        assert_eq!(pages, [3..5, 5..9]);
    }

    #[test]
    fn random_bitmaps_are_divided_as_bit_by_bit() {
        let mut random = landfall_seed::random();
        for _ in 0..500 {
            let pages = random.u64(1..=700);
            let most = random.u64(1..=300);
            let mut bitmap = vec![0; pages.div_ceil(64) as usize * 8];
            for byte in &mut bitmap {
                // Long runs as well as scattered bits.
                *byte = [0, 0xff, random.u8(..)][random.usize(..3)];
            }
            let mut next = 0;
            for Stretch { is_set, pages: run } in stretches(&bitmap, pages, most) {
                assert_eq!(run.start, next);
                assert!(run.end > run.start && run.end <= pages);
                next = run.end;
                for page in run.clone() {
                    let set = bitmap[page as usize / 8] >> (page % 8) & 1 == 1;
                    assert_eq!(set, is_set, "page {page}");
                }
                assert!(!is_set || run.end - run.start <= most);
            }
            assert_eq!(next, pages);
        }
    }
}
