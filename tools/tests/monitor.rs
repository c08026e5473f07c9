//! `landfall receive --qmp` as a program drives it: whole processes, their monitors, signals.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall");

/// A destination that is killed if the test is done with it before it has ended.
struct Destination(Child);

impl Destination {
    fn start(arguments: &[&str]) -> Self {
        let child = Command::new(PROGRAM)
            .arg("receive")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("landfall starts");
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("it runs");
    }

    /// Waits until it handles `signal` itself.
    fn until_it_catches(&self, signal: Signal) {
        until("the signal's handler", || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
            (caught >> (signal as u64 - 1) & 1 == 1).then_some(())
        });
    }

    /// Reads standard error up to a line that has `text`.
    fn until_it_says(&mut self, text: &str) {
        let log = self.0.stderr.as_mut().expect("a pipe");
        // Byte by byte: what comes behind the line stays in the pipe.
        let mut said = String::new();
        while !(said.ends_with('\n') && said.contains(text)) {
            let mut byte = [0];
            log.read_exact(&mut byte).unwrap_or_else(|_| panic!("'{text}' is not in: {said}"));
            said.push(char::from(byte[0]));
        }
    }

    /// Exit code, stdout and stderr.
    fn end(&mut self) -> (Option<i32>, String, String) {
        let code = until("its end", || self.0.try_wait().expect("a child")).code();
        let (mut out, mut log) = (String::new(), String::new());
        self.0.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
        self.0.stderr.take().expect("a pipe").read_to_string(&mut log).expect("text");
        (code, out, log)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client that has negotiated.
struct Client {
    replies: BufReader<UnixStream>,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let stream = until("a monitor", || UnixStream::connect(path).ok());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self { replies: BufReader::new(stream) };
        assert!(client.line().get("QMP").is_some(), "a greeting");
        client.ask("qmp_capabilities", json!({}));
        client
    }

    /// What is returned, whatever events come before.
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.send(command, arguments);
        loop {
            let line = self.line();
            assert!(line.get("error").is_none(), "{command}: {line}");
            if let Some(value) = line.get("return") {
                return value.clone();
            }
        }
    }

    fn send(&mut self, command: &str, arguments: Value) {
        // In one piece, and nothing behind it: after a `quit` nobody may be there to take that.
        let request = json!({"execute": command, "arguments": arguments}).to_string();
        self.replies.get_ref().write_all(request.as_bytes()).expect("it listens");
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Starts a run and says at which port.
    fn listen(&mut self) -> u16 {
        self.ask("migrate-incoming", json!({"uri": "tcp:127.0.0.1:0"}));
        let port = &self.ask("query-migrate", json!({}))["socket-address"][0]["port"];
        port.as_str().expect("a port").parse().expect("a number")
    }

    fn until_status(&mut self, wanted: &str) {
        until(wanted, || (self.ask("query-migrate", json!({}))["status"] == wanted).then_some(()));
    }
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: never came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn send(uri: &str) {
    let arguments = ["send", uri, "--ram", "16M", "--multifd", "0", "-q"];
    let sent = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("starts");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

/// A path in a directory that goes with the test.
fn in_directory(directory: &tempfile::TempDir, name: &str) -> (PathBuf, String) {
    let path = directory.path().join(name);
    let text = path.to_str().expect("text").to_owned();
    (path, text)
}

#[test]
fn the_first_signal_ends_the_wait_for_a_client() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, socket) = in_directory(&directory, "qmp");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let monitor = format!("unix:{socket},server=on");
        let mut destination = Destination::start(&["tcp:127.0.0.1:0", "--qmp", &monitor]);
        destination.until_it_says(&format!("waiting for a QMP client on unix:{socket}"));
        destination.signal(signal);
        let (code, _, log) = destination.end();
        assert_eq!(code, Some(0), "{signal}: {log}");
        assert!(!log.contains("listening on"), "nobody has come: {log}");
    }
}

#[test]
fn a_signal_while_the_pool_is_mapped_leaves_no_socket_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, socket) = in_directory(&directory, "qmp");
    let monitor = format!("unix:{socket},server=on,wait=off");
    let mut destination =
        Destination::start(&["defer", "--qmp", &monitor, "--pool", "512M", "--hugepages", "off"]);
    destination.until_it_catches(Signal::SIGTERM);
    assert!(path.exists());
    destination.signal(Signal::SIGTERM);
    let (code, _, log) = destination.end();
    // Killed by it, or, if the pool was there already, ended in order.
    assert!(code.is_none_or(|code| code == 0), "{code:?} {log}");
    assert!(!path.exists());
}

