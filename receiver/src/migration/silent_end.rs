//! The end of a stream without a description of its device state.
//!
//! Such a source (`suppress-vmdesc=on`, machine types up to 2.2) waits for the
//! answer on its return path after the EOF byte: it neither says nor closes
//! anything. Nothing but silence tells its end.

use crate::clock::{NS_PER_S, seconds};
use crate::main_stream::MainStream;
use crate::wire::Footers;

/// Judges silences, each once.
#[derive(Debug, Default)]
pub(super) struct SilentEnd {
    /// The byte of main at which the last one was.
    judged: Option<u64>,
}

impl SilentEnd {
    /// True if the silence at this byte has been found to be no end.
    pub(super) fn is_refused(&self, stream: &MainStream) -> bool {
        self.judged == Some(stream.position())
    }

    /// True if `stream`, for `silent_ns` without a byte, has ended.
    pub(super) fn is_here(&mut self, stream: &MainStream, silent_ns: u64) -> bool {
        let needed_ns = match stream.footers() {
            Footers::On => SILENCE_NS,
            Footers::Off | Footers::Unknown => SILENCE_WITHOUT_FOOTERS_NS,
        };
        let position = stream.position();
        if silent_ns < needed_ns || self.judged == Some(position) {
            return false;
        }
        self.judged = Some(position);
        let ends = stream.may_end_in_silence();
        if ends {
            tracing::warn!(
                "the end was told by {} s of silence: the stream has no description of the device \
                 state (suppress-vmdesc, or a machine type up to 2.2)",
                seconds(silent_ns)
            );
        }
        ends
    }
}

/// After the last section's footer and EOF.
const SILENCE_NS: u64 = 2 * NS_PER_S;
/// After a zero byte that may be EOF: nothing but the silence speaks for it.
const SILENCE_WITHOUT_FOOTERS_NS: u64 = 5 * NS_PER_S;
