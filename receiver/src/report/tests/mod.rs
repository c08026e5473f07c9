//! Reports of whole runs: a receiver on loopback, fed by a small source.

mod in_files;
mod schema;
mod source;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use landfall_pagepool::{Hugepages, MemoryConfig};
use serde_json::{Value, json};

use super::{query_migrate, query_receiver, summary};
use crate::clock::{NS_PER_S, now_ns};
use crate::error::RunError;
use crate::listen::Address;
use crate::migration::Sink;
use crate::receiver::{Incoming, Migration, Receiver, ReceiverConfig};
use crate::status::Status;
use source::{BIOS_BYTES, CHANNELS, MEM_BYTES, Packet, Source, VMDESC};

/// A run on its way, with the receiver that it belongs to.
struct Run {
    receiver: Receiver,
    migration: Arc<Migration>,
}

impl Run {
    fn listen() -> Self {
        Self::with(Sink::Ram)
    }

    fn with(sink: Sink) -> Self {
        let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let config =
            ReceiverConfig { memory, sink, readers: Some(CHANNELS), ..ReceiverConfig::default() };
        let receiver = Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).unwrap();
        let address = Address::parse("tcp:127.0.0.1:0").unwrap();
        let incoming = Incoming { channels: Some(CHANNELS as u8), ..Incoming::default() };
        let migration = receiver.start(&[address], incoming, &mut |_| None).unwrap();
        Self { receiver, migration }
    }

    fn source(&self) -> Source {
        let port = self.migration.socket_address[0]["port"].as_str().unwrap();
        Source::begin(port.parse().unwrap())
    }

    /// Waits until a report fulfils `wanted`.
    fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let report = query_receiver(&self.migration);
            if wanted(&report) {
                return report;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "never came: {report:#}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends what the tests of numbers expect, in two rounds.
    fn arrive(&self, source: &mut Source) {
        // Page 3 is full of zeros though sent in full.
        source.packet(
            0,
            Packet { normal: &[(0, 7), (1, 8), (3, 0)], zero: &[10, 11], ..Packet::default() },
        );
        source.packet(1, Packet { normal: &[(2, 9)], ..Packet::default() });
        source.round();
        // Page 1 again, on another channel; page 0 is zero now.
        source.packet(1, Packet { normal: &[(1, 5)], zero: &[0, 10], ..Packet::default() });
        self.until(|report| {
            report["pages"]["normal-pages"] == 5 && report["pages"]["zero-pages"] == 4
        });
    }
}

