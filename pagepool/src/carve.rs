//! Where in the regions each RAM block goes. Pure arithmetic.
//!
//! The largest block comes first, each into the first region with room for it. A block of 2 MiB or
//! more starts on 2 MiB, so that huge pages of the host are huge pages of the guest; a smaller one
//! on its own size rounded up to a power of two, so that a handful of ROMs do not cost 2 MiB each.

/// A region with room for blocks from `used` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    pub(crate) used: u64,
}

/// The place of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Index of the region.
    pub(crate) region: usize,
    /// Bytes from the region's start.
    pub(crate) offset: u64,
}

/// Places as many of the blocks without a slot as have room.
pub(crate) fn fit(rooms: &mut [Room], sizes: &[u64], slots: &mut [Option<Slot>]) {
    let mut order: Vec<usize> = (0..sizes.len()).filter(|i| slots[*i].is_none()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(sizes[*index]));
    for index in order {
        let bytes = sizes[index];
        let place = rooms.iter_mut().enumerate().find_map(|(region, room)| {
            let (offset, end) = next_range(room.used, bytes)?;
            if end > room.bytes {
                return None;
            }
            room.used = end;
            Some(Slot { region, offset })
        });
        slots[index] = place;
    }
}

/// The bytes of a region that [`fit`] fills with exactly these blocks; `None` beyond 64 bits.
pub(crate) fn packed_bytes(sizes: &[u64]) -> Option<u64> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.into_iter().try_fold(0, |used, bytes| Some(next_range(used, bytes)?.1))
}

/// The size up to which blocks are small change: all of them together are at most a sixteenth of
/// the guest's memory, and none is over 64 MiB. Video memory and ROMs are; they must not cost
/// a 1 GiB page, nor fail a run for want of one, and QEMU's own `-mem-path` does not huge-page them
/// either. 0 = none.
pub(crate) fn small_bytes_max(sizes: &[u64]) -> u64 {
    let total: u128 = sizes.iter().map(|bytes| u128::from(*bytes)).sum();
    let mut ascending = sizes.to_vec();
    ascending.sort_unstable();
    let mut sum = 0u128;
    let mut max = 0;
    // Blocks of the same size are small together or not at all.
    for same in ascending.chunk_by(|a, b| a == b) {
        sum += u128::from(same[0]) * same.len() as u128;
        if sum > total / 16 || same[0] > SMALL_BYTES_MAX {
            break;
        }
        max = same[0];
    }
    max
}

/// The first range for a block at or behind `used`.
fn next_range(used: u64, bytes: u64) -> Option<(u64, u64)> {
    let alignment = bytes.checked_next_power_of_two().unwrap_or(ALIGNMENT_MAX);
    let offset = used.checked_next_multiple_of(alignment.min(ALIGNMENT_MAX))?;
    Some((offset, offset.checked_add(bytes)?))
}

const ALIGNMENT_MAX: u64 = 2 << 20;
const SMALL_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::{Room, fit, packed_bytes, small_bytes_max};
    use landfall_seed::random;

    #[test]
    fn random_blocks_are_aligned_inside_and_apart() {
        let mut random = random();
        for _ in 0..500 {
            let sizes: Vec<u64> = (0..random.u64(1..=20))
                .map(|_| {
                    let pages_max = 1 << random.u64(..14);
                    4096 * (1 + random.u64(..pages_max))
                })
                .collect();
            let packed = packed_bytes(&sizes).expect("small");
            let spare = random.u64(..2) * (64 << 20);
            let mut rooms = [spare, packed].map(|bytes| Room { bytes, used: 0 });
            let mut slots = vec![None; sizes.len()];
            fit(&mut rooms, &sizes, &mut slots);
            let mut ranges = Vec::new();
            for (slot, bytes) in slots.iter().zip(&sizes) {
                let slot = slot.expect("one region was made for all of them");
                let alignment = bytes.next_power_of_two().min(2 << 20);
                assert_eq!(slot.offset % alignment, 0, "{bytes} at {}", slot.offset);
                assert!(slot.offset + bytes <= rooms[slot.region].bytes);
                ranges.push((slot.region, slot.offset, slot.offset + bytes));
            }
            ranges.sort_unstable();
            for pair in ranges.windows(2) {
                let ((region, _, end), (next_region, start, _)) = (pair[0], pair[1]);
                assert!(region != next_region || end <= start, "{ranges:?}");
            }
        }
    }

    #[test]
    fn a_packed_region_is_exactly_full() {
        let sizes = [2 << 30, 16 << 20, 128 << 10, 256 << 10, 4096];
        let packed = packed_bytes(&sizes).expect("small");
        let mut rooms = [Room { bytes: packed, used: 0 }];
        let mut slots = [None; 5];
        fit(&mut rooms, &sizes, &mut slots);
        assert!(slots.iter().all(Option::is_some));
        assert_eq!(rooms[0].used, packed);
        let mut rooms = [Room { bytes: packed - 1, used: 0 }];
        let mut slots = [None; 5];
        fit(&mut rooms, &sizes, &mut slots);
        assert_eq!(slots.iter().filter(|slot| slot.is_none()).count(), 1);
    }

    #[test]
    fn sizes_beyond_64_bits_are_no_size() {
        assert_eq!(packed_bytes(&[u64::MAX, 4096]), None);
        assert_eq!(packed_bytes(&[1 << 63, 1 << 63]), None);
    }

    #[test]
    fn small_change_is_small_together() {
        let pc = [8 << 30, 16 << 20, 256 << 10, 128 << 10];
        assert_eq!(small_bytes_max(&pc), 16 << 20);
        assert_eq!(small_bytes_max(&[64 << 20; 4096]), 0, "equal blocks are the memory");
        assert_eq!(small_bytes_max(&[4096]), 0, "the only block is the memory");
        assert_eq!(small_bytes_max(&[4 << 40, 128 << 20]), 0, "over 64 MiB");
    }
}
