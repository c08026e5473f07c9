//! The guest's run state, `cont` and `stop`.
//!
//! There is no guest to run: RAM and device state are kept, nothing executes
//! them. What is told is what a QEMU started with `-S` tells. `inmigrate` until
//! a run has completed, also after a failed one; then `paused`, without RESUME.
//!
//! `cont` is always accepted, for harnesses send it and wait for its effect
//! (guestperf sends it when the source says completed, perhaps before we do):
//! after completion it makes the state `running`, with RESUME; during
//! `inmigrate` the same happens at completion, so that it does not matter which
//! of the two came first. `stop` undoes it, with STOP if the state was
//! `running`.

use serde_json::{Value, json};

use super::Monitor;
use crate::receiver::Migration;
use crate::settings::QemuVersion;
use crate::status::Status;

impl Monitor {
    pub(super) fn query_status(&self) -> Value {
        let state = self.destination.state();
        let run_state = state.guest.run_state(self.is_received());
        let running = run_state == RunState::Running;
        if self.destination.version() == QemuVersion::V7_2 {
            json!({"status": run_state.as_str(), "singlestep": false, "running": running})
        } else {
            json!({"status": run_state.as_str(), "running": running})
        }
    }

    pub(super) fn cont(&self) {
        let mut state = self.destination.state();
        if state.guest.cont(self.is_received()) {
            self.destination.emit("RESUME", None);
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.destination.state();
        if state.guest.stop(self.is_received()) {
            self.destination.emit("STOP", None);
        }
    }

    /// Looked at with the state locked: [`Guest::completed`] is called, with it
    /// locked too, after the status has changed, and so sees what was wanted
    /// before.
    fn is_received(&self) -> bool {
        self.current_status() == Status::Completed
    }
}

/// `RunState` (`qapi/run-state.json`), as far as we get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    InMigrate,
    Paused,
    Running,
}

impl RunState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InMigrate => "inmigrate",
            Self::Paused => "paused",
            Self::Running => "running",
        }
    }
}

/// What the operator wants of the guest. `received` tells that the last run has
/// completed and no other begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guest {
    /// `cont` came while there was nothing to continue.
    autostart: bool,
    running: bool,
}

impl Guest {
    pub(super) fn run_state(self, received: bool) -> RunState {
        match (received, self.running) {
            (false, _) => RunState::InMigrate,
            (true, false) => RunState::Paused,
            (true, true) => RunState::Running,
        }
    }

    /// True if it runs from now on, and did not before.
    #[must_use]
    pub(super) fn cont(&mut self, received: bool) -> bool {
        if received {
            !std::mem::replace(&mut self.running, true)
        } else {
            self.autostart = true;
            false
        }
    }

    /// True if it no longer runs, and did before.
    #[must_use]
    pub(super) fn stop(&mut self, received: bool) -> bool {
        if received {
            std::mem::replace(&mut self.running, false)
        } else {
            self.autostart = false;
            false
        }
    }

    /// A run has begun to listen.
    pub(super) fn begun(&mut self) {
        self.running = false;
    }

    /// A run has completed; `source_ran` tells that the guest ran at the source.
    /// True if it runs from now on.
    #[must_use]
    pub(super) fn completed(&mut self, source_ran: bool) -> bool {
        // A wish is good for one run. One that came since the status changed
        // has made it running already, and said so.
        let starts = std::mem::take(&mut self.autostart) && source_ran && !self.running;
        self.running |= starts;
        starts
    }

    /// A run has failed.
    pub(super) fn failed(&mut self) {
        self.autostart = false;
    }
}

/// Whether the guest ran at the source when it was stopped for the switchover
/// (`runstate_is_live`); a stream that does not say comes from a QEMU that takes
/// it for granted.
pub(super) fn source_ran(migration: &Migration) -> bool {
    let ended = migration.ended();
    let run_state = ended.and_then(|ended| ended.received.device_state.run_state.as_deref());
    run_state.is_none_or(|name| ["running", "suspended"].contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_received_guest_is_paused_and_nothing_was_resumed() {
        let mut guest = Guest::default();
        guest.begun();
        assert_eq!(guest.run_state(false), RunState::InMigrate);
        assert!(!guest.completed(true));
        assert_eq!(guest.run_state(true), RunState::Paused);
    }

    #[test]
    fn cont_before_and_after_completion_come_to_the_same() {
        let mut early = Guest::default();
        early.begun();
        assert!(!early.cont(false));
        assert!(early.completed(true));
        let mut late = Guest::default();
        late.begun();
        assert!(!late.completed(true));
        assert!(late.cont(true));
        let mut between = Guest::default();
        between.begun();
        assert!(between.cont(true), "the status has changed, completed() comes yet");
        assert!(!between.completed(true), "one RESUME is enough");
        for mut guest in [early, late, between] {
            assert_eq!(guest.run_state(true), RunState::Running);
            assert!(!guest.cont(true), "running already");
            assert!(guest.stop(true));
            assert!(!guest.stop(true), "stopped already");
            assert_eq!(guest.run_state(true), RunState::Paused);
        }
    }

    #[test]
    fn stop_takes_an_early_cont_back() {
        let mut guest = Guest::default();
        assert!(!guest.cont(false));
        assert!(!guest.stop(false));
        assert!(!guest.completed(true));
        assert_eq!(guest.run_state(true), RunState::Paused);
    }

    #[test]
    fn a_guest_paused_at_the_source_stays_paused() {
        let mut guest = Guest::default();
        assert!(!guest.cont(false));
        assert!(!guest.completed(false));
        assert_eq!(guest.run_state(true), RunState::Paused);
        assert!(guest.cont(true), "but it may be continued");
    }

    #[test]
    fn what_was_wanted_of_one_run_does_not_reach_the_next() {
        let mut guest = Guest::default();
        assert!(!guest.cont(false));
        guest.failed();
        guest.begun();
        assert!(!guest.completed(true));
        assert!(guest.cont(true));
        guest.begun();
        assert_eq!(guest.run_state(false), RunState::InMigrate);
        assert!(!guest.completed(true));
        assert_eq!(guest.run_state(true), RunState::Paused);
    }
}
