//! migrate-incoming: what it refuses, and that it may be tried again.

use std::io::{Read, Write, pipe};

use super::*;
use crate::settings::QemuVersion;

#[test]
fn what_cannot_be_opened_is_refused_in_qemus_words_and_may_be_tried_again() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let inet = json!({"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "0"});
    let main = json!({"channel-type": "main", "addr": inet});
    let neither = "need either 'uri' or 'channels' argument";
    for (arguments, text) in [
        (json!({"uri": "bogus:1"}), "unknown migration protocol: bogus:1"),
        (json!({"uri": "defer"}), "unknown migration protocol: defer"),
        (json!({"uri": "tcp:"}), "error parsing address ''"),
        (json!({"uri": "unix:"}), "invalid Unix socket address"),
        (json!({"uri": "fd:none"}), "File descriptor named 'none' has not been found"),
        (json!({}), neither),
        (json!({"channels": []}), neither),
        (json!({"uri": "tcp:127.0.0.1:0", "channels": [main]}), neither),
        (
            json!({"channels": [main, main]}),
            "Channel list must have only one entry, for type 'main'",
        ),
        (json!({"uri": "tcp:127.0.0.1:0", "more": 1}), "Parameter 'more' is unexpected"),
        (json!({"uri": 1}), "Invalid parameter type for 'uri', expected: string"),
        (
            json!({"uri": "tcp:127.0.0.1:0", "exit-on-error": "no"}),
            "Invalid parameter type for 'exit-on-error', expected: boolean",
        ),
    ] {
        assert_eq!(client.error("migrate-incoming", arguments.clone()), text, "{arguments}");
        assert_eq!(client.query("query-migrate"), json!({}), "{arguments}");
    }
    let unix = client.error("migrate-incoming", json!({"uri": "unix:/nowhere/at/all"}));
    assert!(unix.starts_with("Failed to bind socket to /nowhere/at/all"), "{unix}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("tcp:{}", taken.local_addr().unwrap());
    client.error("migrate-incoming", json!({"uri": uri}));
    drop(taken);
    assert_eq!(client.ok("migrate-incoming", json!({"uri": uri})), json!({}));
}

#[test]
fn a_listener_shows_where_it_listens_and_setup_comes_before_the_reply() {
    let rig = Rig::new(MonitorConfig::default());
    let (mut client, mut other) = (rig.client(), rig.client());
    client.set("events", true);
    other.heard();
    assert_eq!(client.query("query-migrate"), json!({}));
    assert_eq!(brief(&client.listen(json!({}))), ["MIGRATION setup", "{}"]);
    assert_eq!(brief(&other.heard()), ["MIGRATION setup"], "every monitor is told");
    let shown = other.query("query-migrate");
    assert_eq!(shown["status"], "setup");
    let address = &shown["socket-address"][0];
    assert_eq!((&address["type"], &address["host"]), (&json!("inet"), &json!("127.0.0.1")));
    assert!(address["port"].as_str().unwrap().parse::<u16>().unwrap() > 0);
    let status = json!({"status": "inmigrate", "running": false});
    assert_eq!(other.query("query-status"), status);
    let again = "The incoming migration has already been started";
    assert_eq!(brief(&other.listen(json!({}))), [again]);
    assert_eq!(other.query("query-migrate"), shown);
}

#[test]
fn a_channel_says_what_a_uri_says() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let inet = json!({"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "0"});
    let channels = json!([{"channel-type": "main", "addr": inet}]);
    client.ok("migrate-incoming", json!({"channels": channels}));
    client.connect();
}

#[test]
fn without_the_capability_no_migration_event_is_sent_but_the_one_of_7_2() {
    for (version, expected) in [
        (QemuVersion::V7_2, &["MIGRATION setup", "{}"][..]),
        (QemuVersion::V10_0, &["{}"][..]),
        (QemuVersion::V11_1, &["{}"][..]),
    ] {
        let rig = Rig::new(MonitorConfig { version, ..MonitorConfig::default() });
        let mut client = rig.client();
        assert_eq!(brief(&client.listen(json!({}))), expected, "{version}");
        drop(client.connect());
        rig.receiver.stop();
        assert_eq!(brief(&client.heard()), [""; 0], "{version}");
    }
}

#[test]
fn the_7_2_command_has_a_uri_and_nothing_else() {
    let rig = Rig::new(MonitorConfig { version: QemuVersion::V7_2, ..MonitorConfig::default() });
    let mut client = rig.client();
    let refused = "Parameter 'uri' is missing";
    assert_eq!(client.error("migrate-incoming", json!({"channels": []})), refused);
    let refused = "Parameter 'exit-on-error' is unexpected";
    assert_eq!(brief(&client.listen(json!({"exit-on-error": false}))), [refused]);
}

#[test]
fn settings_that_an_address_cannot_meet_are_refused() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let mut refused = |capability: &str, uri: &str| {
        client.set(capability, true);
        let text = client.error("migrate-incoming", json!({"uri": uri}));
        client.set(capability, false);
        text
    };
    let several = "Migration requires multi-channel URIs (e.g. tcp)";
    assert_eq!(refused("multifd", "fd:mig"), several);
    assert_eq!(refused("multifd", "exec:true"), several);
    let seekable = "Migration requires seekable transport (e.g. file)";
    assert_eq!(refused("mapped-ram", "tcp:127.0.0.1:0"), seekable);
    client.ok("migrate-set-parameters", json!({"tls-creds": "tls0"}));
    let refused = brief(&client.listen(json!({})));
    assert_eq!(refused, ["No TLS credentials with id 'tls0'"], "never in the clear instead");
    client.ok("migrate-set-parameters", json!({"tls-creds": ""}));
    assert_eq!(brief(&client.listen(json!({}))), ["{}"]);
}

#[test]
fn a_descriptor_handed_over_is_received_from_and_no_longer_listed() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let (read, mut write) = pipe().unwrap();
    let getfd = json!({"execute": "getfd", "arguments": {"fdname": "fd-mig"}}).to_string();
    client.0.send_with_fds(getfd, vec![read.into()]);
    client.ok("migrate-incoming", json!({"uri": "fd:fd-mig"}));
    assert_eq!(
        client.error("closefd", json!({"fdname": "fd-mig"})),
        "File descriptor named 'fd-mig' not found"
    );
    write.write_all(&stream::whole("paused")).unwrap();
    drop(write);
    rig.wait();
    assert_eq!(client.query("query-migrate")["status"], "completed");
}

#[test]
fn a_plain_file_cut_anywhere_is_told_as_such_and_the_whole_one_is_taken_then() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved");
    let whole = stream::whole("paused");
    let mut receive = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        client.ok("migrate-incoming", json!({"uri": format!("file:{}", path.display())}));
        rig.wait();
        client.query("query-migrate")
    };
    for cut in 4..whole.len() {
        let answer = receive(&whole[..cut]);
        if whole[..cut].ends_with(b"\x7e\0\0\0\x02\0") {
            // As whole as what a source without descriptions writes.
            assert_eq!(answer["status"], "completed", "cut at {cut}");
            continue;
        }
        let why = answer["error-desc"].as_str().unwrap_or_default();
        assert!(why.contains("or its save is not finished"), "cut at {cut}: {answer}");
    }
    assert_eq!(receive(&whole)["status"], "completed");
    // Of no source that still writes, but of something else.
    assert_eq!(receive(&[&whole[..], b"x"].concat())["status"], "failed");
    assert_eq!(receive(b"no migration")["status"], "failed");
    assert_eq!(receive(&whole)["status"], "completed");
}