#[test]
fn a_completed_run_is_told_number_for_number() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    source.finish();
    assert_eq!(run.migration.wait().error, None);

    let report = query_receiver(&run.migration);
    let counts = |of: &Value| {
        PAGE_COUNTS.map(|name| of[name].as_u64().unwrap_or_else(|| panic!("{name} in {of:#}")))
    };
    // normal, zero, unique, resent, written, skipped, sent full
    assert_eq!(counts(&report["pages"]), [5, 4, 6, 3, 1, 3, 1]);
    assert_eq!(counts(&report["blocks"][0]), [5, 4, 6, 3, 1, 3, 1]);
    assert_eq!(counts(&report["blocks"][1]), [0; 7]);
    assert_eq!(report["pages"]["ram-pages"], 66);
    assert_eq!(report["blocks"][1]["file"], "%2From%40x.ram");
    assert_eq!(report["wire"]["packets"], 9);
    assert_eq!(report["wire"]["sync-packets"], 6);
    let channel_bytes = 2 * 64 + 9 * 1344 + 5 * 4096;
    assert_eq!(report["wire"]["channel-bytes"], channel_bytes);
    let by = |list: &str, name: &str| -> u64 {
        report[list].as_array().unwrap().iter().map(|one| one[name].as_u64().unwrap()).sum()
    };
    for list in ["channels", "readers"] {
        assert_eq!((by(list, "wire-bytes"), by(list, "packets")), (channel_bytes, 9), "{list}");
        assert_eq!((by(list, "normal-pages"), by(list, "zero-pages")), (5, 4), "{list}");
    }
    // What was copied with its header took time too.
    assert!(by("channels", "page-receive-ns") > 0);
    assert_eq!((by("channels", "decompress-ns"), by("channels", "decrypt-ns")), (0, 0));
    let rounds = report["rounds"].as_array().unwrap();
    let of_round =
        |name: &str| rounds.iter().map(|r| r[name].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(of_round("normal-pages"), [0, 4, 1]);
    assert_eq!(of_round("zero-pages"), [0, 2, 2]);
    assert_eq!(report["latencies"]["packet"]["count"], 3);
    assert_eq!(report["latencies"]["sync-wait"]["count"], 6);
    // From the first section to the end of the description.
    assert_eq!(report["wire"]["device-state-bytes"], 183 + 5 + VMDESC.len());
    assert_eq!(report["guest"]["machine"], "pc-q35-10.0");
    assert_eq!(report["guest"]["run-state"], "paused");
    assert_eq!(report["guest"]["sync-mode"], "flush");
    assert_eq!(report["guest"]["device-sections"][0]["body-bytes"], 24);
    assert!(report["channels"][1]["tcp"].as_array().is_some_and(|samples| !samples.is_empty()));

    let answer = query_migrate(Some(&run.migration));
    assert_eq!(report["query-migrate"], answer);
    let names: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["status", "total-time", "ram"]);
    let ram = &answer["ram"];
    assert_eq!((&ram["total"], &ram["remaining"]), (&json!(MEM_BYTES + BIOS_BYTES), &json!(0)));
    assert_eq!((&ram["normal"], &ram["duplicate"]), (&json!(5), &json!(4)));
    assert!(answer["total-time"].as_u64() >= Some(1));

    let short = summary(&run.migration);
    assert_eq!((short.status, short.rounds, short.channels), (Status::Completed, 3, CHANNELS));
    assert_eq!(short.wire_bytes, report["wire"]["bytes"].as_u64().unwrap());
    assert!(short.switchover_to_loaded_ns.is_some() && short.cpu_ns > 0);
}

#[test]
fn of_pages_that_are_dropped_nothing_is_told_but_that_they_came() {
    let run = Run::with(Sink::Discard);
    let mut source = run.source();
    run.arrive(&mut source);
    source.finish();
    assert_eq!(run.migration.wait().error, None);
    let report = query_receiver(&run.migration);
    for of in [&report["pages"], &report["blocks"][0]] {
        let counts = PAGE_COUNTS.map(|name| of.get(name).and_then(Value::as_u64));
        assert_eq!(counts, [Some(5), Some(4), Some(6), Some(3), None, None, None], "{of:#}");
    }
    let pages = summary(&run.migration).pages;
    assert_eq!((pages.zeros, pages.zero_skipped()), (None, None));
}

#[test]
fn phases_of_a_completed_run_come_in_order() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    source.finish();
    run.migration.wait();
    let phases = &query_receiver(&run.migration)["phases"];
    let order = [
        "main-came-ns",
        "connected-ns",
        "first-byte-ns",
        "switchover-start-ns",
        "ram-done-ns",
        "device-state-done-ns",
        "completed-ns",
    ];
    let times =
        order.map(|name| phases[name].as_u64().unwrap_or_else(|| panic!("{name}: {phases:#}")));
    assert!(times.is_sorted(), "{phases:#}");
    assert!(phases.get("failed-ns").is_none());
}

#[test]
fn what_a_query_tells_of_an_ended_run_never_changes() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    source.finish();
    run.migration.wait();
    let without_host = || {
        let mut report = query_receiver(&run.migration);
        report.as_object_mut().unwrap().remove("environment");
        report
    };
    let first = without_host();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(without_host(), first);
}

#[test]
fn a_listening_run_has_an_address_and_no_figures() {
    let run = Run::listen();
    let answer = query_migrate(Some(&run.migration));
    let names: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["status", "socket-address"]);
    assert_eq!(answer["status"], "setup");
    assert_eq!(query_migrate(None), json!({}));
}

#[test]
fn an_active_run_tells_what_remains() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    let answer = query_migrate(Some(&run.migration));
    let names: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["status", "socket-address", "total-time", "ram"]);
    assert_eq!(answer["status"], "active");
    assert_eq!(answer["ram"]["remaining"], MEM_BYTES + BIOS_BYTES - 6 * 4096);
    source.finish();
    run.migration.wait();
}

