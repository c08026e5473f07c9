//! As much of a QMP client as a comparison needs.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::process::{Process, wait_for};

/// A monitor, negotiated.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    /// Events that came while a reply was waited for.
    events: VecDeque<Value>,
    /// Every command that was sent.
    sent: Vec<Value>,
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
        let stream = BufReader::new(stream);
        let mut qmp = Self { stream, events: VecDeque::new(), sent: Vec::new() };
        qmp.read()?; // the greeting
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; returns what it returns.
    pub(super) fn command(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let command = json!({ "execute": name, "arguments": arguments });
        let stream = self.stream.get_mut();
        stream
            .write_all(command.to_string().as_bytes())
            .map_err(|error| format!("{name}: {error}"))?;
        self.sent.push(command);
        loop {
            let mut reply = self.read()?;
            if let Some(error) = reply.get("error") {
                return Err(format!("{name}: {}", error["desc"]));
            }
            if reply.get("return").is_some() {
                return Ok(reply["return"].take());
            }
            self.events.push_back(reply);
        }
    }

    /// The next status that a MIGRATION event has told, if one has come. Asks for nothing.
    pub(super) fn next_status(&mut self) -> Result<Option<String>, String> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None if self.has_input(PollTimeout::ZERO)? => self.read()?,
                None => return Ok(None),
            };
            if event["event"] == "MIGRATION" {
                return Ok(event["data"]["status"].as_str().map(str::to_owned));
            }
        }
    }

    /// What was sent so far, queries left out.
    pub(super) fn orders(&self) -> Vec<Value> {
        let is_order = |command: &&Value| {
            command["execute"].as_str().is_some_and(|name| !name.contains("query-"))
        };
        self.sent.iter().filter(is_order).cloned().collect()
    }

    fn has_input(&self, limit: PollTimeout) -> Result<bool, String> {
        if !self.stream.buffer().is_empty() {
            return Ok(true);
        }
        let mut wanted = [PollFd::new(self.stream.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut wanted, limit).map(|ready| ready > 0).map_err(|error| error.to_string())
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

/// Sleeps until one of the monitors has something to say, at most for [`LOOK_UP_EVERY_MS`].
pub(super) fn sleep_until_told(monitors: &[&Qmp]) -> Result<(), String> {
    if monitors.iter().any(|one| !one.events.is_empty() || !one.stream.buffer().is_empty()) {
        return Ok(());
    }
    let mut wanted: Vec<_> = monitors
        .iter()
        .map(|one| PollFd::new(one.stream.get_ref().as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut wanted, PollTimeout::from(LOOK_UP_EVERY_MS))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// A process that ended says nothing any more. Looking whether it has costs that process nothing.
const LOOK_UP_EVERY_MS: u8 = 200;
/// A prefaulted pool takes its time.
const START_LIMIT: Duration = Duration::from_secs(120);
const REPLY_LIMIT: Duration = Duration::from_secs(60);
