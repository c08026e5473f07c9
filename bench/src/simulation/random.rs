//! The decisions of a simulation.

use crate::hash::Sequence;

/// Decisions from a seed, each made once and in order.
#[derive(Clone, Debug)]
pub(super) struct Random(Sequence);

impl Random {
    /// The decisions of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(Sequence::new(&[seed, TAG]))
    }

    /// Any 64 bits.
    pub(super) fn word(&mut self) -> u64 {
        self.0.word()
    }

    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
    }

    /// A number from `least` to `most`.
    pub(super) fn within(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const TAG: u64 = 0x7369_6d75_6c61_7465;
