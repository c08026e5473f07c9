//! What main waits for, and how long.

use std::ops::ControlFlow;

use super::super::input::Filled;
use super::super::rounds::check_close;
use super::super::settle;
use super::{GRACE_NS, GRACE_POLL_MS, TICK_MS, Walk};
use crate::clock::{NS_PER_S, now_ns, seconds};
use crate::error::{Family, RunError};
use crate::main_stream::{Certainty, End};

impl Walk<'_> {
    /// Waits for more of the stream; breaks where it ends.
    pub(super) fn fill(&mut self, at_boundary: bool) -> Result<ControlFlow<()>, RunError> {
        match self.input.fill(&self.run.main, self.run.main_wake(), TICK_MS)? {
            // What is always there, like a file, must not keep main from hearing of the end.
            Filled::Some => settle::check(self.run)?,
            Filled::Nothing => {
                settle::check(self.run)?;
                let silent_ns = self.silent_ns(now_ns());
                // Without the return path the source closes, and that is its end.
                let answers = self.return_path.is_open();
                if answers && self.silent_end.is_here(&self.stream, silent_ns) {
                    return Ok(ControlFlow::Break(()));
                }
                // The device state has no place to rest but its end.
                let may_rest = !self.stream.in_device_state()
                    || (answers && !self.silent_end.is_refused(&self.stream));
                if !(at_boundary && may_rest) {
                    self.check_stall()?;
                }
            }
            Filled::End => {
                let end = check_close(&self.stream, self.return_path.is_open())
                    .map_err(|error| self.unfinished(error))?;
                if end == End::WithoutDescription {
                    tracing::warn!("the stream has no description of the device state (vmdesc)");
                }
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds to the error of a stream that was cut what its file shows of why.
    fn unfinished(&self, mut error: RunError) -> RunError {
        let is_cut = self.stream.end_of_input().is_err_and(|error| error.is_truncated());
        if is_cut && self.bitmaps_are_empty {
            // migration/ram.c, ram_save_file_bmap: the last thing of RAM.
            error.text.push_str(" (all its bitmaps are empty: QEMU writes them when RAM is whole)");
        }
        error
    }

    /// After the last byte there must be silence.
    pub(super) fn is_the_end(&mut self, certainty: Certainty) -> Result<bool, RunError> {
        if certainty == Certainty::NeedsGrace {
            let until = now_ns() + GRACE_NS;
            while self.input.is_dry(&self.run.main)? && now_ns() < until {
                settle::wait(self.run, GRACE_POLL_MS)?;
            }
        }
        self.input.is_dry(&self.run.main)
    }

    /// How long nothing has come that main waits for.
    fn silent_ns(&self, now: u64) -> u64 {
        let came_ns = self.run.main.last_activity_ns.get();
        now.saturating_sub(came_ns.max(self.run.main_turned_ns.get()))
    }

    /// To be asked where the stream may not rest.
    pub(super) fn check_stall(&self) -> Result<(), RunError> {
        let silent_ns = self.silent_ns(now_ns());
        // In the device state the parser knows what is missing. If a description has come that
        // fits nothing, the source waits for its answer, and its guest stands still.
        let answers = self.return_path.is_open();
        let patience_ns = if answers { UNFIT_NS } else { self.plan.stall_ns };
        if self.stream.in_device_state()
            && silent_ns > patience_ns.min(self.plan.stall_ns)
            && let Err(error) = self.stream.end_of_input()
            && !error.is_truncated()
        {
            return Err(error.into());
        }
        if silent_ns > self.plan.stall_ns {
            let text = format!(
                "main stream, byte {}: nothing came for {} s inside a record (--stall-timeout {})",
                self.run.main.wire_bytes.get(),
                seconds(silent_ns),
                seconds(self.plan.stall_ns)
            );
            return Err(RunError::new(Family::Misbehaved, text));
        }
        Ok(())
    }
}

/// Silence behind a description that does not fit the state before it: it was the end.
const UNFIT_NS: u64 = 5 * NS_PER_S;
