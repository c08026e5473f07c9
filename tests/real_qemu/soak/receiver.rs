//! The one receiver: listens again and again, and is never restarted.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::vitals::Vitals;
use crate::case::Transport;
use crate::destination::{Address, is_listening};
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;

/// A `landfall receive defer` and its monitor.
pub(super) struct Receiver {
    process: Process,
    qmp: Qmp,
    run_directory: PathBuf,
    socket: PathBuf,
    runs: u64,
    last_status: String,
}

/// What one run is received with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Multifd channels; `None` derives them, as long as multifd was never named.
    pub(super) channels: Option<u8>,
    pub(super) switchover_ack: bool,
}

/// The end of a run.
pub(super) struct RunEnd {
    /// Of `run.json`.
    pub(super) report: Value,
    /// The answer of `query-migrate`.
    pub(super) query_migrate: Value,
}

impl Receiver {
    pub(super) fn start(program: &Path, scratch: &Path) -> Result<Self, String> {
        let run_directory = scratch.join("run");
        let monitor = scratch.join("landfall.qmp");
        let mut arguments = vec![ALLOCATOR.to_owned(), program.display().to_string()];
        arguments.extend(OPTIONS.iter().map(|&option| option.to_owned()));
        arguments.push("--qmp".to_owned());
        arguments.push(format!("unix:{},server=on,wait=off", monitor.display()));
        arguments.extend(["--dump".to_owned(), run_directory.display().to_string()]);
        let mut process =
            Process::start(Path::new("env"), arguments, scratch.join("landfall.log"))?;
        let mut qmp = Qmp::connect(&monitor, &mut process)
            .map_err(|error| format!("{error}; {}", process.log()))?;
        qmp.enable(&["events"])?;
        Ok(Self {
            process,
            qmp,
            run_directory,
            socket: scratch.join("migrate.sock"),
            runs: 0,
            last_status: String::new(),
        })
    }

    /// Listens for a run; returns where.
    pub(super) fn listen(
        &mut self,
        transport: Transport,
        settings: Settings,
    ) -> Result<String, String> {
        let address = match transport {
            Transport::Tcp => Address::AnyTcp,
            Transport::Unix => Address::Unix(self.socket.clone()),
        };
        self.take(&address.uri(), settings)?;
        let uri = address.told_uri(&self.qmp.command("query-migrate", json!({}))?)?;
        if !is_listening(&uri)? {
            return Err(format!("nobody listens at {uri}"));
        }
        Ok(uri)
    }

    /// Takes a run from a descriptor that is handed over.
    pub(super) fn take_descriptor(
        &mut self,
        reads: &OwnedFd,
        settings: Settings,
    ) -> Result<(), String> {
        self.qmp.command_with("getfd", json!({ "fdname": "mig" }), &[reads.as_fd()])?;
        self.take("fd:mig", settings)
    }

    /// Takes a run from `uri`.
    pub(super) fn take(&mut self, uri: &str, settings: Settings) -> Result<(), String> {
        let ack = settings.switchover_ack;
        let mut capabilities = vec![("return-path", ack), ("switchover-ack", ack)];
        if let Some(channels) = settings.channels {
            capabilities.push(("multifd", channels > 0));
            if channels > 0 {
                let parameters = json!({ "multifd-channels": channels });
                self.qmp.command("migrate-set-parameters", parameters)?;
            }
        }
        let capabilities: Vec<Value> = capabilities
            .into_iter()
            .map(|(name, state)| json!({ "capability": name, "state": state }))
            .collect();
        let capabilities = json!({ "capabilities": capabilities });
        self.qmp.command("migrate-set-capabilities", capabilities)?;
        self.qmp.command("migrate-incoming", json!({ "uri": uri }))?;
        self.runs += 1;
        Ok(())
    }

