//! Guest RAM for one input: real blocks, and their model beside them.

use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};

use super::model::Model;
use crate::stats::BlockCounters;

/// Names and pages of the blocks that every input finds.
pub(super) const BLOCKS: [(&str, usize); 3] = [("mem", 12), ("a", 1), ("0000:00:02.0/vga.vram", 5)];

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// Zeroed memory for [`BLOCKS`], and what counts in it.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) ram: RamBlocks,
    pub(super) counters: Vec<BlockCounters>,
}

impl Memory {
    /// Fresh memory. Its address space is mapped anew and touched only where
    /// pages land, which is far cheaper than a pool that is cleared.
    pub(super) fn new() -> Self {
        thread_local! {
            static POOL: Pool = {
                let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
                Pool::open(&config, &|_, _| {}).expect("a pool without memory")
            };
        }
        let requests = BLOCKS.map(|(name, pages)| BlockRequest {
            name: BlockName::parse(name.as_bytes()).expect("a name"),
            bytes: (pages * PAGE) as u64,
        });
        let ram = POOL.with(|pool| pool.sketch(&requests, PAGE as u32).expect("address space"));
        let counters = BLOCKS.iter().map(|_| BlockCounters::default()).collect();
        Self { ram, counters }
    }

    /// Everything that can be seen of the memory is as the model has it.
    pub(super) fn check(&self, model: &Model) {
        for ((block, counters), expected) in self.ram.iter().zip(&self.counters).zip(model.blocks())
        {
            let name = block.name();
            let counted = [
                ("unique", counters.unique.get(), expected.unique()),
                ("normal", counters.normal.get(), expected.normal),
                ("zero", counters.zero.get(), expected.zero),
                ("zero_written", counters.zero_written.get(), expected.zero_written),
                ("zero_sent_full", counters.zero_sent_full.get(), expected.zero_sent_full),
                ("received", block.received_count(), expected.unique()),
            ];
            for (what, found, expected) in counted {
                assert_eq!(found, expected, "{what} of {name}");
            }
            let mut found = [0; PAGE];
            for (page, content) in expected.pages() {
                let at = page as u64;
                block.read((page * PAGE) as u64, &mut found);
                assert!(found[..] == *content, "content of page {page} of {name}");
                assert_eq!(block.is_received(at), expected.has_come(page), "page {page} of {name}");
                let differs = *content != [0; PAGE];
                assert!(!differs || block.is_written(at), "page {page} of {name} not lent");
                assert_eq!(block.is_zero(at), !differs, "page {page} of {name} is zero");
            }
        }
    }
}
