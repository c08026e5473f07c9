//! What one seed leaves for the next: guest memory, and buffers.

use landfall_pagepool::{Hugepages, MemoryConfig, Pool, PoolError};

use super::flow::Flow;

/// Guest memory and buffers that seeds use one after the other.
pub struct Memory {
    /// Where guest RAM comes from.
    pub(super) pool: Pool,
    /// Bits for a receiver that keeps them in the wrong place.
    pub(super) twin: Pool,
    flow: Flow,
}

impl Memory {
    /// Memory of its own, on ordinary pages. `cpu` is the one that clears it
    /// between runs.
    ///
    /// # Errors
    /// Memory that cannot be had.
    pub fn new(cpu: usize) -> Result<Self, PoolError> {
        let pool = |pool_bytes| {
            let config = MemoryConfig {
                pool_bytes,
                hugepages: Hugepages::Off,
                prefault_cpus: vec![cpu],
                ..MemoryConfig::default()
            };
            Pool::open(&config, &|_, _| {})
        };
        Ok(Self { pool: pool(POOL_BYTES)?, twin: pool(0)?, flow: Flow::default() })
    }

    pub(super) fn take_flow(&mut self) -> Flow {
        std::mem::take(&mut self.flow)
    }

    pub(super) fn give_flow(&mut self, flow: Flow) {
        self.flow = flow;
    }
}

/// More than any scenario's guest has.
const POOL_BYTES: u64 = 8 << 20;
