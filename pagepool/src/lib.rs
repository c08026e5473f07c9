//! Guest RAM of landfall: the pool, the RAM blocks carved from it, their bitmaps, the zero kernels.
//!
//! [`Pool::open`] maps and prefaults memory before anybody connects, [`Pool::carve`] cuts the RAM
//! blocks a source announces from it, [`RamBlock`] is what the page path works on, and
//! [`Pool::reclaim`] makes the memory zero again for the next run.
//!
//! Three rules hold everywhere in this crate:
//!
//! - **No Rust reference into guest RAM.** A [`Span`] is a pointer with a proof of its range; the
//!   kernel and other threads may change what it points at, at any time.
//! - **Written before lent.** A page's `written` bit is set before its memory is handed to anybody
//!   who may write it. A page without that bit is zero, and nobody has to look.
//! - **Nothing on the page path allocates, locks or makes a system call**:
//!   [`RamBlock::span`], [`RamBlock::lend`], [`RamBlock::mark_received`],
//!   [`RamBlock::announce_zero`], [`RamBlock::is_zero`].
//!
//! Reading order: `config` (what is asked for), `pool` (the life of the memory), `block` (the page
//! path), then downwards: `region`, `ladder`, `mapping`, `prefault`, and `zero` beside them.

/// Guest RAM is addressed by `usize`, its sizes are `u64`.
const _: () = assert!(usize::BITS == 64);

mod available;
mod bitmap;
mod block;
mod block_name;
mod blocks;
mod byte_size;
mod carve;
mod config;
mod crew;
mod dump;
mod error;
mod faults;
mod host;
mod hugepages;
mod ladder;
mod mapping;
#[allow(
    unsafe_code,
    reason = "mbind and get_mempolicy have no safe wrapper: docs/unsafe.md#mempolicy"
)]
mod mempolicy;
mod nodes;
mod placement;
mod pool;
mod prefault;
mod ram_file;
mod reclaim;
mod region;
mod report;
#[cfg(test)]
mod requirement;
mod run_directory;
#[allow(unsafe_code, reason = "guest RAM is raw memory: docs/unsafe.md#span")]
mod span;
#[allow(unsafe_code, reason = "streaming stores take raw memory: docs/unsafe.md#streaming")]
mod streaming;
#[allow(unsafe_code, reason = "atomic words live in a lazily zero mapping: docs/unsafe.md#words")]
mod words;
mod zero;

pub use block::{RamBlock, ZeroOutcome};
pub use block_name::{BlockName, BlockNameError};
pub use blocks::{BlockRequest, RamBlocks};
pub use byte_size::ByteSize;
pub use config::{Backend, Hugepages, MemoryConfig, Numa, UnknownMemoryOption};
pub use dump::{Dumped, dump_block};
pub use error::PoolError;
pub use faults::PageFaults;
pub use pool::Pool;
pub use ram_file::ram_file_name;
pub use reclaim::Reclaimed;
pub use report::{MemoryReport, RegionReport};
pub use run_directory::RUN_JSON;
pub use span::Span;
pub use zero::{KernelTiming, ZeroKernel};
