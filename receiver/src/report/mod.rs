//! What is told about a run: to QMP, to files, to people.
//!
//! Everything here reads: [`query_migrate`] (QEMU's command in the shape that
//! harnesses know), [`query_receiver`] (everything else, `docs/schema/`),
//! [`summary`] (the few figures a person wants), [`files`] and
//! [`run_directory`] (what stays on disk), [`digest`] (a hash for each block).
//!
//! A query takes no lock that is held for longer than a copy of some numbers,
//! and reads the status before any counter: whoever sees a terminal status sees
//! final numbers.

mod channels;
mod compression;
pub mod digest;
mod environment;
pub mod files;
mod guest;
mod latencies;
mod memory;
mod meter;
mod pages;
mod phases;
mod query_migrate;
mod query_receiver;
pub mod run_directory;
mod snapshot;
mod summary;
#[cfg(test)]
mod tests;
mod threads;
mod totals;

pub use meter::{Meter, ProcessUse, Rates};
pub use query_migrate::{Figures, query_migrate};
pub use query_receiver::{SCHEMA_NAME, SCHEMA_VERSION, nothing_yet, query_receiver};
pub use summary::{ReaderLoad, Summary, summary};
pub use totals::{PageTotals, Totals, ZeroTotals};
