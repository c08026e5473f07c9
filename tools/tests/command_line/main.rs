//! The command as a person runs it: whole processes, exit codes, files.

mod printed;
mod refusals;
mod sent;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall");

fn landfall(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("landfall starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A destination that listens, and its URI.
struct Destination {
    child: Child,
    uri: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Destination {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("receive")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("landfall starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let uri = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("text") > 0, "it listens");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split([';', ',']).next().expect("a place").trim().to_owned();
            }
        };
        Self { child, uri, log }
    }

    /// Exit code, stdout and the rest of stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut log) = (String::new(), String::new());
        self.child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
        self.log.read_to_string(&mut log).expect("text");
        (self.child.wait().expect("it ends").code(), out, log)
    }
}

fn send(uri: &str, more: &[&str]) -> Output {
    let fixed = ["send", uri, "--ram", "24M", "--rounds", "3"];
    landfall(&[&fixed[..], more].concat())
}

fn report(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a report")).expect("JSON")
}

#[test]
fn the_demo_verifies_every_page_and_prints_query_migrate() {
    for channels in ["0", "1", "3"] {
        let output = landfall(&["demo", "--ram", "32M", "--multifd", channels]);
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{out}{}", text(&output.stderr));
        assert!(out.contains("every page is right"), "{out}");
        let json = &out[out.find('{').expect("JSON")..=out.rfind('}').expect("JSON")];
        let answer: Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(answer["status"], "completed");
        assert_eq!(answer["ram"]["remaining"], 0);
    }
}

#[test]
fn a_quiet_demo_says_nothing_if_all_is_well() {
    let output = landfall(&["demo", "--ram", "16M", "-q"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("", ""));
}

#[test]
fn a_dump_is_the_same_directory_and_one_flipped_byte_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    for (name, option) in [("mapped", "--mem-path"), ("dumped", "--dump")] {
        let destination =
            Destination::start(&["tcp:127.0.0.1:0", "--multifd", "2", option, &path(name)]);
        assert!(send(&destination.uri, &["--multifd", "2"]).status.success());
        assert_eq!(destination.end().0, Some(0), "{name}");
    }
    let (a, b) = (path("mapped"), path("dumped"));
    assert_eq!(landfall(&["verify", &a, &b]).status.code(), Some(0));
    let quiet = landfall(&["-q", "verify", &a, &b]);
    assert_eq!((quiet.status.code(), text(&quiet.stdout).as_str()), (Some(0), ""));
    let file = directory.path().join("dumped/ram/pc.ram.ram");
    let mut bytes = std::fs::read(&file).expect("the block");
    bytes[5_000_000] ^= 1;
    std::fs::write(&file, bytes).expect("the block");
    let output = landfall(&["verify", &a, &b]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("4c4b40"), "{}", text(&output.stdout));
}

#[test]
fn a_run_that_failed_is_compared_with_a_warning_of_its_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let [whole, other] = ["whole", "other"].map(|name| directory.path().join(name));
    for (run, status) in [(&whole, "completed"), (&other, "failed")] {
        std::fs::create_dir_all(run.join("ram")).expect("a directory");
        std::fs::write(run.join("ram/pc.ram.ram"), "the same").expect("a block");
        let json = format!(r#"{{"status": "{status}"}}"#);
        std::fs::write(run.join("run.json"), json).expect("a report");
    }
    let [whole, other] = [&whole, &other].map(|path| path.to_str().expect("text"));
    let silent = landfall(&["verify", whole, whole]);
    assert_eq!((silent.status.code(), text(&silent.stderr).as_str()), (Some(0), ""));
    for pair in [[whole, other], [other, whole]] {
        let warned = landfall(&[&["-q", "verify"], &pair[..]].concat());
        let said = text(&warned.stderr);
        assert_eq!(warned.status.code(), Some(0), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains(&format!("{other} is of a run")) && said.contains("failed"),
            "{said}"
        );
    }
}

#[test]
fn dropped_pages_are_counted_and_the_source_keeps_its_guest() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("run.json");
    for place in ["tcp:127.0.0.1:0".to_owned(), format!("unix:{}/s", directory.path().display())] {
        let json = json.to_str().expect("text");
        let arguments = [place.as_str(), "--multifd", "2", "--sink", "discard", "--json", json];
        let destination = Destination::start(&arguments);
        let sent = send(&destination.uri, &["--multifd", "2", "--zero", "50"]);
        assert_eq!(sent.status.code(), Some(1), "the guest stays: {}", text(&sent.stderr));
        assert!(text(&sent.stderr).contains("SHUT 1"), "{}", text(&sent.stderr));
        let (code, out, log) = destination.end();
        assert_eq!(code, Some(0), "{log}");
        let report = report(Path::new(json));
        assert_eq!(report["query-migrate"]["ram"]["remaining"], 0, "{place}");
        for name in ["zero-written-pages", "zero-skipped-pages", "zero-sent-full-pages"] {
            assert!(report["pages"].get(name).is_none(), "nobody has looked: {name}");
        }
        assert!(out.contains("sync points") && !out.contains("zero pages"), "{out}");
    }
}

#[test]
fn a_file_beyond_its_limit_is_an_error_and_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("stream").display().to_string();
    let line = format!("ulimit -f 1024; exec {PROGRAM} send file:{to} --ram 4M --multifd 0");
    let sent = Command::new("sh").args(["-c", &line]).output().unwrap();
    let said = text(&sent.stderr);
    assert!(sent.status.code().is_some() && said.contains("File too large"), "{sent:?}");
}

#[test]
fn a_signal_ends_a_run_as_failed_by_the_operator() {
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--json", "-"]);
    let id = nix::unistd::Pid::from_raw(destination.child.id().cast_signed());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    let (code, out, log) = destination.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("stopped by operator"), "{log}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["status"], "failed");
}

#[test]
fn a_signal_at_once_behind_the_first_is_the_same_wish() {
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--json", "-"]);
    let id = nix::unistd::Pid::from_raw(destination.child.id().cast_signed());
    // As timeout(1) does; of two kinds, since the kernel may make one of two that are alike.
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        nix::sys::signal::kill(id, signal).expect("not yet waited for");
    }
    let (code, out, log) = destination.end();
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON")["status"], "failed");
}

#[test]
fn a_line_of_json_on_stdout_has_it_alone() {
    let output = landfall(&["receive", "exec:true", "--json-lines", "-"]);
    let (out, log) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["status"], "failed");
    assert!(log.contains("guest RAM"), "the table: {log}");
}

#[test]
fn lines_of_figures_come_at_intervals_however_long_nobody_had_come() {
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--multifd", "0", "-i", "1"]);
    thread::sleep(Duration::from_secs(3));
    let before = Instant::now();
    let sent = send(&destination.uri, &["--multifd", "0", "--pace", "8M"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let (_, _, log) = destination.end();
    let lines = log.lines().filter(|line| line.contains("resent  round")).count();
    assert!((1..=before.elapsed().as_secs() as usize).contains(&lines), "{log}");
}

#[test]
fn a_report_that_nobody_takes_is_an_error_of_the_host() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let mut child = Command::new(PROGRAM)
        .args(["receive", "exec:true", "--json", "-"])
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("landfall starts");
    let mut log = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut log).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(3), "{log}");
    assert!(log.contains("migration failed") && log.contains("standard output"), "{log}");
}
