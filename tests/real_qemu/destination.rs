//! `landfall` as the destination of a migration, driven by its command line or
//! by QMP.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{Case, Control, Count, Extra, Memory, Tls, Transport};
use crate::certificates::CLIENT_NAME;
use crate::credentials;
use crate::listening;
use crate::process::{Process, wait_until};
use crate::qmp::Qmp;
use crate::query_migrate;

/// A `landfall receive` that listens.
pub(crate) struct Destination {
    process: Process,
    qmp: Option<Qmp>,
    uri: String,
    run_directory: PathBuf,
    json: PathBuf,
}

/// What a finished landfall leaves behind.
pub(crate) struct Received {
    /// The object of `--json`.
    pub(crate) report: Value,
    /// The final `query-migrate` answer, where QMP was used.
    pub(crate) query_migrate: Option<Value>,
    /// Where `ram/` lies.
    pub(crate) run_directory: PathBuf,
}

impl Destination {
    /// Starts the program, with `more` options, and waits until it listens.
    pub(crate) fn start(
        case: &Case,
        program: &Path,
        scratch: &Path,
        more: &[&str],
    ) -> Result<Self, String> {
        let run_directory = scratch.join("run");
        fs::create_dir(&run_directory)
            .map_err(|error| format!("{}: {error}", run_directory.display()))?;
        let json = scratch.join("run.json");
        let address = Address::choose(case, scratch)?;
        let socket = scratch.join("landfall.qmp");
        let mut arguments = vec!["receive".to_owned()];
        match case.control {
            Control::CommandLine => arguments.push(address.uri()),
            Control::Qmp => {
                let monitor = format!("unix:{},server=on,wait=off", socket.display());
                arguments.extend(["defer".to_owned(), "--qmp".to_owned(), monitor]);
            }
        }
        arguments.extend(receive_options(case, &run_directory, &json));
        arguments.extend(more.iter().map(|&option| option.to_owned()));
        let process = Process::start(program, arguments, scratch.join("landfall.log"))?;
        let mut destination = Self { process, qmp: None, uri: address.uri(), run_directory, json };
        destination.prepare(case, &address, &socket).map_err(|error| destination.blame(&error))?;
        Ok(destination)
    }

    /// Where a source migrates to.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The QMP session of a case that has one.
    pub(crate) fn qmp(&mut self) -> &mut Qmp {
        self.qmp.as_mut().expect("the case is controlled by QMP")
    }

    /// Over QMP, after a run: listens for the next one, on a new port.
    pub(crate) fn listen_again(&mut self) -> Result<(), String> {
        self.listen(&Address::AnyTcp).map_err(|error| self.blame(&error))
    }

    /// Waits for the program's own end with this exit code.
    pub(crate) fn expect_exit(&mut self, code: i32) -> Result<(), String> {
        let status = self.process.wait(END_LIMIT).map_err(|error| self.blame(&error))?;
        if status.code() == Some(code) {
            Ok(())
        } else {
            Err(self.blame(&format!("it ended with {status}, not with exit code {code}")))
        }
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for the end of the run and of the program, and collects what it
    /// left. Over QMP the program stays until it is told to quit, and the events
    /// of its whole life must have been `events`.
    pub(crate) fn finish(mut self, events: &[&str]) -> Result<Received, String> {
        let query_migrate = self.completed_answer(events).map_err(|error| self.blame(&error))?;
        self.expect_exit(0)?;
        let text = fs::read_to_string(&self.json)
            .map_err(|error| self.blame(&format!("{}: {error}", self.json.display())))?;
        let report = serde_json::from_str(&text)
            .map_err(|error| format!("--json is no JSON: {error}: {text}"))?;
        Ok(Received { report, query_migrate, run_directory: self.run_directory.clone() })
    }

    /// Puts what landfall printed behind an error.
    pub(crate) fn blame(&mut self, error: &str) -> String {
        format!(
            "landfall: {error}; ended: {:?}; it printed: {}",
            self.process.ended(),
            self.process.log()
        )
    }

    fn prepare(&mut self, case: &Case, address: &Address, socket: &Path) -> Result<(), String> {
        if case.control == Control::Qmp {
            let mut qmp = Qmp::connect(socket, &mut self.process)?;
            configure(&mut qmp, case)?;
            self.qmp = Some(qmp);
            return self.listen(address);
        }
        self.wait_for_listener()
    }

    fn listen(&mut self, address: &Address) -> Result<(), String> {
        let qmp = self.qmp();
        qmp.command("migrate-incoming", json!({ "uri": address.uri() }))?;
        let answer = qmp.command("query-migrate", json!({}))?;
        if answer["status"] != "setup" {
            return Err(format!("listening, query-migrate is {answer}"));
        }
        self.uri = address.told_uri(&answer)?;
        self.wait_for_listener()
    }

    fn wait_for_listener(&mut self) -> Result<(), String> {
        wait_until("listening socket", START_LIMIT, || {
            if let Some(status) = self.process.ended() {
                return Err(format!("it ended with {status}"));
            }
            Ok(is_listening(&self.uri)?.then_some(()))
        })
    }

    /// Over QMP: the final answer, checked, and `quit` said. Else nothing.
    fn completed_answer(&mut self, events: &[&str]) -> Result<Option<Value>, String> {
        let Some(qmp) = &mut self.qmp else {
            return Ok(None);
        };
        let answer = completed(qmp)?;
        query_migrate::check(&answer)?;
        let status = qmp.command("query-status", json!({}))?;
        if status != json!({ "status": "paused", "running": false }) {
            return Err(format!("query-status: {status}"));
        }
        let found = qmp.wait_for_events(events.len())?;
        if found != events {
            return Err(format!("the events were {found:?}, not {events:?}"));
        }
        qmp.command("quit", json!({}))?;
        Ok(Some(answer))
    }
}

/// The address a source connects to, before anybody listens on it.
pub(crate) enum Address {
    Tcp(u16),
    /// Over QMP the kernel chooses the port, and `query-migrate` tells it.
    AnyTcp,
    Unix(PathBuf),
}

impl Address {
    fn choose(case: &Case, scratch: &Path) -> Result<Self, String> {
        Ok(match (case.transport, case.control) {
            (Transport::Unix, _) => Self::Unix(scratch.join("migrate.sock")),
            (Transport::Tcp, Control::CommandLine) => Self::Tcp(listening::free_port()?),
            (Transport::Tcp, Control::Qmp) => Self::AnyTcp,
        })
    }

