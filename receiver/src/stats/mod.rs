//! What is counted while a run goes on, and what is told about it.

#[cfg(test)]
mod copies;
mod counters;
mod latency;
mod round;

pub use counters::{
    BlockCounters, ChannelCounters, ChannelPhase, Counter, MainCounters, ReaderCounters,
};
pub use latency::Latencies;
pub use round::{CpuUse, Round};
