//! mapped-ram: guest RAM from the places that a file has for its pages.
//!
//! The main stream of such a file has no pages, only the list of RAM blocks,
//! and behind each entry where its bitmap and its pages stand
//! ([`crate::wire::MappedRamHeader`]). When the list is there, the readers
//! share the blocks' pages in chunks (`chunks`); each reads its chunk's piece
//! of the bitmap, plans reads of runs of set bits ([`plan`]), and has the kernel
//! read them straight into guest RAM, many at a time ([`ring`]). Clear bits are
//! zero pages: nothing is read for them, and memory that was never written is
//! not touched. So it is with set bits over holes, where there must be any (`holes`). Main's thread waits meanwhile, counts, and goes on behind the
//! pages.

mod chunks;
mod file;
mod holes;
pub mod load;
pub mod plan;
#[allow(unsafe_code, reason = "the kernel reads into guest RAM: docs/unsafe.md#file-ring")]
pub mod ring;

pub use file::SavedFile;
pub use load::{FileReads, Load, Loaded};
