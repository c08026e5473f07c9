//! Atomic words in memory that costs nothing until it is touched.

use std::sync::atomic::AtomicU64;

use memmap2::{MmapMut, MmapRaw};
use nix::errno::Errno;

use crate::error::errno_of;

/// A fixed number of `AtomicU64`, all zero at first, in an anonymous mapping of their own: a page
/// of them takes memory only once one of its words is set.
pub(crate) struct Words {
    map: MmapRaw,
    count: usize,
}

impl Words {
    /// `count` zero words; 0 is allowed.
    pub(crate) fn zeroed(count: usize) -> Result<Self, Errno> {
        // An empty mapping is not a thing: one word stands in for none.
        let bytes = count.max(1).checked_mul(8).ok_or(Errno::ENOMEM)?;
        let map = MmapMut::map_anon(bytes).map_err(|error| errno_of(&error))?;
        Ok(Self { map: MmapRaw::from(map), count })
    }

    /// All the words.
    pub(crate) fn as_slice(&self) -> &[AtomicU64] {
        let first = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: from_raw_parts needs `count` initialised, aligned values in one allocation, for
        // as long as &self, and nobody may change them but through interior mutability.
        // - the mapping has at least 8 * count bytes, is page aligned and lives as long as `map`.
        // - anonymous memory is zero, and any bits are an AtomicU64.
        // - `map` is private and used nowhere else; all access is through this slice of atomics.
        // - 8 * count fits isize: the kernel mapped it.
        unsafe { std::slice::from_raw_parts(first, self.count) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::Words;
    use crate::PageFaults;

    #[test]
    fn words_that_nobody_sets_take_no_memory() {
        let before = PageFaults::of_thread();
        // Two bits for each 4 KiB page of 4 TiB: 256 MiB.
        let words = Words::zeroed(1 << 25).expect("map");
        words.as_slice()[0].store(1, Relaxed);
        words.as_slice()[(1 << 25) - 1].store(1, Relaxed);
        let faults = PageFaults::of_thread().since(before);
        assert!(faults.minor < 32, "{faults:?} for two words");
    }

    #[test]
    fn words_start_zero_and_hold_what_is_set() {
        let words = Words::zeroed(1000).expect("map");
        assert!(words.as_slice().iter().all(|word| word.load(Relaxed) == 0));
        words.as_slice()[999].store(7, Relaxed);
        assert_eq!(words.as_slice()[999].load(Relaxed), 7);
        assert_eq!(Words::zeroed(0).expect("map").as_slice().len(), 0);
    }
}
