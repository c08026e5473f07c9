//! The end of the process.

use std::sync::Arc;

use landfall_qmp::Session;
use serde_json::json;

use super::Monitor;
use super::destination::Destination;
use crate::error::RunError;

/// Why the process ends (`qapi/run-state.json`, `ShutdownCause`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownCause {
    /// The command `quit`.
    HostQmpQuit,
    /// SIGINT, SIGTERM or SIGHUP.
    HostSignal,
}

impl ShutdownCause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::HostQmpQuit => "host-qmp-quit",
            Self::HostSignal => "host-signal",
        }
    }
}

impl Destination {
    /// Emits SHUTDOWN, once: false if that was done before. From now on no
    /// migrate-incoming is accepted and [`Endings::on_exit`] is not called.
    ///
    /// [`Endings::on_exit`]: super::Endings::on_exit
    pub fn announce_shutdown(&self, cause: ShutdownCause) -> bool {
        let mut state = self.state();
        let first = !std::mem::replace(&mut state.shutting_down, true);
        if first {
            self.emit("SHUTDOWN", Some(json!({"guest": false, "reason": cause.as_str()})));
        }
        first
    }
}

impl Monitor {
    /// SHUTDOWN, then the reply, then the end.
    pub(super) fn quit(&self, session: &mut Session<'_>) {
        if !self.destination.announce_shutdown(ShutdownCause::HostQmpQuit) {
            return;
        }
        let destination = Arc::clone(&self.destination);
        let receiver = Arc::clone(&self.receiver);
        session.after_reply(Box::new(move || {
            // Told, not waited for: we are on a thread of the monitor.
            if let Some(migration) = receiver.current().filter(|last| last.ended().is_none()) {
                migration.run.fail(RunError::stopped());
            }
            (destination.endings().on_quit)();
        }));
    }
}