#[test]
fn garbage_on_the_listener_disturbs_nothing() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.set("events", true);
    client.listen(json!({}));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", b"QE"] {
        let mut stray = client.connect();
        stray.write_all(garbage).unwrap();
        // Either side may be the first to close it.
        let _ = stray.shutdown(std::net::Shutdown::Write);
        stray.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stray.read(&mut [0]);
    }
    let run = rig.receiver.current().unwrap();
    let strays = || run.run.strays.load(std::sync::atomic::Ordering::Relaxed);
    until("three strays are counted", || strays() >= 3);
    assert_eq!(client.query("query-migrate")["status"], "setup");
    assert_eq!(brief(&client.heard()), [""; 0]);
    let mut source = client.connect();
    source.write_all(&stream::whole("running")).unwrap();
    drop(source);
    rig.wait();
    assert_eq!(client.query("query-migrate")["status"], "completed");
}

#[test]
fn a_query_is_answered_while_a_run_is_being_started() {
    let (open, gate) = std::sync::mpsc::channel();
    let gate = Mutex::new(gate);
    // The end of the first run is held up, and with it the start of the second.
    let rig = Rig::with_exit(MonitorConfig::default(), move |_| {
        gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    });
    let mut client = rig.client();
    client.set("events", true);
    client.listen(json!({"exit-on-error": true}));
    client.connect().write_all(b"QEVM").unwrap();
    assert_eq!(rig.ended.recv_timeout(PATIENCE).unwrap(), "exit 1");
    client.heard();
    let mut starting = rig.client();
    thread::scope(|scope| {
        let started = scope.spawn(move || starting.listen(json!({})));
        until("the second run is being started", || rig.monitor.destination.state().opening);
        let late = "Multifd must be set before incoming starts";
        assert_eq!(brief(&client.set("multifd", true)), [late]);
        let again = "The incoming migration has already been started";
        assert_eq!(brief(&client.listen(json!({}))), [again]);
        for command in ["query-migrate", "x-query-receiver", "query-memory-size-summary"] {
            client.query(command);
        }
        assert_eq!(client.query("query-migrate")["status"], "failed");
        open.send(()).unwrap();
        assert_eq!(brief(&started.join().unwrap()), ["MIGRATION setup", "{}"]);
    });
    assert_eq!(client.query("query-migrate")["status"], "setup");
}
