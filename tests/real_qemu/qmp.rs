//! A QMP client, as small as the tests need it.

use std::io::{BufRead, BufReader, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use crate::process::{Process, wait_until};

/// A negotiated session on a unix socket.
pub(crate) struct Qmp {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    events: Vec<Value>,
    greeting: Value,
}

impl Qmp {
    /// Connects as soon as `process` listens at `path`, and negotiates. A
    /// process that has ended will never listen.
    pub(crate) fn connect(path: &Path, process: &mut Process) -> Result<Self, String> {
        let stream = wait_until("QMP socket", ANSWER_LIMIT, || match process.ended() {
            Some(status) => Err(format!("it ended with {status}")),
            None => Ok(UnixStream::connect(path).ok()),
        })?;
        let failed = |error| format!("QMP: {error}");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(failed)?;
        let lines = BufReader::new(stream.try_clone().map_err(failed)?);
        let mut session = Self { stream, lines, events: Vec::new(), greeting: Value::Null };
        session.greeting = session.read()?;
        if session.greeting.pointer("/QMP/version/qemu/major").is_none() {
            return Err(format!("QMP: {} is no greeting", session.greeting));
        }
        session.command("qmp_capabilities", json!({}))?;
        Ok(session)
    }

    /// What it was greeted with.
    pub(crate) fn greeting(&self) -> &Value {
        &self.greeting
    }

    /// Runs a command; an error answer is an error. Events that come meanwhile
    /// are kept.
    pub(crate) fn command(&mut self, name: &str, arguments: Value) -> Result<Value, String> {
        self.command_with(name, arguments, &[])
    }

    /// Runs a command with descriptors that it is to have (SCM_RIGHTS), as
    /// `getfd` and `add-fd` need.
    pub(crate) fn command_with(
        &mut self,
        name: &str,
        arguments: Value,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Value, String> {
        let request = json!({ "execute": name, "arguments": arguments });
        let mut answer = self.ask(&request, descriptors)?;
        if let Some(error) = answer.get("error") {
            return Err(format!("QMP {request}: {error}"));
        }
        Ok(answer["return"].take())
    }

    /// What is answered to `request`, error or not.
    pub(crate) fn ask(
        &mut self,
        request: &Value,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Value, String> {
        let failed = |error: String| format!("{error} (after {request})");
        // In one piece: after `quit` nobody reads a line's end that comes later.
        let line = format!("{request}\n");
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let bytes = [IoSlice::new(line.as_bytes())];
        let sent =
            sendmsg::<()>(self.stream.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None);
        match sent {
            Ok(sent) if sent == line.len() => {}
            Ok(sent) => return Err(failed(format!("QMP: only {sent} bytes were sent"))),
            Err(error) => return Err(failed(format!("QMP: {error}"))),
        }
        loop {
            let answer = self.read().map_err(failed)?;
            if answer.get("event").is_none() {
                return Ok(answer);
            }
            self.events.push(answer);
        }
    }

    /// The events, as soon as there are `count` of them: one may come a moment
    /// after the state that it tells of. After some seconds what there is.
    pub(crate) fn wait_for_events(&mut self, count: usize) -> Result<Vec<String>, String> {
        let start = Instant::now();
        while self.events.len() < count && start.elapsed() < EVENTS_LIMIT {
            self.command("query-status", json!({}))?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(self.events())
    }

    /// The events up to one of this name, as soon as it is the last; they are
    /// forgotten. After some seconds what there is.
    pub(crate) fn take_events(&mut self, last: &str) -> Result<Vec<String>, String> {
        let start = Instant::now();
        while self.events().last().is_none_or(|name| name != last) && start.elapsed() < EVENTS_LIMIT
        {
            self.command("query-status", json!({}))?;
            thread::sleep(Duration::from_millis(5));
        }
        let events = self.events();
        self.events.clear();
        Ok(events)
    }

    /// The `data` member `status` of every MIGRATION event so far, and the names
    /// of all other events, in their order.
    fn events(&self) -> Vec<String> {
        self.events
            .iter()
            .map(|event| match event.pointer("/data/status") {
                Some(status) if event["event"] == "MIGRATION" => {
                    status.as_str().unwrap_or("?").to_owned()
                }
                _ => event["event"].as_str().unwrap_or("?").to_owned(),
            })
            .collect()
    }

    /// Switches capabilities on.
    pub(crate) fn enable(&mut self, capabilities: &[&str]) -> Result<(), String> {
        let list: Vec<Value> =
            capabilities.iter().map(|name| json!({ "capability": name, "state": true })).collect();
        self.command("migrate-set-capabilities", json!({ "capabilities": list })).map(drop)
    }

    fn read(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => Err("QMP: the connection was closed".to_owned()),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("QMP: {error} in {line}")),
            Err(error) => Err(format!("QMP: {error}")),
        }
    }
}

/// Longest wait for events that are due.
const EVENTS_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for one answer: QEMU answers at once, unless the machine is busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