    pub(crate) fn uri(&self) -> String {
        match self {
            Self::Tcp(port) => format!("tcp:127.0.0.1:{port}"),
            Self::AnyTcp => "tcp:127.0.0.1:0".to_owned(),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// The address `query-migrate` tells, as a URI; checked against ours.
    pub(crate) fn told_uri(&self, answer: &Value) -> Result<String, String> {
        let told = &answer["socket-address"][0];
        let uri = match (told["type"].as_str(), told["host"].as_str(), told["port"].as_str()) {
            (Some("inet"), Some(host), Some(port)) => format!("tcp:{host}:{port}"),
            (Some("unix"), ..) => format!("unix:{}", told["path"].as_str().unwrap_or_default()),
            _ => String::new(),
        };
        let fits = match self {
            Self::AnyTcp => uri.starts_with("tcp:127.0.0.1:") && !uri.ends_with(":0"),
            Self::Tcp(_) | Self::Unix(_) => uri == self.uri(),
        };
        if fits {
            Ok(uri)
        } else {
            Err(format!("the socket-address of {answer} is not {}", self.uri()))
        }
    }
}

/// Whether somebody listens at this URI.
pub(crate) fn is_listening(uri: &str) -> Result<bool, String> {
    match uri.strip_prefix("tcp:127.0.0.1:") {
        Some(port) => {
            listening::is_tcp_listening(port.parse().map_err(|_| format!("{uri}: no port"))?)
        }
        None => listening::is_unix_listening(Path::new(uri.trim_start_matches("unix:"))),
    }
}

fn receive_options(case: &Case, run_directory: &Path, json: &Path) -> Vec<String> {
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
    option("--readers", case.readers.to_string());
    option("--json", json.display().to_string());
    if case.control == Control::CommandLine && case.count == Count::Configured {
        option("--multifd", case.channels.to_string());
    }
    match case.memory {
        Memory::File => option("--mem-path", run_directory.display().to_string()),
        _ => option("--dump", run_directory.display().to_string()),
    }
    match case.memory {
        Memory::File => {}
        Memory::Base => option("--hugepages", "off".to_owned()),
        Memory::Transparent => option("--hugepages", "thp".to_owned()),
        Memory::Huge | Memory::HugePool => option("--hugepages", "2M".to_owned()),
    }
    if case.memory == Memory::HugePool {
        option("--pool", "128M".to_owned());
    }
    if case.tls != Tls::Off && case.control == Control::CommandLine {
        option("--tls-creds", credentials::directory().display().to_string());
        option("--tls-authz", CLIENT_NAME.to_owned());
    }
    options
}

/// Waits until a destination has completed; returns its final `query-migrate` answer.
pub(crate) fn completed(qmp: &mut Qmp) -> Result<Value, String> {
    wait_until("completed destination", END_LIMIT, || {
        let answer = qmp.command("query-migrate", json!({}))?;
        match answer["status"].as_str() {
            Some("completed") => Ok(Some(answer)),
            Some("setup" | "active") => Ok(None),
            _ => Err(format!("query-migrate: {answer}")),
        }
    })
}

/// Tells a destination, whichever program it is, what the case wants of it.
pub(crate) fn configure(qmp: &mut Qmp, case: &Case) -> Result<(), String> {
    let mut capabilities = vec!["events"];
    if case.channels > 0 {
        capabilities.push("multifd");
    }
    if case.extra == Extra::SwitchoverAck {
        capabilities.extend(["return-path", "switchover-ack"]);
    }
    qmp.enable(&capabilities)?;
    if case.channels > 0 {
        let compression = case.compression.name();
        let parameters =
            json!({ "multifd-channels": case.channels, "multifd-compression": compression });
        qmp.command("migrate-set-parameters", parameters)?;
    }
    if case.tls != Tls::Off {
        credentials::add(qmp, "server", None)?;
    }
    Ok(())
}

/// Longest wait for a listener: a pool may have to be filled first.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the end once the source is done: a dump may be written.
const END_LIMIT: Duration = Duration::from_secs(30);
