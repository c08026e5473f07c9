//! A running source in numbers, readable from any thread.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::script::Stream;

/// Counters of one run. Each has one writer; readers see them a moment late.
#[derive(Debug)]
pub struct Progress {
    main_bytes: AtomicU64,
    channel_bytes: Box<[AtomicU64]>,
    round: AtomicU32,
    connected: AtomicU32,
}

impl Progress {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            main_bytes: AtomicU64::new(0),
            channel_bytes: (0..256).map(|_| AtomicU64::new(0)).collect(),
            round: AtomicU32::new(0),
            connected: AtomicU32::new(0),
        }
    }

    /// Bytes written to all streams, as far as the kernel took them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let channels: u64 = self.channel_bytes.iter().map(|bytes| bytes.load(Relaxed)).sum();
        self.main_bytes.load(Relaxed) + channels
    }

    /// Bytes written to one stream.
    #[must_use]
    pub fn stream_bytes(&self, stream: Stream) -> u64 {
        self.counter(stream).load(Relaxed)
    }

    /// The round of the guest that is being sent, from 0.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.round.load(Relaxed)
    }

    /// How many channels are connected.
    #[must_use]
    pub fn channels_connected(&self) -> u32 {
        self.connected.load(Relaxed)
    }

    pub(super) fn add_bytes(&self, stream: Stream, bytes: u64) {
        let counter = self.counter(stream);
        // One writer: the thread that owns the stream.
        counter.store(counter.load(Relaxed) + bytes, Relaxed);
    }

    pub(super) fn set_round(&self, round: u32) {
        self.round.store(round, Relaxed);
    }

    pub(super) fn add_connected(&self) {
        // Several threads connect channels.
        self.connected.fetch_add(1, Relaxed);
    }

    fn counter(&self, stream: Stream) -> &AtomicU64 {
        match stream {
            Stream::Main => &self.main_bytes,
            Stream::Channel(channel) => &self.channel_bytes[usize::from(channel)],
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
