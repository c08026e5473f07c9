//! What is left when a run has ended.

use std::sync::Arc;

use landfall_pagepool::RamBlocks;

use crate::error::RunError;
use crate::main_stream::DeviceState;
use crate::stats::{CpuUse, Latencies};

/// The end of a run: all of it is known before the terminal state is visible.
#[derive(Debug, Default)]
pub struct Ended {
    /// Why it failed; `None` if it completed.
    pub error: Option<RunError>,
    /// What arrived, whole if there is no error.
    pub received: Received,
    /// Of all readers.
    pub latencies: Latencies,
    /// CPU time of each reader.
    pub reader_cpu: Vec<CpuUse>,
    /// CPU time of the main thread during the run.
    pub main_cpu: CpuUse,
}

/// What arrived, beyond the counters.
#[derive(Debug, Default)]
pub struct Received {
    /// The RAM blocks, if the source got to telling them.
    pub ram: Option<Arc<RamBlocks>>,
    /// Device state, configuration and description; empty in a failed run.
    pub device_state: DeviceState,
    /// The source's machine type.
    pub machine: Option<Box<str>>,
    /// Sync points were marked by FLUSH (machine types from 8.1), not by EOS.
    pub modern_sync: bool,
    /// The source opened the return path.
    pub return_path: bool,
}
