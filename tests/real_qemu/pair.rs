//! A real QEMU and landfall side by side, asked the same.

use std::os::fd::BorrowedFd;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::found;
use crate::process::Process;
use crate::qmp::Qmp;
use crate::run::{self, Programs};

/// A QEMU that has no machine, and landfall in its guise.
pub(crate) struct Pair {
    qemu: Qmp,
    ours: Qmp,
    _processes: [Process; 2],
    scratch: TempDir,
}

impl Pair {
    pub(crate) fn start(programs: &Programs, version: &str) -> Self {
        let scratch = run::scratch().expect("a directory");
        let at = |name: &str| scratch.path().join(name);
        let monitor = |name: &str| format!("unix:{},server=on,wait=off", at(name).display());
        let qemu = found::of_major(version, &programs.qemus).expect("it is there");
        let (theirs, ours) = (monitor("theirs"), monitor("ours"));
        let arguments = ["-M", "none", "-nodefaults", "-display", "none", "-S", "-incoming"];
        let arguments = arguments.into_iter().chain(["defer", "-qmp", &theirs]);
        let mut qemu = Process::start(qemu, arguments, at("qemu.log")).expect("QEMU");
        let arguments = ["receive", "defer", "--quiet", "--hugepages", "off", "--qemu-version"];
        let arguments = arguments.into_iter().chain([version, "--qmp", &ours]);
        let mut landfall =
            Process::start(&programs.landfall, arguments, at("landfall.log")).expect("landfall");
        let mut pair = Self {
            qemu: Qmp::connect(&at("theirs"), &mut qemu).expect("QEMU's monitor"),
            ours: Qmp::connect(&at("ours"), &mut landfall).expect("landfall's monitor"),
            _processes: [qemu, landfall],
            scratch,
        };
        pair.introductions_alike();
        pair
    }

    /// The greetings have the same members with the same values, and `query-version`
    /// tells the same again. Which micro release that QEMU is, and who made the
    /// package, is its own affair.
    fn introductions_alike(&mut self) {
        let [expected, found] = [&self.qemu, &self.ours].map(Qmp::greeting);
        assert_eq!(anonymous(found), anonymous(expected), "{found}, of QEMU {expected}");
        for monitor in [&mut self.qemu, &mut self.ours] {
            let greeting = monitor.greeting().clone();
            let version = monitor.command("query-version", json!({})).expect("an answer");
            assert_eq!(version, greeting["QMP"]["version"]);
        }
    }

    /// Has both listen, each on a socket of its own.
    pub(crate) fn listen(&mut self) {
        for (name, monitor) in [("in-theirs", &mut self.qemu), ("in-ours", &mut self.ours)] {
            let uri = format!("unix:{}", self.scratch.path().join(name).display());
            monitor.command("migrate-incoming", json!({ "uri": uri })).expect("it listens");
        }
    }

    /// Asks both, as [`answers_alike`](Self::answers_alike), but for what this QEMU
    /// refuses because its build or its host lacks something, and landfall takes: then
    /// nothing is returned, and the two stand differently.
    pub(crate) fn answers_alike_but_for_lacks(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Option<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let expected = self.qemu.ask(&request, &[]).expect("an answer");
        let found = self.ours.ask(&request, &[]).expect("an answer");
        let text = expected["error"]["desc"].as_str().unwrap_or_default();
        if found != expected && LACKS.iter().any(|lack| text.starts_with(lack)) {
            return None;
        }
        assert_eq!(found, expected, "{request}");
        Some(found)
    }

    /// Asks both; numbers of descriptors are their own affair.
    pub(crate) fn answers_alike(
        &mut self,
        command: &str,
        arguments: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Value {
        let request = json!({ "execute": command, "arguments": arguments });
        let [expected, found] = [&mut self.qemu, &mut self.ours]
            .map(|monitor| without_numbers(monitor.ask(&request, fds).expect("an answer")));
        assert_eq!(found, expected, "{request}");
        found
    }

    /// Asks both for something that is listed: the members come in the same order.
    pub(crate) fn answers_alike_in_order(&mut self, command: &str) {
        let answer = self.answers_alike(command, json!({}), &[]);
        let request = json!({ "execute": command });
        let expected = self.qemu.ask(&request, &[]).expect("an answer");
        assert_eq!(answer.to_string(), expected.to_string(), "{request}");
    }

    /// Has both make an object, and take it away again. What landfall does not have it
    /// refuses where QEMU makes one, and only there.
    pub(crate) fn object(&mut self, kind: &str, properties: &Value) {
        let mut arguments = json!({ "qom-type": kind, "id": "t" });
        for (name, value) in properties.as_object().expect("an object") {
            arguments[name] = value.clone();
        }
        let request = json!({ "execute": "object-add", "arguments": arguments });
        let expected = self.qemu.ask(&request, &[]).expect("an answer");
        let found = self.ours.ask(&request, &[]).expect("an answer");
        let delete = json!({ "execute": "object-del", "arguments": { "id": "t" } });
        let is_made = expected.get("return").is_some();
        if is_made && ["tls-creds-psk", "tls-creds-anon"].contains(&kind) {
            let text = found["error"]["desc"].as_str().unwrap_or_default();
            assert!(text.starts_with(&format!("{kind} is not supported: ")), "{request}: {found}");
            self.qemu.ask(&delete, &[]).expect("an answer");
            return;
        }
        assert_eq!(found, expected, "{request}");
        self.answers_alike("object-del", json!({ "id": "t" }), &[]);
    }
}

/// A greeting without what tells one build of a version from another.
fn anonymous(greeting: &Value) -> Value {
    let mut greeting = greeting.clone();
    for member in ["/QMP/version/qemu/micro", "/QMP/version/package"] {
        let member = greeting.pointer_mut(member).expect("every greeting has it");
        // Only its kind is left.
        *member = if member.is_string() { "".into() } else { member.is_u64().into() };
    }
    greeting
}

fn without_numbers(mut answer: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Object(members) => {
                if let Some(fd) = members.get_mut("fd") {
                    *fd = Value::Null;
                }
                members.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    strip(&mut answer);
    answer
}

/// How a refusal begins that comes of what a QEMU was built with or where it runs.
const LACKS: [&str; 5] = [
    // The compressions of accelerators have libraries that a distribution leaves out:
    // landfall decodes them in software.
    "Parameter 'multifd-compression' does not accept value 'qpl'",
    "Parameter 'multifd-compression' does not accept value 'uadk'",
    "Parameter 'multifd-compression' does not accept value 'qatzip'",
    // userfaultfd(2), which this process's user may not have: seen of 7.2 without
    // CAP_SYS_PTRACE. Landfall takes both capabilities without it.
    "Postcopy is not supported",
    "Background-snapshot is not supported by host kernel",
];