#[test]
fn rates_now_come_with_their_window_while_a_run_goes_on() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    let live = |report: &Value, name: &str| report["live"][name].as_f64();
    let moved = run.until(|report| live(report, "pages-per-second-now").is_some());
    assert!(live(&moved, "now-window-ns") > Some(0.0));
    // A second later nothing has come: that rate is 0, not absent.
    let silent = run.until(|report| {
        live(report, "pages-per-second-now") == Some(0.0)
            && live(report, "now-window-ns") >= Some(1e9)
    });
    assert!(live(&silent, "last-activity-age-ns") >= Some(1e9), "{silent:#}");
    source.finish();
    run.migration.wait();
    assert!(query_receiver(&run.migration).get("live").is_none());
}

#[test]
fn memory_that_no_pool_held_is_told_while_the_run_goes_on() {
    let run = Run::listen();
    let before = query_receiver(&run.migration);
    assert_eq!((&before["memory"]["bytes"], before["memory"].get("backend")), (&json!(0), None));
    let mut source = run.source();
    run.arrive(&mut source);
    let memory = &query_receiver(&run.migration)["memory"];
    assert!(memory["bytes"].as_u64() >= Some(MEM_BYTES + BIOS_BYTES), "{memory:#}");
    assert_eq!(memory["backend"], "4K");
    source.vanish();
    run.migration.wait();
}

#[test]
fn bytes_that_complete_nothing_are_activity_too() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    let channel = &run.migration.run.channels()[0];
    // As the watchdog says it of a channel that trickles; again, since it may say otherwise itself.
    run.until(|report| {
        channel.moved_ns.set(now_ns() + 60 * NS_PER_S);
        let reader = &report["readers"][channel.reader];
        let ages = [&report["live"], &report["channels"][0], reader];
        ages.iter().all(|of| of["last-activity-age-ns"] == 0)
    });
    source.vanish();
    run.migration.wait();
}

#[test]
fn a_failed_run_keeps_its_counters_and_the_first_error() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    run.migration.run.fail(RunError::stopped());
    source.vanish();
    run.migration.wait();
    let answer = query_migrate(Some(&run.migration));
    assert_eq!(
        (&answer["status"], &answer["error-desc"]),
        (&json!("failed"), &json!("stopped by operator"))
    );
    assert!(answer.get("socket-address").is_none());
    assert_eq!(answer["ram"]["normal"], 5);
    assert_eq!(answer["ram"]["remaining"], MEM_BYTES + BIOS_BYTES - 6 * 4096);
    let report = query_receiver(&run.migration);
    assert_eq!(report["error"]["family"], "stopped");
    assert!(report.get("guest").is_none() && report.get("live").is_none());
    assert!(report["phases"]["failed-ns"].is_u64());
}

#[test]
fn a_run_that_failed_before_anybody_came_has_no_figures() {
    let run = Run::listen();
    run.receiver.stop();
    let answer = query_migrate(Some(&run.migration));
    let names: Vec<_> = answer.as_object().unwrap().keys().collect();
    // Nobody listens any more.
    assert_eq!(names, ["status", "error-desc"]);
}

#[test]
fn the_next_run_starts_from_zero_with_its_own_number() {
    let run = Run::listen();
    let mut source = run.source();
    run.arrive(&mut source);
    source.vanish();
    run.migration.wait();
    let Run { receiver, migration } = run;
    drop(migration);
    let address = Address::parse("tcp:127.0.0.1:0").unwrap();
    let incoming = Incoming { channels: Some(CHANNELS as u8), ..Incoming::default() };
    let migration = receiver.start(&[address], incoming, &mut |_| None).unwrap();
    let report = query_receiver(&migration);
    assert_eq!((&report["run-id"], &report["status"]), (&json!(2), &json!("setup")));
    assert_eq!(
        (&report["wire"]["bytes"], &report["pages"]["normal-pages"]),
        (&json!(0), &json!(0))
    );
    assert!(report.get("blocks").is_none() && report.get("error").is_none());
}

const PAGE_COUNTS: [&str; 7] = [
    "normal-pages",
    "zero-pages",
    "unique-pages",
    "resent-pages",
    "zero-written-pages",
    "zero-skipped-pages",
    "zero-sent-full-pages",
];
