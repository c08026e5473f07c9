//! What the kernel says of the memory of a block.

use std::fs;
use std::ops::Range;

use landfall_pagepool::RamBlock;

/// The mapping that a block begins in: `/proc/self/smaps`, proc(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Bytes of the mapping.
    pub(crate) bytes: u64,
    /// Of these, bytes that have their pages.
    pub(crate) present_bytes: u64,
    /// Of these, bytes in transparent hugepages.
    pub(crate) thp_bytes: u64,
    /// Bytes of the pages that it was mapped with.
    pub(crate) page_bytes: u64,
}

impl Mapped {
    /// Asks the kernel.
    pub(crate) fn of(block: &RamBlock) -> Self {
        let first = block.span(0, 1).expect("no block is empty").as_ptr().addr();
        let smaps = fs::read_to_string("/proc/self/smaps").expect("every Linux has it");
        let mut lines = smaps
            .lines()
            .skip_while(|line| !addresses(line).is_some_and(|range| range.contains(&first)))
            .skip(1)
            .take_while(|line| addresses(line).is_none())
            .peekable();
        assert!(lines.peek().is_some(), "a block is mapped");
        let lines: Vec<&str> = lines.collect();
        let bytes = |name| lines.iter().find_map(|line| field(line, name)).unwrap_or(0);
        Self {
            bytes: bytes("Size"),
            // Hugetlb pages are not among the resident ones.
            present_bytes: bytes("Rss") + bytes("Shared_Hugetlb") + bytes("Private_Hugetlb"),
            thp_bytes: bytes("AnonHugePages"),
            page_bytes: bytes("KernelPageSize"),
        }
    }
}

/// The addresses in a mapping's first line.
fn addresses(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

/// `Rss:    1234 kB` in bytes.
fn field(line: &str, name: &str) -> Option<u64> {
    let kib = line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?;
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}
