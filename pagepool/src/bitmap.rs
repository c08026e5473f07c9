//! One bit per page, set word by word.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::words::Words;

/// A bitmap of a RAM block: a stretch of a run's [`Words`], one bit per page.
///
/// All accesses are relaxed. Who needs to see a bit set by another thread is ordered behind it by
/// something else (a completion, a sync point, a join).
pub(crate) struct Bitmap {
    words: Arc<Words>,
    first_word: usize,
    bits: u64,
}

impl Bitmap {
    /// How many words a bitmap of `bits` bits takes.
    pub(crate) fn words_for(bits: u64) -> u64 {
        bits.div_ceil(64)
    }

    /// The bitmap of `bits` bits that starts at `first_word`.
    pub(crate) fn new(words: Arc<Words>, first_word: usize, bits: u64) -> Self {
        let room = words.as_slice().len() - first_word;
        assert!(Self::words_for(bits) <= room as u64, "bitmap outside its words");
        Self { words, first_word, bits }
    }

    /// Whether a bit is set.
    pub(crate) fn get(&self, bit: u64) -> bool {
        assert!(bit < self.bits, "bit {bit} of {}", self.bits);
        self.words()[word_of(bit)].load(Relaxed) & mask_of(bit) != 0
    }

    /// Sets all bits of a range and says how many of them were not set before; words that have
    /// them already are only read.
    pub(crate) fn set_range(&self, range: Range<u64>) -> u64 {
        let mut newly_set = 0;
        for (index, mask) in self.masks(range) {
            newly_set += self.or(index, mask);
        }
        newly_set
    }

    /// Sets the bits named, in any order, and says how many of them were not set before.
    /// Neighbours in the sequence that share a word cost one atomic operation together.
    pub(crate) fn set_each(&self, bits: impl Iterator<Item = u64>) -> u64 {
        let mut newly_set = 0;
        let mut index = 0;
        let mut mask = 0;
        for bit in bits {
            assert!(bit < self.bits, "bit {bit} of {}", self.bits);
            if word_of(bit) != index {
                newly_set += self.or(index, mask);
                index = word_of(bit);
                mask = 0;
            }
            mask |= mask_of(bit);
        }
        newly_set + self.or(index, mask)
    }

    /// How many bits are set.
    pub(crate) fn count(&self) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Relaxed).count_ones());
        self.words().iter().map(ones).sum()
    }

    /// Calls `found` with every maximal run of set bits within `range`, in order.
    pub(crate) fn for_each_run<E>(
        &self,
        range: Range<u64>,
        mut found: impl FnMut(Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut run = range.start..range.start;
        for (index, mask) in self.masks(range) {
            let mut word = self.words()[index].load(Relaxed) & mask;
            while word != 0 {
                let low = word.trailing_zeros();
                let ones = (word >> low).trailing_ones();
                let start = index as u64 * 64 + u64::from(low);
                if start != run.end {
                    if !run.is_empty() {
                        found(run.clone())?;
                    }
                    run.start = start;
                }
                run.end = start + u64::from(ones);
                word &= !run_mask(low, ones);
            }
        }
        if run.is_empty() { Ok(()) } else { found(run) }
    }

    /// Or-s a mask into a word and counts the bits that are new. A word that has them already
    /// is only read: other threads may have its line.
    #[inline]
    fn or(&self, index: usize, mask: u64) -> u64 {
        if mask == 0 {
            return 0;
        }
        let word = &self.words()[index];
        if word.load(Relaxed) & mask == mask {
            return 0;
        }
        let before = word.fetch_or(mask, Relaxed);
        u64::from((mask & !before).count_ones())
    }

    /// The words a range touches, each with the mask of the range's bits in it.
    fn masks(&self, range: Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
        assert!(
            range.start <= range.end && range.end <= self.bits,
            "bits {range:?} of {}",
            self.bits
        );
        let (first, last) = (range.start / 64, range.end.div_ceil(64));
        let words = if range.is_empty() { 0..0 } else { first..last };
        words.map(move |word| {
            let low = range.start.saturating_sub(word * 64);
            let high = (range.end - word * 64).min(64);
            // Both are below or at 64 now, and low < high.
            (word as usize, run_mask(low as u32, (high - low) as u32))
        })
    }

    fn words(&self) -> &[AtomicU64] {
        let end = self.first_word + Self::words_for(self.bits) as usize;
        &self.words.as_slice()[self.first_word..end]
    }
}

fn word_of(bit: u64) -> usize {
    (bit / 64) as usize
}

fn mask_of(bit: u64) -> u64 {
    1 << (bit % 64)
}

