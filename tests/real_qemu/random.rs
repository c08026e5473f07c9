//! A small seeded generator: the same seed gives the same numbers everywhere.

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, any seed is good.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is small: the bias is of no account here.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0, "no number is below zero");
        (self.next() % limit as u64) as usize
    }

    /// The numbers `0..count` in a random order (Fisher–Yates).
    pub(crate) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for end in (1..count).rev() {
            order.swap(end, self.below(end + 1));
        }
        order
    }
}
