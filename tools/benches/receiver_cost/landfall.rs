//! landfall in a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::{Cost, Scenario};

/// One run of `landfall receive`, fed by the synthetic source.
pub(crate) fn run(scenario: &Scenario) -> Cost {
    let pool = format!("{}M", scenario.mib + 24);
    let mut child = Command::new(PROGRAM)
        .args(["receive", "tcp:127.0.0.1:0", "--json", "-", "--pool", &pool])
        .args(["--multifd", &scenario.channels.to_string()])
        .args(["--readers", &scenario.channels.min(2).to_string()])
        .args(["--hugepages", &scenario.memory])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("landfall");
    let mut stderr = BufReader::new(child.stderr.take().expect("its log"));
    let mut line = String::new();
    let port = loop {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "landfall listens");
        if let Some((_, rest)) = line.split_once("listening on tcp:127.0.0.1:") {
            break rest.split(';').next().expect("a port").to_owned();
        }
    };
    let start = Instant::now();
    send(scenario, &format!("tcp:127.0.0.1:{port}"));
    let mut text = String::new();
    child.stdout.take().expect("its report").read_to_string(&mut text).expect("text");
    let wall_s = start.elapsed().as_secs_f64();
    let _ = stderr.read_to_string(&mut line);
    assert!(child.wait().expect("landfall").success(), "{line}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"))
    };
    Cost {
        bytes: number("/wire/bytes") as u64,
        cpu_s: (number("/process/cpu-user-ns") + number("/process/cpu-system-ns")) / 1e9,
        wall_s,
    }
}

/// The synthetic source, once over all of memory.
pub(crate) fn send(scenario: &Scenario, uri: &str) {
    let status = Command::new(PROGRAM)
        .args(["send", uri, "--quiet", "--no-return-path", "--rounds", "1"])
        .args(["--ram", &format!("{}M", scenario.mib), "--zero", &scenario.zero.to_string()])
        .args(["--multifd", &scenario.channels.to_string()])
        .status()
        .expect("the source");
    assert!(status.success(), "the source: {status}");
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall");
