//! As much of a QMP client as a comparison needs.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
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
    /// Its connection has failed.
    is_lost: bool,
}

impl Qmp {
    /// Connects as soon as `process` listens at `socket`, and has `set_up` give it orders. Where
    /// that fails since the process ends, the error is why it did.
    pub(super) fn start(
        socket: &Path,
        process: &mut Process,
        set_up: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<Self, String> {
        let mut qmp = Self::connect(socket, process)?;
        let negotiated = qmp.negotiate().and_then(|()| set_up(&mut qmp));
        negotiated.map_err(|reason| qmp.cause(process, reason))?;
        Ok(qmp)
    }

    /// Why something failed with `reason`: the end of the process, where its monitor is gone.
    pub(super) fn cause(&self, process: &mut Process, reason: String) -> String {
        if self.is_lost { process.end_or(reason) } else { reason }
    }

    fn connect(socket: &Path, process: &mut Process) -> Result<Self, String> {
        let stream = wait_for("monitor", START_LIMIT, || {
            if process.has_ended()? {
                return Err(format!("it has ended: {}", process.log()));
            }
            Ok(UnixStream::connect(socket).ok())
        })?;
        let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
        stream.set_read_timeout(Some(REPLY_LIMIT)).map_err(failed)?;
        let stream = BufReader::new(stream);
        Ok(Self { stream, events: VecDeque::new(), sent: Vec::new(), is_lost: false })
    }

    fn negotiate(&mut self) -> Result<(), String> {
        self.read()?; // the greeting
        self.command("qmp_capabilities", json!({})).map(drop)
    }

    /// Runs a command; returns what it returns.
    pub(super) fn command(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        let command = json!({ "execute": name, "arguments": arguments });
        let written = self.stream.get_mut().write_all(command.to_string().as_bytes());
        written.map_err(|error| self.lost(&format!("{name}: {error}")))?;
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
                None if self.speaker().has_spoken(PollTimeout::ZERO)? => self.read()?,
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

    /// Whom to wait for if it is to say something. What is left of earlier reads counts as said.
    pub(super) fn speaker(&self) -> Speaker<'_> {
        let stream = Speaker::of(&self.stream);
        Speaker { has_more: stream.has_more || !self.events.is_empty(), ..stream }
    }

    fn read(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(self.lost("the monitor has closed")),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}")),
            Err(error) => Err(self.lost(&format!("the monitor: {error}"))),
        }
    }

    fn lost(&mut self, reason: &str) -> String {
        self.is_lost = true;
        reason.to_owned()
    }
}

/// A monitor or a pipe that says something sooner or later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker<'a> {
    stream: BorrowedFd<'a>,
    /// Something was said that nobody has looked at.
    has_more: bool,
}

impl<'a> Speaker<'a> {
    pub(super) fn of<T: AsFd>(stream: &'a BufReader<T>) -> Self {
        Self { stream: stream.get_ref().as_fd(), has_more: !stream.buffer().is_empty() }
    }

    /// Whether it says something within `limit`.
    pub(super) fn has_spoken(self, limit: PollTimeout) -> Result<bool, String> {
        have_spoken(&[self], limit)
    }
}

/// Sleeps until one of them says something, at most for [`LOOK_UP_EVERY_MS`].
pub(super) fn sleep_until_told(speakers: &[Speaker<'_>]) -> Result<(), String> {
    have_spoken(speakers, PollTimeout::from(LOOK_UP_EVERY_MS)).map(drop)
}

fn have_spoken(speakers: &[Speaker<'_>], limit: PollTimeout) -> Result<bool, String> {
    if speakers.iter().any(|one| one.has_more) {
        return Ok(true);
    }
    let mut wanted: Vec<_> =
        speakers.iter().map(|one| PollFd::new(one.stream, PollFlags::POLLIN)).collect();
    match poll(&mut wanted, limit) {
        Ok(ready) => Ok(ready > 0),
        // Somebody wants us to look up, as a signal's handler does.
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// A process that ended says nothing any more. Looking whether it has costs that process nothing.
const LOOK_UP_EVERY_MS: u8 = 200;
/// A prefaulted pool takes its time.
const START_LIMIT: Duration = Duration::from_secs(120);
const REPLY_LIMIT: Duration = Duration::from_secs(60);
