//! Reports of every status against `docs/schema/`.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::Run;
use crate::error::{Family, RunError};
use crate::report::digest::{add_digests, digest};
use crate::report::{SCHEMA_NAME, SCHEMA_VERSION, nothing_yet, query_receiver};

#[test]
fn reports_of_every_status_fit_the_schema_and_use_all_of_it() {
    let validator = validator();
    let mut seen = BTreeSet::new();
    let mut check = |report: &Value, status: &str| {
        assert_eq!(report["status"], status);
        let errors: Vec<String> = validator
            .iter_errors(report)
            .map(|error| format!("{}: {error}", error.instance_path))
            .collect();
        assert!(errors.is_empty(), "{status}: {errors:#?}");
        collect_members(report, &mut seen);
    };
    check(&nothing_yet(), "none");

    let run = Run::listen();
    check(&query_receiver(&run.migration), "setup");
    let mut source = run.source();
    run.arrive(&mut source);
    source.device_packet(0);
    check(&run.until(|report| report["live"]["now-window-ns"].is_u64()), "active");
    // It is on its way with others: the end does not wait for what nobody has announced.
    run.until(|report| report["device-packets"]["packets"] == 1);
    source.finish();
    run.migration.wait();
    let mut report = query_receiver(&run.migration);
    check(&report, "completed");
    let ram = run.migration.ended().unwrap().received.ram.as_ref().unwrap();
    add_digests(&mut report, &digest(ram));
    assert!(report["blocks"][0]["digest"].is_string());
    check(&report, "completed");

    let failed = Run::listen();
    let mut source = failed.source();
    failed.arrive(&mut source);
    source.vanish();
    failed.migration.wait();
    check(&query_receiver(&failed.migration), "failed");
    let nobody = Run::listen();
    nobody.receiver.stop();
    check(&query_receiver(&nobody.migration), "failed");
    let bug = Run::listen();
    bug.migration.run.fail(RunError::new(Family::Internal, "internal error"));
    bug.migration.wait();
    check(&query_receiver(&bug.migration), "failed");

    let mut known = BTreeSet::new();
    collect_properties(&schema(), &mut known);
    let unused: Vec<_> =
        known.difference(&seen).filter(|name| !MAY_LACK.contains(&&***name)).collect();
    assert!(unused.is_empty(), "in the schema, but in no report: {unused:?}");
}

#[test]
fn the_schema_refuses_a_member_it_does_not_know_and_a_wrong_status() {
    let validator = validator();
    let run = Run::listen();
    let good = query_receiver(&run.migration);
    assert!(validator.is_valid(&good));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut report = good.clone();
        change(&mut report);
        validator.is_valid(&report)
    };
    assert!(!changed(&|report| report["speed"] = json!(1)));
    assert!(!changed(&|report| report["wire"]["speed"] = json!(1)));
    assert!(!changed(&|report| report["wire"]["bytes"] = json!(-1)));
    assert!(!changed(&|report| report["status"] = json!("completed")), "has no latencies");
    assert!(!changed(&|report| report["status"] = json!("none")), "has figures");
    assert!(!changed(&|report| report["schema"]["version"] = json!(SCHEMA_VERSION + 1)));
}

#[test]
fn every_member_is_described_and_no_object_takes_others() {
    fn walk(schema: &Value, at: &str) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            schema.get("items").into_iter().for_each(|items| walk(items, at));
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "{at}");
        for (name, member) in properties {
            let at = format!("{at}.{name}");
            assert!(member["description"].as_str().is_some_and(|text| !text.is_empty()), "{at}");
            walk(member, &at);
        }
    }
    let schema = schema();
    walk(&schema, "");
    walk(&schema["$defs"]["histogram"], "histogram");
    assert_eq!(schema["properties"]["schema"]["properties"]["name"]["const"], SCHEMA_NAME);
    assert_eq!(schema["properties"]["schema"]["properties"]["version"]["const"], SCHEMA_VERSION);
}

#[test]
fn members_are_kebab_case() {
    let mut names = BTreeSet::new();
    collect_properties(&schema(), &mut names);
    for name in names.iter().filter(|name| !name.contains('.')) {
        let kebab = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(kebab, "{name}");
    }
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../docs/schema/x-query-receiver.schema.json"))
        .unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// Every member's name anywhere in `report`.
fn collect_members(report: &Value, seen: &mut BTreeSet<String>) {
    match report {
        Value::Object(members) => {
            for (name, member) in members {
                seen.insert(name.clone());
                collect_members(member, seen);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_members(item, seen)),
        _ => {}
    }
}

/// Every name that the schema allows.
fn collect_properties(schema: &Value, known: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            let names = members.get("properties").and_then(Value::as_object);
            known.extend(names.into_iter().flatten().map(|(name, _)| name.clone()));
            members.values().for_each(|member| collect_properties(member, known));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_properties(item, known)),
        _ => {}
    }
}

/// What depends on the host or on how it was asked.
const MAY_LACK: &[&str] = &[
    "abstract",
    "cid",
    "cipher-suite",
    "client",
    "cpu-model",
    "ipv6",
    "kernel.io_uring_disabled",
    "kernel.numa_balancing",
    "max-ram-bytes",
    "net.core.busy_poll",
    "net.ipv4.tcp_rmem",
    "path",
    "str",
    "tight",
    "tls",
    "transparent-hugepages",
    "vm.nr_hugepages",
    "vm.nr_overcommit_hugepages",
    "vm.zone_reclaim_mode",
];
