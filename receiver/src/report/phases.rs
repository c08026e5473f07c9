//! `phases`: when a run passed its milestones.

use serde_json::{Value, json};

use crate::phases::Phases;
use crate::status::Status;

/// Milestones in nanoseconds since the listener opened, and the spans of the
/// pause that are the destination's.
pub(super) fn phases(phases: &Phases, status: Status) -> Value {
    let since = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
    let at = |milestone: Option<u64>| since(phases.listen, milestone);
    let ended = |wanted: Status| at(phases.completed).filter(|_| status == wanted);
    json!({
        "listen-monotonic-ns": phases.listen,
        "main-came-ns": at(phases.main_came),
        "ram-mapped-ns": at(phases.ram_mapped),
        "connected-ns": at(phases.connected),
        "first-byte-ns": at(phases.first_byte),
        "switchover-start-ns": at(phases.switchover_start),
        "ram-done-ns": at(phases.ram_done),
        "device-state-done-ns": at(phases.device_state_done),
        "completed-ns": ended(Status::Completed),
        "failed-ns": ended(Status::Failed),
        "switchover-to-ram-done-ns": since(phases.switchover_start, phases.ram_done),
        "switchover-to-loaded-ns": switchover_to_loaded_ns(phases, status),
    })
}

/// From the source's stopping the guest to everything being loaded; only of a
/// completed run. The destination's share of the pause; the whole of it, the
/// downtime, only the source knows.
pub(super) fn switchover_to_loaded_ns(phases: &Phases, status: Status) -> Option<u64> {
    let loaded = phases.completed.filter(|_| status == Status::Completed)?;
    Some(loaded.saturating_sub(phases.switchover_start?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_count_from_listening_and_those_not_passed_are_null() {
        let failed = Phases {
            listen: Some(1000),
            connected: Some(1500),
            switchover_start: Some(1900),
            completed: Some(2500),
            ..Phases::default()
        };
        let value = phases(&failed, Status::Failed);
        assert_eq!(value["connected-ns"], 500);
        assert_eq!(value["failed-ns"], 1500);
        for absent in ["ram-done-ns", "completed-ns", "switchover-to-ram-done-ns"] {
            assert!(value[absent].is_null(), "{absent}");
        }
        assert!(value["switchover-to-loaded-ns"].is_null(), "nothing was loaded");
        assert_eq!(phases(&failed, Status::Completed)["switchover-to-loaded-ns"], 600);
    }
}
