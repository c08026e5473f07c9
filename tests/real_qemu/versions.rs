//! `--qemu-version`: the whole program in the guise of each version, greeting and tables.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Process;
use crate::qmp::Qmp;
use crate::run;

#[test]
fn each_version_has_its_greeting_and_its_tables_and_10_0_is_the_usual_one() {
    for (version, triple) in [
        (Some("7.2"), [7, 2, 22]),
        (Some("10.0"), [10, 0, 13]),
        (Some("11.1"), [11, 1, 3]),
        (None, [10, 0, 13]),
    ] {
        let landfall = Landfall::start(version);
        let [major, minor, micro] = triple;
        let package = concat!("landfall ", env!("CARGO_PKG_VERSION"));
        let numbers = json!({ "micro": micro, "minor": minor, "major": major });
        assert_eq!(
            *landfall.qmp.greeting(),
            json!({ "QMP": {
                "version": { "qemu": numbers, "package": package },
                "capabilities": ["oob"],
            } })
        );
    }
}

#[test]
fn what_a_version_alone_has_is_in_its_tables_alone() {
    let [old, usual, new] = ["7.2", "10.0", "11.1"].map(|version| {
        let mut landfall = Landfall::start(Some(version));
        (landfall.capabilities(), landfall.parameters())
    });
    for (name, which) in [
        ("compress", [true, false, false]),
        ("block", [true, false, false]),
        ("zero-blocks", [true, true, false]),
        ("multifd", [true, true, true]),
        ("switchover-ack", [false, true, true]),
        ("dirty-limit", [false, true, true]),
        ("mapped-ram", [false, true, true]),
    ] {
        assert_eq!([&old, &usual, &new].map(|tables| tables.0.contains(name)), which, "{name}");
    }
    for (name, which) in [
        ("compress-level", [true, false, false]),
        ("block-incremental", [true, false, false]),
        ("multifd-channels", [true, true, true]),
        ("mode", [false, true, true]),
        ("direct-io", [false, true, true]),
        ("zero-page-detection", [false, true, true]),
        ("x-rdma-chunk-size", [false, false, true]),
        ("cpr-exec-command", [false, false, true]),
    ] {
        assert_eq!([&old, &usual, &new].map(|tables| tables.1.contains(name)), which, "{name}");
    }
}

#[test]
fn words_are_those_of_the_version_on_the_command_line() {
    for (version, channels, compress) in [
        ("7.2", "Parameter 'multifd_channels' expects a value between 1 and 255", true),
        ("10.0", "Parameter 'multifd_channels' expects a value between 1 and 255", false),
        ("11.1", "Option multifd-channels expects a value between 1 and 255", false),
    ] {
        let mut landfall = Landfall::start(Some(version));
        let mut ask = |command: &str, arguments: Value| {
            let request = json!({ "execute": command, "arguments": arguments });
            landfall.qmp.ask(&request, &[]).expect("an answer")
        };
        let answer = ask("migrate-set-parameters", json!({ "multifd-channels": 0 }));
        assert_eq!(answer["error"]["desc"], channels, "{version}");
        let list = json!([{ "capability": "compress", "state": true }]);
        let answer = ask("migrate-set-capabilities", json!({ "capabilities": list }));
        assert_eq!(answer.get("return").is_some(), compress, "{version}: {answer}");
    }
}

#[test]
fn a_version_that_there_is_not_is_refused_with_those_that_there_are() {
    for version in ["9.0", "11.0", "7.2.22", ""] {
        let scratch = run::scratch().expect("a directory");
        let arguments = ["receive", "defer", "--qemu-version", version];
        let log = scratch.path().join("landfall.log");
        let mut process = Process::start(program(), arguments, log).expect("landfall");
        let status = process.wait(Duration::from_secs(30)).expect("it ends");
        assert_eq!(status.code(), Some(2), "{version}");
        let text = process.log();
        assert!(text.contains("7.2, 10.0 and 11.1") || version.is_empty(), "{version}: {text}");
    }
}

/// One that waits for commands.
struct Landfall {
    qmp: Qmp,
    _process: Process,
    _scratch: tempfile::TempDir,
}

impl Landfall {
    fn start(version: Option<&str>) -> Self {
        let scratch = run::scratch().expect("a directory");
        let socket = scratch.path().join("qmp");
        let monitor = format!("unix:{},server=on,wait=off", socket.display());
        let mut arguments = vec!["receive", "defer", "--quiet", "--hugepages", "off", "--qmp"];
        arguments.push(&monitor);
        if let Some(version) = version {
            arguments.extend(["--qemu-version", version]);
        }
        let log = scratch.path().join("landfall.log");
        let mut process = Process::start(program(), arguments, log).expect("landfall");
        let qmp = Qmp::connect(&socket, &mut process).expect("its monitor");
        Self { qmp, _process: process, _scratch: scratch }
    }

    fn capabilities(&mut self) -> BTreeSet<String> {
        let answer = self.qmp.command("query-migrate-capabilities", json!({})).expect("an answer");
        let listed = answer.as_array().expect("a list").iter();
        listed.map(|item| item["capability"].as_str().expect("a name").to_owned()).collect()
    }

    fn parameters(&mut self) -> BTreeSet<String> {
        let answer = self.qmp.command("query-migrate-parameters", json!({})).expect("an answer");
        answer.as_object().expect("an object").keys().cloned().collect()
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_landfall"))
}
