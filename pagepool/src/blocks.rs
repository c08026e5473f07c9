//! All RAM blocks of a run.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

use crate::bitmap::Bitmap;
use crate::block::BlockParts;
use crate::carve::Slot;
use crate::region::Region;
use crate::words::Words;
use crate::{BlockName, PoolError, RamBlock, ZeroKernel, ram_file_name};

/// A RAM block that the source announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRequest {
    /// Its name.
    pub name: BlockName,
    /// Its size (QEMU `used_length`), a non-zero multiple of the page size.
    pub bytes: u64,
}

/// The RAM blocks of a run, in the order they were announced; shared by all readers.
#[derive(Debug)]
pub struct RamBlocks {
    blocks: Vec<RamBlock>,
    by_name: HashMap<BlockName, usize>,
    page_bytes: u32,
    lease: u64,
    late_bytes: u64,
    late_ns: u64,
}

/// What [`RamBlocks`] are made from, beside the requests.
pub(crate) struct Carved<'a> {
    pub(crate) regions: &'a [Arc<Region>],
    /// One for each request.
    pub(crate) slots: &'a [Slot],
    pub(crate) page_bytes: u32,
    pub(crate) zero_kernel: ZeroKernel,
    pub(crate) lease: u64,
    pub(crate) late_bytes: u64,
    pub(crate) late_ns: u64,
}

impl RamBlocks {
    /// Checks what the source announced, and says how many bytes it is in all.
    pub(crate) fn check(requests: &[BlockRequest], page_bytes: u32) -> Result<u64, PoolError> {
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes)
        {
            return Err(PoolError::PageBytes { found: page_bytes });
        }
        if requests.is_empty() || requests.len() > Self::COUNT_MAX {
            return Err(PoolError::BlockCount { found: requests.len(), limit: Self::COUNT_MAX });
        }
        // A cut name is the plain name of another block only if somebody wants it so.
        let mut names = HashMap::new();
        let mut total = 0u64;
        for BlockRequest { name, bytes } in requests {
            if *bytes == 0 || !bytes.is_multiple_of(page_bytes.into()) {
                return Err(PoolError::BlockBytes {
                    name: name.clone(),
                    found: *bytes,
                    page_bytes,
                });
            }
            if let Some(other) = names.insert(ram_file_name(name), name) {
                let (name, other) = (name.clone(), other.clone());
                return Err(if name == other {
                    PoolError::DuplicateBlock { name }
                } else {
                    PoolError::SameFile { name, other }
                });
            }
            total = total.checked_add(*bytes).ok_or(PoolError::TotalBytes)?;
        }
        Ok(total)
    }

    /// Puts checked requests into their slots, with fresh bitmaps.
    pub(crate) fn new(requests: &[BlockRequest], carved: &Carved<'_>) -> Result<Self, PoolError> {
        let page_shift = carved.page_bytes.trailing_zeros();
        let words_of = |request: &BlockRequest| Bitmap::words_for(request.bytes >> page_shift);
        let count: u64 = requests.iter().map(|request| 2 * words_of(request)).sum();
        // Fits: the blocks themselves are mapped, and this is two bits a page.
        let words = Words::zeroed(count as usize).map_err(|source| PoolError::Map {
            what: "bitmaps",
            bytes: count * 8,
            source,
        })?;
        let words = Arc::new(words);
        let mut next_word = 0;
        let mut bitmap = |request: &BlockRequest| {
            let first_word = next_word;
            next_word += words_of(request) as usize;
            Bitmap::new(words.clone(), first_word, request.bytes >> page_shift)
        };
        let blocks: Vec<RamBlock> = requests
            .iter()
            .zip(carved.slots)
            .map(|(request, slot)| {
                RamBlock::new(BlockParts {
                    name: request.name.clone(),
                    bytes: request.bytes,
                    page_bytes: carved.page_bytes,
                    region: carved.regions[slot.region].clone(),
                    region_offset: slot.offset as usize,
                    written: bitmap(request),
                    received: bitmap(request),
                    zero_kernel: carved.zero_kernel,
                })
            })
            .collect();
        let names = requests.iter().map(|request| request.name.clone());
        Ok(Self {
            by_name: names.zip(0..).collect(),
            blocks,
            page_bytes: carved.page_bytes,
            lease: carved.lease,
            late_bytes: carved.late_bytes,
            late_ns: carved.late_ns,
        })
    }

    /// How many blocks there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a run has a block")]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// A block by its index.
    pub fn get(&self, index: usize) -> Option<&RamBlock> {
        self.blocks.get(index)
    }

    /// The index of the block with this name, given as on the wire without NUL. Does not allocate.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let name = std::str::from_utf8(name).ok()?;
        self.by_name.get(name).copied()
    }

    /// All blocks in the order they were announced.
    pub fn iter(&self) -> std::slice::Iter<'_, RamBlock> {
        self.blocks.iter()
    }

    /// The target's page size.
    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    /// Bytes of all blocks.
    pub fn total_bytes(&self) -> u64 {
        self.blocks.iter().map(RamBlock::bytes).sum()
    }

    /// Pages of all blocks.
    pub fn pages(&self) -> u64 {
        self.blocks.iter().map(RamBlock::pages).sum()
    }

    /// Pages received in all blocks. Reads the whole bitmaps: not for the page path.
    pub fn received_count(&self) -> u64 {
        self.blocks.iter().map(RamBlock::received_count).sum()
    }

    /// Bytes that had to be mapped and prefaulted when they were announced, as no pool held them.
    pub fn late_bytes(&self) -> u64 {
        self.late_bytes
    }

    /// ns that this took, while the source waited.
    pub fn late_ns(&self) -> u64 {
        self.late_ns
    }

    /// Which carving these blocks are from.
    pub(crate) fn lease(&self) -> u64 {
        self.lease
    }

    /// The most blocks a source may announce; no QEMU machine comes near.
    pub const COUNT_MAX: usize = 4096;
}