/// `ones` set bits from bit `low` on; `1 <= ones`, `low + ones <= 64`.
fn run_mask(low: u32, ones: u32) -> u64 {
    (u64::MAX >> (64 - ones)) << low
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use super::Bitmap;
    use crate::words::Words;
    use landfall_seed::random;

    #[test]
    fn random_operations_agree_with_a_list_of_bools() {
        let mut random = random();
        for _ in 0..200 {
            let bits = random.u64(1..=700);
            let first_word = random.usize(..3);
            let (bitmap, guard) = bitmap(bits, first_word);
            let mut model = vec![false; bits as usize];
            for _ in 0..40 {
                step(&mut random, &bitmap, &mut model);
            }
            assert_eq!(bitmap.count(), model.iter().filter(|set| **set).count() as u64);
            for (index, set) in model.iter().enumerate() {
                assert_eq!(bitmap.get(index as u64), *set, "bit {index} of {bits}");
            }
            assert_eq!(runs(&bitmap, 0..bits), naive_runs(&model, 0..bits));
            let outside = guard.as_slice().iter().enumerate().filter(|(index, _)| {
                *index < first_word || *index >= first_word + bits.div_ceil(64) as usize
            });
            for (index, word) in outside {
                let found = word.load(std::sync::atomic::Ordering::Relaxed);
                assert_eq!(found, 0, "word {index} is not the bitmap's");
            }
        }
    }

    #[test]
    fn a_run_across_words_is_one_run() {
        let (bitmap, _) = bitmap(256, 0);
        bitmap.set_range(60..200);
        assert_eq!(runs(&bitmap, 0..256), vec![60..200; 1]);
        assert_eq!(runs(&bitmap, 64..128), vec![64..128; 1]);
        assert_eq!(runs(&bitmap, 200..256), []);
    }

    #[test]
    fn bits_outside_are_our_bug_and_panic() {
        let (bitmap, _) = bitmap(65, 0);
        let bitmap = std::panic::AssertUnwindSafe(bitmap);
        assert!(std::panic::catch_unwind(|| bitmap.get(65)).is_err());
        assert!(std::panic::catch_unwind(|| bitmap.set_range(0..66)).is_err());
        assert!(std::panic::catch_unwind(|| bitmap.set_each([65].into_iter())).is_err());
    }

    #[test]
    fn threads_setting_the_same_word_lose_nothing() {
        let (bitmap, _) = bitmap(64 * 64, 0);
        let newly_set: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u64)
                .map(|thread| {
                    let bitmap = &bitmap;
                    // Every bit is set by two of the four threads.
                    scope.spawn(move || {
                        bitmap.set_each((0..64 * 64).filter(|bit| bit % 2 == thread % 2))
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().expect("thread")).sum()
        });
        assert_eq!(newly_set, 64 * 64, "each bit is new exactly once");
        assert_eq!(bitmap.count(), 64 * 64);
    }

    fn step(random: &mut fastrand::Rng, bitmap: &Bitmap, model: &mut [bool]) {
        let bits = model.len() as u64;
        if random.bool() {
            let start = random.u64(..bits + 1);
            let end = start + random.u64(..bits - start + 1);
            let named = &mut model[start as usize..end as usize];
            let expected = named.iter().filter(|set| !**set).count() as u64;
            assert_eq!(bitmap.set_range(start..end), expected);
            named.fill(true);
        } else {
            let named: Vec<u64> = (0..random.u64(..30)).map(|_| random.u64(..bits)).collect();
            let mut expected = 0;
            for bit in &named {
                expected += u64::from(!model[*bit as usize]);
                model[*bit as usize] = true;
            }
            assert_eq!(bitmap.set_each(named.into_iter()), expected);
        }
        let from = random.u64(..bits);
        let to = from + random.u64(..bits - from + 1);
        assert_eq!(runs(bitmap, from..to), naive_runs(model, from..to));
    }

    fn bitmap(bits: u64, first_word: usize) -> (Bitmap, Arc<Words>) {
        let words = Words::zeroed(first_word + bits.div_ceil(64) as usize + 2).expect("map");
        let words = Arc::new(words);
        (Bitmap::new(words.clone(), first_word, bits), words)
    }

    fn runs(bitmap: &Bitmap, range: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
        let mut found = Vec::new();
        let Ok(()) = bitmap.for_each_run(range, |run| {
            found.push(run);
            Ok::<_, Infallible>(())
        });
        found
    }

    fn naive_runs(model: &[bool], range: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
        let mut found: Vec<std::ops::Range<u64>> = Vec::new();
        for bit in range.filter(|bit| model[*bit as usize]) {
            match found.last_mut() {
                Some(run) if run.end == bit => run.end += 1,
                _ => found.push(bit..bit + 1),
            }
        }
        found
    }
}
