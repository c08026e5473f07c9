//! Reports of every status against `docs/schema/`.

#[path = "../../../../tests/json_schema/held.rs"]
mod held;

use serde_json::{Value, json};

use super::Run;
use crate::error::{Family, RunError};
use crate::migration::Sink;
use crate::report::digest::{add_digests, digest};
use crate::report::{SCHEMA_NAME, SCHEMA_VERSION, nothing_yet, query_receiver};
use held::Held;

#[test]
fn reports_of_every_status_fit_the_schema_and_use_all_of_it() {
    let mut schema = schema();
    let mut check = |report: &Value, status: &str| {
        assert_eq!(report["status"], status);
        schema.hold(report, status);
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

    let dropped = Run::with(Sink::Discard);
    let mut source = dropped.source();
    dropped.arrive(&mut source);
    source.finish();
    dropped.migration.wait();
    check(&query_receiver(&dropped.migration), "completed");

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

    let unused = schema.unseen(MAY_LACK);
    assert!(unused.is_empty(), "in the schema, but in no report: {unused:?}");
}

#[test]
fn the_schema_refuses_a_member_it_does_not_know_and_a_wrong_status() {
    let schema = schema();
    let run = Run::listen();
    let good = query_receiver(&run.migration);
    assert!(schema.fits(&good));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut report = good.clone();
        change(&mut report);
        schema.fits(&report)
    };
    assert!(!changed(&|report| report["speed"] = json!(1)));
    assert!(!changed(&|report| report["wire"]["speed"] = json!(1)));
    assert!(!changed(&|report| report["wire"]["bytes"] = json!(-1)));
    assert!(!changed(&|report| report["status"] = json!("completed")), "has no latencies");
    assert!(!changed(&|report| report["status"] = json!("none")), "has figures");
    assert!(!changed(&|report| report["schema"]["version"] = json!(SCHEMA_VERSION + 1)));
}

#[test]
fn the_schema_is_strict_and_that_of_the_reports() {
    schema().is_strict(SCHEMA_NAME, SCHEMA_VERSION);
}

fn schema() -> Held {
    Held::new(include_str!("../../../../docs/schema/x-query-receiver.schema.json"))
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
