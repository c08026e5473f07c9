//! The command as a person runs it: whole processes, exit codes, files.

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
fn what_is_sent_arrives_in_the_run_directory_whichever_way_it_came() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let socket = format!("unix:{}", path("socket"));
    let ways = [
        ("configured", vec!["tcp:127.0.0.1:0", "--multifd", "3"], "3"),
        ("derived", vec!["tcp:127.0.0.1:0"], "3"),
        ("unix", vec![socket.as_str(), "--multifd", "2", "--readers", "1"], "2"),
        ("plain", vec!["tcp:localhost:0"], "0"),
    ];
    for (name, arguments, channels) in ways {
        let (run, json) = (path(name), path(&format!("{name}.json")));
        let more = ["--mem-path", &run, "--json", &json, "--digest"];
        let destination = Destination::start(&[&arguments[..], &more].concat());
        let sent = send(&destination.uri, &["--multifd", channels]);
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let (code, out, log) = destination.end();
        assert_eq!(code, Some(0), "{name}: {out}{log}");
        let report = report(Path::new(&json));
        assert_eq!(report["status"], "completed", "{name}");
        for part in ["run.json", "configuration", "device-state", "vmdesc.json", "ram/pc.ram.ram"] {
            assert!(Path::new(&run).join(part).exists(), "{name}: {part}");
        }
        // The same seed fills the same memory, however it travels.
        let equal = landfall(&["verify", &path("configured"), &run]);
        assert_eq!(equal.status.code(), Some(0), "{name}: {}", text(&equal.stdout));
    }
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
fn wrong_command_lines_exit_with_2() {
    for arguments in [
        &["receive"][..],
        &["receive", "tcp:127.0.0.1:0", "--nonsense"],
        &["receive", "bogus:1"],
        &["receive", "defer"],
        &["receive", "tcp:127.0.0.1:0", "--multifd", "256"],
        &["receive", "tcp:127.0.0.1:0", "--hugepages", "4M"],
        &["receive", "tcp:127.0.0.1:0", "--stall-timeout", "0"],
        &["receive", "rdma:127.0.0.1:4444"],
        &["send", "nowhere"],
        &["verify", "/nonexistent/a", "/nonexistent/b"],
    ] {
        let output = landfall(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn options_that_cannot_be_had_together_are_refused_with_the_reason() {
    let stdout = "standard output is the monitor's";
    let dropped = "pages are dropped";
    let twice = "is given twice";
    for (more, says) in [
        (&["--sink", "discard", "--dump", "/nonexistent/d"][..], dropped),
        (&["--sink", "discard", "--mem-path", "/nonexistent/d"], dropped),
        (&["--sink", "discard", "--digest"], dropped),
        (&["--qmp", "stdio", "--json", "-"], stdout),
        (&["--qmp", "unix:/nonexistent/q,server=on", "--qmp", "unix:/nonexistent/q,server"], twice),
        (&["--qmp", "stdio", "--qmp", "stdio"], twice),
    ] {
        let refused = landfall(&[&["receive", "tcp:127.0.0.1:0"], more].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(says), "{more:?}: {said}");
    }
}

#[test]
fn what_this_host_cannot_exits_with_3_and_the_line_that_mends_it() {
    let pool =
        ["receive", "tcp:127.0.0.1:0", "--hugepages", "1G", "--pool", "8T", "--max-ram", "9T"];
    let output = landfall(&pool);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let log = text(&output.stderr);
    assert!(log.contains("nr_hugepages") || log.contains("does not exist"), "{log}");
    let output = landfall(&["receive", "tcp:127.0.0.1:0", "--mem-path", "/proc/nowhere"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

#[test]
fn a_guest_larger_than_max_ram_fails_the_run_and_says_both_sizes() {
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--multifd", "1", "--max-ram", "8M"]);
    let sent = send(&destination.uri, &["--multifd", "1"]);
    assert_ne!(sent.status.code(), Some(0));
    let (code, _, log) = destination.end();
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("--max-ram, 8388608 bytes"), "{log}");
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

#[test]
fn every_form_of_the_synthetic_source_arrives_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let forms: [(&str, &str, &[&str]); 13] = [
        ("modern", "3", &[]),
        ("7.2", "3", &["--speak", "7.2"]),
        ("8.2", "2", &["--speak", "8.2", "--no-return-path"]),
        ("old machine", "4", &["--speak", "10.0", "-M", "pc-q35-8.0"]),
        ("11.1", "2", &["--speak", "11.1", "--switchover-ack", "--early-sections", "2"]),
        ("zero on main", "2", &["--zero-page-detection", "legacy", "--rounds-per-section", "3"]),
        ("zero in full", "1", &["--zero-page-detection", "none", "--forged-tails", "9"]),
        ("no footers", "0", &["--speak", "7.2", "-M", "pc-i440fx-2.3"]),
        ("snapshot", "0", &["--background-snapshot"]),
        ("advised", "0", &["--postcopy-ram", "--zero-page-detection", "legacy"]),
        ("bitmaps", "2", &["--dirty-bitmaps"]),
        ("disk", "2", &["--block", "--speak", "9.0"]),
        ("compressed", "0", &["--compress", "--speak", "7.2", "--compressible", "0"]),
    ];
    for (name, channels, form) in forms {
        let destination = Destination::start(&["tcp:127.0.0.1:0", "--dump", &path(name)]);
        let rounds: &[&str] = if name == "snapshot" { &["--rounds", "1"] } else { &[] };
        let fixed = ["send", &destination.uri, "--ram", "16M", "--multifd", channels];
        let sent = landfall(&[&fixed[..], rounds, form].concat());
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let (code, _, log) = destination.end();
        assert_eq!(code, Some(0), "{name}: {log}");
        if name != "snapshot" {
            let equal = landfall(&["verify", &path("modern"), &path(name)]);
            assert_eq!(equal.status.code(), Some(0), "{name}: {}", text(&equal.stdout));
        }
    }
}

#[test]
fn one_stream_carries_every_way_to_change_and_compress_pages_and_all_leave_the_same_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let more = ["--multifd", "0", "--xbzrle", "--compress", "--speak", "9.0"];
    let ways = [
        ("file", format!("file:{},offset=4k", at("file")), ",offset=4096"),
        ("exec", format!("exec:cat > {}", at("exec")), ""),
        ("fd", "fd:3".to_owned(), ""),
    ];
    for (name, uri, offset) in &ways {
        // The shell leaves the descriptor open for it.
        let script = format!("\"$0\" \"$@\" 3> {}", at("fd"));
        let sent = Command::new("/bin/sh")
            .args(["-c", &script, PROGRAM, "send", uri, "--ram", "24M"])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let json = at("report.json");
        let from = format!("file:{}{offset}", at(name));
        let received =
            landfall(&["receive", &from, "--dump", &at(&format!("{name}.run")), "--json", &json]);
        assert_eq!(received.status.code(), Some(0), "{name}: {}", text(&received.stderr));
        let report = report(Path::new(&json));
        assert!(report["pages"]["xbzrle-pages"].as_u64() > Some(100), "{name}: {report}");
        let equal = landfall(&["verify", &at("file.run"), &at(&format!("{name}.run"))]);
        assert_eq!(equal.status.code(), Some(0), "{name}: {}", text(&equal.stdout));
    }
}

#[test]
fn memory_that_is_shared_is_announced_and_not_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("run.json").display().to_string();
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--json", &json]);
    let sent = send(&destination.uri, &["--x-ignore-shared"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let (code, _, log) = destination.end();
    assert_eq!(code, Some(0), "{log}");
    let report = report(Path::new(&json));
    let blocks = report["blocks"].as_array().expect("blocks");
    assert_eq!(blocks[0]["unique-pages"], 0, "{report}");
    assert_eq!(blocks[1]["unique-pages"], (16 << 20) / 4096, "{report}");
}

#[test]
fn what_no_source_sends_is_refused_with_the_reason() {
    for (more, says) in [
        (&["tcp:h:1", "--xbzrle"][..], "multifd excludes xbzrle"),
        (&["tcp:h:1", "--xbzrle", "--image", "/f"], "--image"),
        (&["tcp:h:1", "--compress", "--speak", "7.2"], "multifd excludes compress"),
        (&["tcp:h:1", "--compress", "--multifd", "0"], "up to 9.0, --speak is 10.0"),
        (&["tcp:h:1", "--block", "--speak", "11.1"], "up to 9.0, --speak is 11.1"),
        (&["tcp:h:1", "--x-ignore-shared", "--postcopy-ram"], "excludes x-ignore-shared"),
        (&["file:/nonexistent/f"], "Migration requires multi-channel URIs (e.g. tcp)"),
        (&["exec:true", "--multifd", "1"], "--multifd is 1, allowed is 0"),
        (&["exec:true", "--multifd", "0", "--switchover-ack"], "excludes switchover-ack"),
        (&["file:/f", "--multifd", "0", "--tls-creds", "/c"], "TLS need an answer"),
        (&["file:/f,offset=x"], "file URI has bad offset x"),
        (&["fd:99", "--multifd", "0"], "fd:99: it is not open, or was not inherited"),
        (
            &["fd:1", "--multifd", "0"],
            "fd:1: it is not open, or was not inherited; allowed is a descriptor from 3 on",
        ),
        (&["fd:name", "--multifd", "0"], "fd:name is no number"),
        (&["rdma:h:1"], "exec:COMMAND and fd:N"),
    ] {
        let refused = landfall(&[&["send"], more].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(says), "{more:?}: {said}");
    }
    let missing = landfall(&["send", "file:/nonexistent/f", "--multifd", "0"]);
    let said = text(&missing.stderr);
    assert_eq!(missing.status.code(), Some(1), "{said}");
    assert!(said.contains("/nonexistent/f: No such file"), "{said}");
}

#[test]
fn an_image_arrives_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let content: Vec<u8> = (0..5 << 20).map(|byte: u32| (byte >> 13) as u8).collect();
    std::fs::write(path("image"), content).expect("an image");
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--mem-path", &path("run")]);
    let arguments = ["send", &destination.uri, "--image", &path("image"), "--rounds", "1"];
    let sent = landfall(&arguments);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert_eq!(destination.end().0, Some(0));
    let file = path("run/ram/pc.ram.ram");
    let equal = landfall(&["verify", &path("image"), &file]);
    assert_eq!(equal.status.code(), Some(0), "{}", text(&equal.stdout));
}

#[test]
fn a_guest_saved_to_a_file_is_received_from_it_and_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    for (more, uri) in [("", "file"), (",offset=65536", "file")] {
        let uri = format!("{uri}:{}{more}", at("saved"));
        let saved = send(&uri, &["--mapped-ram"]);
        assert_eq!(saved.status.code(), Some(0), "{}", text(&saved.stderr));
        for options in [&[][..], &["--direct-io", "--readers", "2"], &["--queue-depth", "3"]] {
            let json = at("report.json");
            let received =
                landfall(&[&["receive", &uri, "--json", &json, "--digest"], options].concat());
            assert_eq!(received.status.code(), Some(0), "{}", text(&received.stderr));
            let report = report(Path::new(&json));
            assert_eq!(report["pages"]["unique-pages"], report["pages"]["ram-pages"]);
        }
    }
    let unfit = send("tcp:127.0.0.1:1", &["--mapped-ram"]);
    assert_eq!(unfit.status.code(), Some(2), "{}", text(&unfit.stderr));
}

#[test]
fn a_source_without_a_copy_leaves_the_same_memory_and_says_what_it_cost() {
    let directory = tempfile::tempdir().expect("a directory");
    let received = |name: &str, more: &[&str]| {
        let directory = directory.path().join(name).to_str().expect("text").to_owned();
        let destination = Destination::start(&["tcp:127.0.0.1:0", "--dump", &directory]);
        let sent = send(&destination.uri, more);
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let said = text(&sent.stdout);
        assert!(said.contains("CPU-s/GiB") && said.contains("GiB per CPU second"), "{said}");
        assert_eq!(destination.end().0, Some(0), "{name}");
        (directory, said)
    };
    let (plain, said) = received("plain", &[]);
    assert!(!said.contains("zero-copy"), "{said}");
    let (without, said) = received("without", &["--zero-copy"]);
    assert!(said.contains("it does not pay here, 4 channels went on without"), "{said}");
    let equal = landfall(&["verify", &plain, &without]);
    assert_eq!(equal.status.code(), Some(0), "{}", text(&equal.stderr));
}

#[test]
fn zero_copy_is_refused_with_what_excludes_it() {
    for more in [
        &["--multifd", "0"][..],
        &["--compression", "zlib"],
        &["--tls-creds", "/nonexistent"],
        &["--image", "/nonexistent"],
        &["--mapped-ram"],
    ] {
        let refused = landfall(&[&["send", "tcp:127.0.0.1:1", "--zero-copy"], more].concat());
        assert_eq!(refused.status.code(), Some(2), "{more:?}: {}", text(&refused.stderr));
    }
}
