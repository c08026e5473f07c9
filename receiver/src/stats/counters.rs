//! Numbers that one thread writes and anybody reads.
//!
//! Each group stands on cache lines of its own and has one writer, so adding is
//! a plain load and store; a reader sums the groups. Nothing here is shared
//! between writers: that is the received bitmap's part.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the one writer may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Replaces the value. Only the one writer may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value as of now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What arrived on one multifd channel; its reader writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ChannelCounters {
    /// Bytes read from the socket, the 64 of Init included.
    pub wire_bytes: Counter,
    /// Packets whose header was taken, SYNC packets included.
    pub packets: Counter,
    /// SYNC packets taken.
    pub syncs: Counter,
    /// Pages that arrived with their data.
    pub normal: Counter,
    /// Pages that were said to be zero.
    pub zero: Counter,
    /// Packets with a device's state.
    pub device_packets: Counter,
    /// Bytes of device state, without headers.
    pub device_bytes: Counter,
    /// Nanoseconds decoding payloads.
    pub decode_ns: Counter,
    /// Nanoseconds opening records of TLS.
    pub decrypt_ns: Counter,
    /// Nanoseconds from a packet's header to its last page.
    pub pages_ns: Counter,
    /// Nanoseconds between packets, waiting for a header.
    pub header_ns: Counter,
    /// Nanoseconds held at sync points.
    pub sync_wait_ns: Counter,
    /// When something last came, `CLOCK_MONOTONIC` nanoseconds.
    pub last_activity_ns: Counter,
    /// Where the channel is: a [`ChannelPhase`] as a number, for the watchdog.
    pub phase: Counter,
}

/// Where a channel is, as its watchdog sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPhase {
    /// Between packets; silence is legal.
    Boundary,
    /// Inside a header or its pages; silence is a stall.
    Inside,
    /// Held at a sync point.
    Held,
    /// Closed by the source at a packet boundary.
    Ended,
}

impl ChannelPhase {
    /// The number stored in [`ChannelCounters::phase`].
    pub const fn to_number(self) -> u64 {
        match self {
            Self::Boundary => 0,
            Self::Inside => 1,
            Self::Held => 2,
            Self::Ended => 3,
        }
    }

    /// The phase behind a stored number.
    pub const fn of_number(number: u64) -> Self {
        match number {
            0 => Self::Boundary,
            1 => Self::Inside,
            2 => Self::Held,
            _ => Self::Ended,
        }
    }
}

/// What one thread put into one RAM block.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct BlockCounters {
    /// Pages that arrived with their data.
    pub normal: Counter,
    /// Pages that were said to be zero.
    pub zero: Counter,
    /// Pages that had not been received before in this run.
    pub unique: Counter,
    /// Zero pages for which memory had to be cleared.
    pub zero_written: Counter,
    /// Pages that came with their data although all of it was zero.
    pub zero_sent_full: Counter,
}

/// What one reader thread did.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ReaderCounters {
    /// Wall time inside `io_uring_enter`, nanoseconds.
    pub enter_ns: Counter,
    /// Wall time outside of it: placing and counting, nanoseconds.
    pub placing_ns: Counter,
    /// Calls of `io_uring_enter`.
    pub enters: Counter,
    /// Completions taken.
    pub completions: Counter,
}

/// What came on the main stream; the main thread writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct MainCounters {
    /// Bytes read from the socket.
    pub wire_bytes: Counter,
    /// Bytes of device state among them, headers and description included.
    pub device_state_bytes: Counter,
    /// Pages that arrived with their data on main.
    pub normal: Counter,
    /// Pages among `normal` that were decoded from XBZRLE.
    pub xbzrle: Counter,
    /// Zero pages announced on main.
    pub zero: Counter,
    /// Sync points passed.
    pub sync_points: Counter,
    /// Nanoseconds waiting for bytes.
    pub socket_wait_ns: Counter,
    /// Nanoseconds waiting for channels at sync points.
    pub sync_wait_ns: Counter,
    /// When bytes last came, `CLOCK_MONOTONIC` nanoseconds.
    pub last_activity_ns: Counter,
    /// What was copied of full pages.
    #[cfg(test)]
    pub copies: super::copies::Copies,
}
