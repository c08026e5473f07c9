//! The end of a run: what is still on its way, and the answer to the source.

use super::super::settle;
use super::{GRACE_NS, GRACE_POLL_MS, Sink, Walk};
use crate::clock::now_ns;
use crate::error::RunError;
use crate::wire::Reply;

impl Walk<'_> {
    /// Device state may still be on its way on the channels when main is at its end.
    fn device_packets(&self) -> Result<(), RunError> {
        let sections = &self.received.device_state.sections;
        let announced = sections.iter().any(|section| section.idstr.ends_with("/vfio"));
        while settle::device_packets_move(self.run, announced, GRACE_NS) {
            settle::wait(self.run, GRACE_POLL_MS)?;
            self.check_time(true)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), RunError> {
        self.received.device_state = self.stream.take_device_state();
        self.device_packets()?;
        self.run.phases().device_state_done = Some(now_ns());
        self.rounds.check_end(self.run.sync(), self.run.main.normal.get())?;
        if let Some(file) = &self.file {
            file.check_unchanged()?;
        }
        self.received.machine = self.machine.take();
        self.received.modern_sync = self.rounds.is_modern();
        self.received.return_path = self.return_path.is_open();
        if !self.run.finish() {
            return settle::check(self.run);
        }
        // Only a destination that keeps what it received may take the guest.
        let shut = match self.plan.sink {
            Sink::Ram if !self.run.terms.device_packets.has_dropped() => SHUT_TAKEN,
            Sink::Ram | Sink::Discard => SHUT_REFUSED,
        };
        if let Err(error) = self.return_path.say(Reply::Shut(shut)) {
            tracing::warn!("{error}");
        }
        Ok(())
    }
}

/// SHUT: the destination has taken the guest.
const SHUT_TAKEN: u32 = 0;
/// SHUT: it has not; the source resumes it.
const SHUT_REFUSED: u32 = 1;
