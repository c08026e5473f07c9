//! Capabilities and parameters.

use landfall_qmp::{Arguments, QmpError};
use serde_json::Value;

use super::Monitor;
use super::destination::{Destination, State};
use crate::settings::IncomingPhase;
use crate::status::Status;

impl Monitor {
    pub(super) fn migrate_set_capabilities(&self, arguments: &Arguments) -> Result<(), QmpError> {
        let list = arguments.get("capabilities").expect("the table requires it");
        let mut state = self.destination.state();
        let phase = self.phase(&state);
        state.settings.set_capabilities(list, phase).map_err(QmpError::generic)?;
        state.channels.note(list);
        Ok(())
    }

    pub(super) fn migrate_set_parameters(&self, arguments: &Arguments) -> Result<(), QmpError> {
        let mut state = self.destination.state();
        state.settings.set_parameters(arguments).map_err(QmpError::generic)?;
        state.compression.note(arguments);
        Ok(())
    }

    /// How far the incoming migration is. A run that has ended leaves us as
    /// ready for the next as the start of the process did.
    fn phase(&self, state: &State) -> IncomingPhase {
        match self.current_status() {
            Status::Active => IncomingPhase::Active,
            Status::Setup => IncomingPhase::Listening,
            // A run takes its settings before its listener opens.
            _ if state.opening => IncomingPhase::Listening,
            Status::None | Status::Completed | Status::Failed => IncomingPhase::NotStarted,
        }
    }
}

impl Destination {
    pub(super) fn capabilities(&self) -> Value {
        self.state().settings.capabilities_json()
    }

    pub(super) fn parameters(&self) -> Value {
        self.state().settings.parameters_json()
    }
}
