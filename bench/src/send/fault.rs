//! What goes wrong on purpose.

use std::time::Duration;

use crate::script::Stream;

/// One thing that goes wrong in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The source dies once it has written this many bytes over all streams, even inside a header.
    Kill {
        /// Bytes on all streams together.
        after_bytes: u64,
    },
    /// The source dies before its step number `step`.
    KillAtStep {
        /// Steps before, from the first connection on.
        step: u64,
    },
    /// One stream ends while the others go on.
    Cut {
        /// Which stream.
        stream: Stream,
        /// The bytes on this stream before it happens.
        after_bytes: u64,
        /// How it ends.
        how: Cut,
    },
    /// A channel says nothing of a sync point.
    SkipSync {
        /// The channel.
        channel: u8,
        /// Which of its sync points, from 0.
        sync: u64,
    },
    /// A channel never connects.
    NeverConnect {
        /// The channel.
        channel: u8,
    },
    /// A channel connects late.
    LateConnect {
        /// The channel.
        channel: u8,
        /// How late.
        delay: Duration,
    },
    /// A channel claims an id that is not its own: another's, or one too large.
    WrongId {
        /// The channel.
        channel: u8,
        /// What it claims.
        id: u8,
    },
    /// A channel names another VM.
    WrongUuid {
        /// The channel.
        channel: u8,
        /// What it names.
        uuid: [u8; 16],
    },
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// In order: FIN.
    Close,
    /// By RST (TCP).
    Reset,
    /// It stays open and never says anything again.
    Silence,
    /// It goes on a little at a time.
    Slow {
        /// Bytes written at once.
        bytes: usize,
        /// The pause after each write.
        pause: Duration,
    },
}
