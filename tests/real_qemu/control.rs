//! The control: the same cases into a QEMU of the source's own version. What
//! fails here is no fault of landfall's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::case::Case;
use crate::destination::configure;
use crate::machine::{self, MemoryFile};
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;

/// A QEMU that waits for the migration, stopped.
pub(crate) struct ControlDestination {
    process: Process,
    qmp: Qmp,
    memory: Vec<MemoryFile>,
    uri: String,
}

impl ControlDestination {
    /// Starts the QEMU at `program` as the same machine; it listens on a unix
    /// socket, whatever the case's transport is.
    pub(crate) fn start(case: &Case, program: &Path, scratch: &Path) -> Result<Self, String> {
        let memory = machine::empty_memory(case, scratch)?;
        let socket = scratch.join("control.qmp");
        let mut arguments = machine::arguments(case, &memory, &scratch.join("guest.img"));
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        arguments.extend(["-incoming", "defer", "-qmp", &monitor].map(str::to_owned));
        let mut process = Process::start(program, arguments, scratch.join("control.log"))?;
        let mut qmp = Qmp::connect(&socket, &mut process)?;
        configure(&mut qmp, case)?;
        let uri = format!("unix:{}", scratch.join("control.sock").display());
        qmp.command("migrate-incoming", json!({ "uri": uri }))?;
        Ok(Self { process, qmp, memory, uri })
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Puts what the QEMU printed behind an error.
    pub(crate) fn blame(&self, error: &str) -> String {
        format!("{error}; control: {}", self.process.log())
    }

    /// Waits for the load to be over; returns the file of each named block.
    pub(crate) fn finish(mut self) -> Result<impl Fn(&str) -> Option<PathBuf>, String> {
        wait_until("completed control", Duration::from_secs(30), || {
            let answer = self.qmp.command("query-migrate", json!({}));
            let answer = answer.map_err(|error| format!("{error}; {}", self.process.log()))?;
            Ok((answer["status"] == "completed").then_some(()))
        })?;
        let memory = self.memory;
        Ok(move |block: &str| {
            memory.iter().find(|file| file.is_below(block)).map(|file| file.path.clone())
        })
    }
}