impl Index<usize> for RamBlocks {
    type Output = RamBlock;

    fn index(&self, index: usize) -> &RamBlock {
        &self.blocks[index]
    }
}

impl<'a> IntoIterator for &'a RamBlocks {
    type Item = &'a RamBlock;
    type IntoIter = std::slice::Iter<'a, RamBlock>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// QEMU's `TARGET_PAGE_BITS` are 12 to 16 on the targets that migrate today.
const PAGE_BYTES_MIN: u32 = 4096;
const PAGE_BYTES_MAX: u32 = 65536;

/// Blocks for a test, from a pool of their own.
#[cfg(test)]
pub(crate) fn test_blocks(sizes: &[(&str, u64)], page_bytes: u32) -> RamBlocks {
    let config = crate::MemoryConfig { hugepages: crate::Hugepages::Off, ..Default::default() };
    let mut pool = crate::Pool::open(&config, &|_, _| {}).expect("pool");
    let requests = test_requests(sizes);
    pool.carve(&requests, page_bytes, &|_, _| {}).expect("blocks")
}

/// One block for a test, in memory given.
#[cfg(test)]
pub(crate) fn test_blocks_in(region: Region, sizes: &[(&str, u64)]) -> RamBlocks {
    let carved = Carved {
        regions: &[Arc::new(region)],
        slots: &[Slot { region: 0, offset: 0 }],
        page_bytes: 4096,
        zero_kernel: crate::zero::choice().kernel,
        lease: 0,
        late_bytes: 0,
        late_ns: 0,
    };
    RamBlocks::new(&test_requests(sizes), &carved).expect("bitmaps")
}

/// Requests for a test.
#[cfg(test)]
pub(crate) fn test_requests(sizes: &[(&str, u64)]) -> Vec<BlockRequest> {
    let request = |(name, bytes): &(&str, u64)| BlockRequest {
        name: BlockName::try_from(*name).expect("a name"),
        bytes: *bytes,
    };
    sizes.iter().map(request).collect()
}

#[cfg(test)]
mod tests {
    use super::{RamBlocks, test_blocks, test_requests};
    use crate::{PoolError, ram_file_name};

    #[test]
    fn blocks_are_found_by_the_name_on_the_wire() {
        let blocks = test_blocks(&[("pc.ram", 8192), ("/rom@etc/acpi/tables", 4096)], 4096);
        assert_eq!(blocks.find(b"pc.ram"), Some(0));
        assert_eq!(blocks.find(b"/rom@etc/acpi/tables"), Some(1));
        for wrong in [&b"pc.ra"[..], b"", b"\xff", b"pc.ram\0"] {
            assert_eq!(blocks.find(wrong), None);
        }
        assert_eq!((blocks.len(), blocks.pages(), blocks.total_bytes()), (2, 3, 12288));
    }

    #[test]
    fn requests_that_are_no_blocks_are_refused() {
        let check =
            |sizes: &[(&str, u64)], page_bytes| RamBlocks::check(&test_requests(sizes), page_bytes);
        assert_eq!(check(&[("a", 4096), ("b", 8192)], 4096).ok(), Some(12288));
        for page_bytes in [0, 1024, 4095, 12288, 131072] {
            let answer = check(&[("a", 1 << 20)], page_bytes);
            assert!(matches!(answer, Err(PoolError::PageBytes { .. })), "{page_bytes}");
        }
        for bytes in [0, 1, 4097] {
            let answer = check(&[("a", bytes)], 4096);
            assert!(matches!(answer, Err(PoolError::BlockBytes { .. })), "{bytes}");
        }
        assert!(matches!(check(&[], 4096), Err(PoolError::BlockCount { .. })));
        let twice = check(&[("a", 4096), ("a", 4096)], 4096);
        assert!(matches!(twice, Err(PoolError::DuplicateBlock { .. })));
        let long = "x".repeat(255);
        let cut = ram_file_name(&test_requests(&[(&long, 4096)])[0].name);
        let same = check(&[(&long, 4096), (cut.strip_suffix(".ram").unwrap(), 4096)], 4096);
        assert!(
            matches!(same, Err(PoolError::SameFile { .. })),
            "the second took the first's file"
        );
        let half = 1 << 63;
        let sum = check(&[("a", half), ("b", half)], 4096);
        assert!(matches!(sum, Err(PoolError::TotalBytes)));
    }

    #[test]
    fn only_so_many_blocks_are_allowed() {
        let names: Vec<String> = (0..=RamBlocks::COUNT_MAX).map(|i| format!("b{i}")).collect();
        let sizes: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 4096)).collect();
        let requests = test_requests(&sizes);
        RamBlocks::check(&requests[1..], 4096).expect("4096 blocks");
        let answer = RamBlocks::check(&requests, 4096);
        assert!(matches!(answer, Err(PoolError::BlockCount { found: 4097, .. })));
        let blocks = test_blocks(&sizes[1..], 4096);
        assert_eq!(blocks.len(), 4096);
        assert_eq!(blocks.find(b"b4096"), Some(4095));
    }
}
