//! Runs from start to end, as the monitor tells them.

use std::io::Write;

use landfall_pagepool::{BlockName, BlockRequest, MemoryConfig, Pool};

use super::*;

#[test]
fn a_completed_run_leaves_the_guest_paused() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.set("events", true);
    client.listen(json!({}));
    receive(&rig, &mut client, "running");
    assert_eq!(brief(&client.heard()), ["MIGRATION active", "MIGRATION completed"]);
    assert_eq!(client.query("query-status"), json!({"status": "paused", "running": false}));
    let shown = client.query("query-migrate");
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["ram"]["duplicate"], 1);
    assert_eq!(client.query("query-memory-size-summary")["base-memory"], 0x1000);
    let report = client.query("x-query-receiver");
    assert_eq!((&report["status"], &report["run-id"]), (&json!("completed"), &json!(1)));
}

#[test]
fn the_page_size_is_the_machines_or_what_postcopy_advise_says() {
    for (page, machine, is_advised) in
        [(8192, "sun4u", false), (8192, "clipper", false), (16384, "virt-10.0", true)]
    {
        let rig = Rig::new(MonitorConfig::default());
        let mut client = rig.client();
        client.listen(json!({}));
        client.connect().write_all(&stream::of_pages(page, machine, is_advised)).unwrap();
        rig.wait();
        let report = client.query("x-query-receiver");
        assert_eq!(report["status"], "completed", "{machine}: {report}");
        let pages = &report["pages"];
        let counts = [
            "page-bytes",
            "ram-pages",
            "normal-pages",
            "zero-pages",
            "unique-pages",
            "resent-pages",
        ];
        let counts = counts.map(|name| pages[name].as_u64().unwrap());
        assert_eq!(counts, [page.into(), 3, 1, 2, 3, 0], "{machine}");
        let run = rig.receiver.current().unwrap();
        let ram = run.run.ram().expect("it has RAM");
        let mut content = vec![0; 3 * usize::from(page)];
        ram.iter().next().unwrap().read(0, &mut content);
        for (at, byte) in content.into_iter().enumerate() {
            let in_page = at.checked_sub(page.into()).filter(|at| *at < page.into());
            assert_eq!(byte, in_page.map_or(0, |at| (at % 251) as u8), "{machine}: {at:#x}");
        }
    }
}

#[test]
fn cont_after_completion_and_stop_are_told_by_their_events() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.listen(json!({}));
    receive(&rig, &mut client, "running");
    for (command, said) in [
        ("cont", &["RESUME", "{}"][..]),
        ("cont", &["{}"][..]),
        ("stop", &["STOP", "{}"][..]),
        ("stop", &["{}"][..]),
        ("cont", &["RESUME", "{}"][..]),
    ] {
        assert_eq!(brief(&client.send(command, json!({}))), said);
    }
    assert_eq!(client.query("query-status"), json!({"status": "running", "running": true}));
    client.listen(json!({}));
    assert_eq!(client.query("query-status"), json!({"status": "inmigrate", "running": false}));
}

#[test]
fn cont_before_completion_resumes_at_completion() {
    for (run_state, events, status) in [
        ("running", &["MIGRATION active", "RESUME", "MIGRATION completed"][..], "running"),
        ("paused", &["MIGRATION active", "MIGRATION completed"][..], "paused"),
    ] {
        let rig = Rig::new(MonitorConfig::default());
        let mut client = rig.client();
        client.set("events", true);
        client.listen(json!({}));
        assert_eq!(brief(&client.send("cont", json!({}))), ["{}"]);
        assert_eq!(client.query("query-status")["status"], "inmigrate");
        receive(&rig, &mut client, run_state);
        assert_eq!(brief(&client.heard()), events);
        assert_eq!(client.query("query-status")["status"], status);
    }
}

#[test]
fn stop_while_nothing_runs_is_accepted_without_an_event() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    assert_eq!(brief(&client.send("cont", json!({}))), ["{}"]);
    assert_eq!(brief(&client.send("stop", json!({}))), ["{}"]);
    client.listen(json!({}));
    receive(&rig, &mut client, "running");
    assert_eq!(client.query("query-status")["status"], "paused");
}

