//! Everything that can go wrong with guest memory, each with what was found and what is allowed.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::{BlockName, ByteSize};

/// Why memory could not be had. The text says what was found, what is allowed, and, where one line
/// on the host repairs it, that line.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// More guest RAM than `--max-ram` (or its default) allows.
    #[error("guest RAM of {found} bytes ({}) is over --max-ram, {allowed} bytes ({})", ByteSize(*found), ByteSize(*allowed))]
    OverMaxRam {
        /// Bytes asked for.
        found: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The hugepages asked for by name are not free on this host.
    #[error("{size} hugepages: {free} of {needed} free; run: {line}")]
    HugepagesMissing {
        /// `1G` or `2M`.
        size: &'static str,
        /// Pages needed.
        needed: u64,
        /// Pages free and not reserved by others.
        free: u64,
        /// The line that makes them available.
        line: String,
    },
    /// The kernel has no pages of this size at all.
    #[error("{size} hugepages: this kernel has none ({directory} does not exist)")]
    HugepagesUnknown {
        /// `1G` or `2M`.
        size: &'static str,
        /// The directory that would describe them.
        directory: PathBuf,
    },
    /// The hugepages are free by the books, but the kernel would not hand them out.
    #[error("{size} hugepages: {doing} failed: {source}; {cause}")]
    HugepagesRefused {
        /// `1G` or `2M`.
        size: &'static str,
        /// The step that failed.
        doing: &'static str,
        /// What usually causes it.
        cause: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// Transparent hugepages are switched off.
    #[error("transparent hugepages are off ({found}); run: {line}")]
    ThpOff {
        /// What the kernel says.
        found: String,
        /// The line that switches them on.
        line: &'static str,
    },
    /// `--numa` names a node that has no memory, or none that this process's cpuset lets it have.
    #[error("node {node} has no memory for this process; nodes with memory: {found}")]
    NoSuchNode {
        /// The node asked for.
        node: u32,
        /// The nodes that have memory for it.
        found: String,
    },
    /// The nodes of `--numa` have too little memory left.
    #[error("nodes {nodes} have {} available, needed {}", ByteSize(*available), ByteSize(*needed))]
    NodesShort {
        /// The nodes asked for.
        nodes: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes available on them.
        available: u64,
    },
    /// The kernel refused a memory policy, or did not keep it.
    #[error("{call} for nodes {nodes} failed: {source}")]
    Policy {
        /// The system call.
        call: &'static str,
        /// The nodes.
        nodes: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// Address space could not be had.
    #[error("cannot map {} of guest RAM as {what}: {source}; this host has less, or vm.overcommit_memory=2, or a ulimit -v", ByteSize(*bytes))]
    Map {
        /// The kind of memory.
        what: &'static str,
        /// Bytes asked for.
        bytes: u64,
        /// The kernel's answer.
        source: Errno,
    },
    /// Prefaulting stopped before the host ran out of memory.
    #[error("prefault stopped after {}: {} more needed, {} available on this host", ByteSize(*done), ByteSize(*needed), ByteSize(*available))]
    OutOfMemory {
        /// Bytes prefaulted.
        done: u64,
        /// Bytes still needed.
        needed: u64,
        /// Bytes available when it stopped.
        available: u64,
    },
    /// The kernel could not provide a page.
    #[error("prefault failed after {} of {}: {source}; {cause}", ByteSize(*done), ByteSize(*total))]
    Prefault {
        /// Bytes prefaulted.
        done: u64,
        /// Bytes to prefault.
        total: u64,
        /// What usually causes it.
        cause: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The run directory's file system has too little room.
    #[error("no space in {}: {needed} bytes ({}) needed, {available} bytes ({}) available", directory.display(), ByteSize(*needed), ByteSize(*available))]
    NoSpace {
        /// The directory.
        directory: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        available: u64,
    },
    /// An explicit hugepage size with a run directory that does not have such pages.
    #[error("{} has pages of {}, not {wanted}; run: {line}", directory.display(), ByteSize(*found))]
    MemPathPages {
        /// The directory.
        directory: PathBuf,
        /// Its file system's page bytes.
        found: u64,
        /// `1G` or `2M`.
        wanted: &'static str,
        /// The line that mounts the right file system.
        line: String,
    },
    /// A file of a run directory could not be made or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The step that failed.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `--pool` and `--mem-path` exclude each other.
    #[error("a pool of {} and the run directory {} exclude each other", ByteSize(*pool_bytes), mem_path.display())]
    PoolWithMemPath {
        /// The pool asked for.
        pool_bytes: u64,
        /// The run directory asked for.
        mem_path: PathBuf,
    },
    /// Too many RAM blocks, or none.
    #[error("{found} RAM blocks, allowed are 1 to {limit}")]
    BlockCount {
        /// Blocks found.
        found: usize,
        /// Most blocks allowed.
        limit: usize,
    },
    /// A block's size is zero or no multiple of the page size.
    #[error("block {name} has {found} bytes, allowed are non-zero multiples of {page_bytes}")]
    BlockBytes {
        /// The block.
        name: BlockName,
        /// Its bytes.
        found: u64,
        /// The target page size.
        page_bytes: u32,
    },
    /// Two blocks have the same name.
    #[error("block {name} is announced twice")]
    DuplicateBlock {
        /// The name.
        name: BlockName,
    },
    /// Two blocks would have the same file in a run directory: the name of one is the cut name of the
    /// other.
    #[error("blocks {name} and {other} have the same file name")]
    SameFile {
        /// The second.
        name: BlockName,
        /// The first.
        other: BlockName,
    },
    /// The target page size is not one we handle.
    #[error("page size is {found}, allowed are powers of two from 4096 to 65536")]
    PageBytes {
        /// Bytes found.
        found: u32,
    },
    /// The sizes of all blocks do not fit 64 bits.
    #[error("the sizes of all RAM blocks add up to more than 64 bits hold")]
    TotalBytes,
    /// The blocks of an earlier run are still in use.
    #[error("the RAM blocks of an earlier run are still held")]
    StillLent,
}

impl PoolError {
    /// Whether the request itself is at fault (what the source announced, or the options), rather
    /// than this host's memory, space or settings.
    pub fn is_request_fault(&self) -> bool {
        matches!(
            self,
            Self::BlockCount { .. }
                | Self::BlockBytes { .. }
                | Self::DuplicateBlock { .. }
                | Self::SameFile { .. }
                | Self::PageBytes { .. }
                | Self::TotalBytes
                | Self::PoolWithMemPath { .. }
                | Self::StillLent
        )
    }
}

/// The kernel's answer in an `io::Error` that a system call made; `EIO` if none made it.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