    /// The end of the run whose source has come to its own end, once all of it
    /// is in the run directory. A source that died before it said anything has
    /// left the receiver listening at `uri`: then another comes and dies.
    pub(super) fn ended(&mut self, uri: Option<&str>) -> Result<RunEnd, String> {
        let start = Instant::now();
        let mut is_roused = false;
        let report = wait_until("end of the run", END_LIMIT, || {
            if let Some(status) = self.process.ended() {
                return Err(format!("it ended with {status}"));
            }
            if let Some(report) = self.report()? {
                return Ok(Some(report));
            }
            let waits = start.elapsed() > ROUSED_AFTER && !is_roused;
            if waits
                && let Some(uri) = uri
                && self.qmp.command("query-migrate", json!({}))?["status"] == "setup"
            {
                die_as_a_source(uri)?;
                is_roused = true;
            }
            Ok(None)
        })?;
        let query_migrate = self.qmp.command("query-migrate", json!({}))?;
        let status = report["status"].as_str().unwrap_or_default();
        if query_migrate["status"] != status {
            return Err(format!("run.json has status {status}, QMP says {query_migrate}"));
        }
        status.clone_into(&mut self.last_status);
        let events = self.qmp.take_events(status)?;
        // A source that died at once has told nothing that the run could begin with.
        let is_brief = status == "failed" && events == ["setup", status];
        if events != ["setup", "active", status] && !is_brief {
            return Err(format!("a run that {status} had the events {events:?}"));
        }
        Ok(RunEnd { report, query_migrate })
    }

    /// Where the last run's memory is.
    pub(super) fn run_directory(&self) -> &Path {
        &self.run_directory
    }

    /// How the process fares now that the run with this report is over. What
    /// still goes away is given some time.
    pub(super) fn vitals(&mut self, report: &Value, before: &[Vitals]) -> Result<Vitals, String> {
        let start = Instant::now();
        loop {
            let vitals = Vitals::of(self.process.id(), report)?;
            if vitals.is_settled(before) || start.elapsed() > SETTLE_LIMIT {
                return Ok(vitals);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it, as a person does; it must end as its last run did.
    pub(super) fn quit(&mut self) -> Result<(), String> {
        self.qmp.command("quit", json!({}))?;
        let status = self.process.wait(END_LIMIT).map_err(|error| self.blame(&error))?;
        let wanted = i32::from(self.last_status != "completed");
        if status.code() == Some(wanted) {
            Ok(())
        } else {
            Err(self.blame(&format!("it ended with {status}, not with exit code {wanted}")))
        }
    }

    /// Puts the end of what it printed behind an error.
    pub(super) fn blame(&mut self, error: &str) -> String {
        let log = self.process.log();
        let from = log.lines().count().saturating_sub(LOG_LINES);
        let end: Vec<&str> = log.lines().skip(from).collect();
        format!(
            "{error}; ended: {:?}; it printed at last:\n{}",
            self.process.ended(),
            end.join("\n")
        )
    }

    /// The report of the run under way, once it is the run directory's.
    fn report(&self) -> Result<Option<Value>, String> {
        let path = self.run_directory.join("run.json");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok((report["run-id"] == self.runs).then_some(report))
    }
}

/// A main stream that ends before it has begun.
fn die_as_a_source(uri: &str) -> Result<(), String> {
    let magic = b"QEVM";
    let written = match uri.strip_prefix("tcp:") {
        Some(address) => TcpStream::connect(address).and_then(|mut one| one.write_all(magic)),
        None => UnixStream::connect(uri.trim_start_matches("unix:"))
            .and_then(|mut one| one.write_all(magic)),
    };
    written.map_err(|error| format!("{uri}: {error}"))
}

/// What is large goes back to the system when it is freed, always. Left alone, glibc keeps by and by
/// what a run had for its channels, up to 17 MiB, and a leak of that size could not be told from it
/// (mallopt(3), `M_MMAP_THRESHOLD`).
const ALLOCATOR: &str = "MALLOC_MMAP_THRESHOLD_=131072";
/// A pool that holds most guests here but not all of them, of base pages, so that
/// resident memory is what was asked for. The stall limit is one that a busy
/// host does not reach.
const OPTIONS: [&str; 11] = [
    "receive",
    "defer",
    "--quiet",
    "--readers",
    "2",
    "--pool",
    "112M",
    "--hugepages",
    "off",
    "--stall-timeout",
    "20",
];
/// Longest wait for a run's end: a stall may have to be noticed, a dump written.
const END_LIMIT: Duration = Duration::from_secs(90);
/// A source that has died is noticed long before.
const ROUSED_AFTER: Duration = Duration::from_secs(1);
/// Longest wait for threads and descriptors to go away after a run.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// Of the log in a message.
const LOG_LINES: usize = 20;
