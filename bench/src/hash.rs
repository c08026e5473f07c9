//! The one hash behind every decision of the synthetic source.
//!
//! Everything the source does – which page is zero, which is dirty in round 3, which channel takes a
//! packet – is a hash of the seed and of *what* is decided, never of *when*. So nothing has to be
//! remembered, and a checker that knows the seed knows the answer.

/// Scrambles 64 bits so that every input bit reaches every output bit (the finaliser of
/// SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline]
#[must_use]
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash of several words: order matters, and so does the number of words.
#[inline]
#[must_use]
pub(crate) fn hash(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64, |state, &word| mix(state ^ word).rotate_left(17))
}

/// A share between 0 and 1 as a threshold: `mix(…) < threshold` is true for that share of inputs.
///
/// 0 is never true; 1 is always true (the one value that a `u64` threshold cannot express is kept as
/// a case of its own).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Never.
    None,
    /// When the hash is below the number.
    Below(u64),
    /// Always.
    All,
}

impl Share {
    /// The threshold for `share`; values outside 0..=1 count as the nearer end.
    #[must_use]
    pub(crate) fn new(share: f64) -> Self {
        if share >= 1.0 {
            return Self::All;
        }
        let below = (share * TWO_POW_64) as u64;
        if below == 0 { Self::None } else { Self::Below(below) }
    }

    /// Whether this hash falls inside the share.
    #[inline]
    #[must_use]
    pub(crate) fn takes(self, hash: u64) -> bool {
        match self {
            Self::None => false,
            Self::Below(limit) => hash < limit,
            Self::All => true,
        }
    }
}

/// A sequence of random words from a seed, for what is made once and in order: device state.
#[derive(Clone, Debug)]
pub(crate) struct Sequence(u64);

impl Sequence {
    /// The sequence named by these words.
    #[must_use]
    pub(crate) fn new(words: &[u64]) -> Self {
        Self(hash(words))
    }

    /// The next word.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..below`; 0 when `below` is 0. The bias is below 2^-32 for `below` < 2^32.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(below)) >> 64) as u64
    }

    /// `len` random bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.word().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_about_its_share() {
        for share in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let threshold = Share::new(share);
            let taken = (0..100_000).filter(|&i| threshold.takes(mix(i))).count() as f64;
            assert!((taken / 100_000.0 - share).abs() < 0.01, "share {share}: {taken} of 100000");
        }
    }

    #[test]
    fn the_hash_sees_order_and_length() {
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[1]), hash(&[1, 0]));
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
    }
}
