//! What is counted while a run goes on, and what is told about it.

mod counters;
mod latency;
mod round;

pub use latency::Latencies;
pub use round::{CpuUse, Round};
pub use counters::{
    BlockCounters, ChannelCounters, ChannelPhase, Counter, MainCounters, ReaderCounters,
};