#[test]
fn a_failed_run_is_told_and_the_next_one_begins_from_nothing() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.set("events", true);
    client.listen(json!({}));
    lose(&rig, &mut client);
    let events = brief(&client.heard());
    assert_eq!(events.last().map(String::as_str), Some("MIGRATION failed"), "{events:?}");
    let shown = client.query("query-migrate");
    assert_eq!(shown["status"], "failed");
    assert!(!shown["error-desc"].as_str().unwrap().is_empty());
    assert_eq!(client.query("query-status"), json!({"status": "inmigrate", "running": false}));
    assert_eq!(client.query("x-query-receiver")["run-id"], 1);
    assert_eq!(brief(&client.listen(json!({}))), ["MIGRATION setup", "{}"]);
    let shown = client.query("query-migrate");
    assert_eq!((&shown["status"], &shown["error-desc"]), (&json!("setup"), &Value::Null));
    receive(&rig, &mut client, "running");
    assert_eq!(client.query("x-query-receiver")["run-id"], 2);
    // And after a completed one, too.
    assert_eq!(brief(&client.listen(json!({}))).last().unwrap(), "{}");
    receive(&rig, &mut client, "running");
    assert!(rig.ended.try_recv().is_err(), "exit-on-error is off unless asked for");
}

#[test]
fn a_bug_of_our_own_is_told_and_the_next_run_begins_from_nothing() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.set("events", true);
    client.listen(json!({}));
    // RAM that no source has told: main finds it when its source tells some.
    let name = BlockName::parse(b"nobody's").unwrap();
    let pool = Pool::open(&MemoryConfig::default(), &|_, _| {}).unwrap();
    let ram = pool.sketch(&[BlockRequest { name, bytes: 4096 }], 4096).unwrap();
    rig.receiver.current().unwrap().run.set_ram(Arc::new(ram));
    client.connect().write_all(&stream::whole("running")).unwrap();
    rig.wait();
    let events = brief(&client.heard());
    assert_eq!(events.last().map(String::as_str), Some("MIGRATION failed"), "{events:?}");
    let text = "internal error, a bug in landfall: thread main-stream panicked: RAM blocks come \
                once";
    assert_eq!(client.query("query-migrate")["error-desc"], text);
    let report = client.query("x-query-receiver");
    assert_eq!(
        (&report["status"], &report["error"]["family"]),
        (&json!("failed"), &json!("internal"))
    );
    assert_eq!(brief(&client.listen(json!({}))), ["MIGRATION setup", "{}"]);
    receive(&rig, &mut client, "running");
}

#[test]
fn exit_on_error_ends_the_process_with_1_after_the_event() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.set("events", true);
    client.listen(json!({"exit-on-error": true}));
    client.connect().write_all(b"QEVM").unwrap();
    assert_eq!(rig.ended.recv_timeout(PATIENCE).unwrap(), "exit 1");
    let events = brief(&client.heard());
    assert_eq!(events.last().map(String::as_str), Some("MIGRATION failed"), "{events:?}");
    rig.wait();
    // It was the wish of that run alone.
    client.listen(json!({}));
    lose(&rig, &mut client);
    assert!(rig.ended.try_recv().is_err());
}

#[test]
fn a_run_of_the_command_line_is_one_like_any_other() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let address = crate::listen::Address::parse("tcp:127.0.0.1:0").unwrap();
    drop(rig.monitor.start(std::slice::from_ref(&address)).unwrap());
    assert_eq!(client.query("query-migrate")["status"], "setup");
    let again = "The incoming migration has already been started";
    assert_eq!(brief(&client.listen(json!({}))), [again]);
    assert!(rig.monitor.start(&[address]).is_err());
    receive(&rig, &mut client, "running");
    assert_eq!(brief(&client.listen(json!({}))), ["{}"]);
}

/// Has the run under way receive the smallest migration.
fn receive(rig: &Rig, client: &mut Client, run_state: &str) {
    let mut source = client.connect();
    source.write_all(&stream::whole(run_state)).unwrap();
    drop(source);
    rig.wait();
    let error = rig.receiver.current().and_then(|run| run.ended().unwrap().error.clone());
    assert_eq!(error, None);
}

/// Has the run under way lose its source.
fn lose(rig: &Rig, client: &mut Client) {
    client.connect().write_all(b"QEVM").unwrap();
    rig.wait();
}
