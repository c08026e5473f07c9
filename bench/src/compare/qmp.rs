//! As much of a QMP client as a comparison needs.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::process::{Process, wait_for};

/// A monitor, negotiated.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects as soon as `process` listens at `socket`.
    pub(super) fn connect(socket: &Path, process: &mut Process) -> Result<Self, String> {
        let stream = wait_for("monitor", START_LIMIT, || {
            if process.has_ended()? {
                return Err(format!("it has ended: {}", process.log()));
            }
            Ok(UnixStream::connect(socket).ok())
        })?;
        let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
        stream.set_read_timeout(Some(REPLY_LIMIT)).map_err(failed)?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        qmp.read()?; // the greeting
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; returns what it returns.
    pub(super) fn command(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let text = json!({ "execute": name, "arguments": arguments }).to_string();
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
        loop {
            let mut reply = self.read()?;
            if let Some(error) = reply.get("error") {
                return Err(format!("{name}: {}", error["desc"]));
            }
            if reply.get("return").is_some() {
                return Ok(reply["return"].take());
            }
        }
    }

    fn read(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("the monitor has closed".to_owned()),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}")),
            Err(error) => Err(format!("the monitor: {error}")),
        }
    }
}

/// A prefaulted pool takes its time.
const START_LIMIT: Duration = Duration::from_secs(120);
const REPLY_LIMIT: Duration = Duration::from_secs(60);