#[test]
fn quit_on_one_monitor_ends_the_wait_for_the_client_of_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let ((_, waits), (path, serves)) =
        (in_directory(&directory, "waits"), in_directory(&directory, "serves"));
    let monitors = [format!("unix:{waits},server=on"), format!("unix:{serves},server=on,wait=off")];
    let mut destination =
        Destination::start(&["tcp:127.0.0.1:0", "--qmp", &monitors[0], "--qmp", &monitors[1]]);
    Client::connect(&path).ask("quit", json!({}));
    assert_eq!(destination.end().0, Some(0));
}

#[test]
fn the_start_goes_on_when_the_client_has_come() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, socket) = in_directory(&directory, "qmp");
    let monitor = format!("unix:{socket},server=on");
    let mut destination = Destination::start(&["tcp:127.0.0.1:0", "--qmp", &monitor]);
    let mut client = Client::connect(&path);
    client.until_status("setup");
    client.ask("quit", json!({}));
    let (code, _, log) = destination.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("listening on") && log.contains("stopped by operator"), "{log}");
}

#[test]
fn with_a_monitor_on_stdio_nothing_else_goes_to_standard_output() {
    let mut destination = Destination::start(&["tcp:127.0.0.1:0", "--qmp", "stdio"]);
    let log = BufReader::new(destination.0.stderr.take().expect("a pipe"));
    let (told, lines) = mpsc::channel();
    thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
    let line_with = |text: &str| loop {
        let line = lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|_| panic!("'{text}' is not on stderr"));
        if line.contains(text) {
            break line;
        }
    };
    let listening = line_with("listening on ");
    let (_, place) = listening.split_once("listening on ").expect("just found");
    send(place.split(';').next().expect("a place"));
    // The table comes while the monitor is there.
    line_with("sync points");
    let commands = r#"{"execute": "qmp_capabilities"} {"execute": "quit"}"#;
    let mut input = destination.0.stdin.take().expect("a pipe");
    input.write_all(commands.as_bytes()).expect("it reads");
    let code = until("its end", || destination.0.try_wait().expect("a child")).code();
    assert_eq!(code, Some(0));
    let mut out = String::new();
    destination.0.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    let lines = out.lines().map(|line| serde_json::from_str(line).expect(line));
    let lines: Vec<Value> = lines.collect();
    assert!(lines.iter().any(|line| line["event"] == "SHUTDOWN"), "{out}");
}

#[test]
fn a_report_that_cannot_be_written_is_told_behind_the_run_and_the_monitor_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, socket) = in_directory(&directory, "qmp");
    let (_, json) = in_directory(&directory, "gone/report.json");
    let folder = directory.path().join("gone");
    fs::create_dir(&folder).expect("a directory");
    let monitor = format!("unix:{socket},server=on,wait=off");
    let mut destination = Destination::start(&["defer", "--qmp", &monitor, "--json", &json]);
    let mut client = Client::connect(&path);
    // At the start it is looked at.
    fs::remove_dir(&folder).expect("it was there");
    let port = client.listen();
    TcpStream::connect(("127.0.0.1", port))
        .and_then(|mut source| source.write_all(b"QEVM\0\0\0\x09"))
        .expect("it listens");
    client.until_status("failed");
    let port = client.listen();
    send(&format!("tcp:127.0.0.1:{port}"));
    client.until_status("completed");
    client.send("quit", json!({}));
    assert_eq!(client.line()["event"], "SHUTDOWN");
    assert_eq!(client.line(), json!({"return": {}}));
    let (code, out, log) = destination.end();
    assert_eq!(code, Some(3), "{log}");
    assert_eq!(out.matches("sync points").count(), 2, "a table for each run: {out}");
    let [failed, report] = ["migration failed (malformed)", "report.json"]
        .map(|text| log.find(text).unwrap_or_else(|| panic!("{text}: {log}")));
    assert!(failed < report, "{log}");
    assert_eq!(log.matches("report.json").count(), 2, "{log}");
}

const PATIENCE: Duration = Duration::from_secs(30);
