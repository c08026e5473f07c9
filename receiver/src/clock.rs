//! The one clock of a receiver.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)). Read through the vDSO:
/// about 25 ns, no system call.
#[inline]
pub fn now_ns() -> u64 {
    // CLOCK_MONOTONIC exists on every Linux, so the call cannot fail.
    ns_of(ClockId::CLOCK_MONOTONIC).unwrap_or(0)
}

/// CPU time that the thread behind `clock` has used, in nanoseconds; `None`
/// once the thread is gone.
pub fn ns_of(clock: ClockId) -> Option<u64> {
    let time = clock_gettime(clock).ok()?;
    Some(time.tv_sec().cast_unsigned() * NS_PER_S + time.tv_nsec().cast_unsigned())
}

/// A duration in nanoseconds; `u64::MAX` if it is longer (584 years).
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as seconds for a message, to the millisecond.
pub fn seconds(ns: u64) -> f64 {
    (ns / NS_PER_MS) as f64 / 1e3
}

/// Nanoseconds in a second.
pub const NS_PER_S: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;
