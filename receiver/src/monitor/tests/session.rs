//! Who answers, how the process ends, and the table of commands.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use landfall_qmp::Server;
use serde_json::{Value, json};

use super::*;
use crate::monitor::{COMMANDS, ShutdownCause};
use crate::settings::QemuVersion;

#[test]
fn the_greeting_is_of_the_version_imitated_and_names_landfall() {
    for version in QemuVersion::ALL {
        let rig = Rig::new(MonitorConfig { version, ..MonitorConfig::default() });
        let handler: Arc<dyn Handler> = Arc::<Monitor>::clone(&rig.monitor);
        let greeting = parse(&Conversation::new(handler, &rig.events).receive());
        let (major, minor, micro) = version.triple();
        let package = format!("landfall {}", env!("CARGO_PKG_VERSION"));
        let qemu = json!({"micro": micro, "minor": minor, "major": major});
        let told = json!({"qemu": qemu, "package": package});
        assert_eq!(greeting[0]["QMP"]["version"], told);
        assert_eq!(rig.client().query("query-version"), told);
    }
}

#[test]
fn the_guest_is_named_as_the_command_line_names_it() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    assert_eq!(client.query("query-name"), json!({}));
    let none = json!({"UUID": "00000000-0000-0000-0000-000000000000"});
    assert_eq!(client.query("query-uuid"), none);
    let uuid = "12345678-1234-5678-1234-56789abcdef0";
    let rig = Rig::new(MonitorConfig {
        name: Some("big".into()),
        uuid: Some(uuid.parse().unwrap()),
        ..MonitorConfig::default()
    });
    let mut client = rig.client();
    assert_eq!(client.query("query-name"), json!({"name": "big"}));
    assert_eq!(client.query("query-uuid"), json!({"UUID": uuid}));
    assert_eq!(client.query("query-kvm"), json!({"enabled": true, "present": true}));
    let memory = json!({"base-memory": 0, "plugged-memory": 0});
    assert_eq!(client.query("query-memory-size-summary"), memory);
    assert_eq!(client.query("x-query-receiver")["status"], "none");
}

#[test]
fn query_status_has_singlestep_in_7_2_only() {
    for version in QemuVersion::ALL {
        let rig = Rig::new(MonitorConfig { version, ..MonitorConfig::default() });
        let status = rig.client().query("query-status").to_string();
        let expected = match version {
            QemuVersion::V7_2 => r#"{"status":"inmigrate","singlestep":false,"running":false}"#,
            _ => r#"{"status":"inmigrate","running":false}"#,
        };
        assert_eq!(status, expected);
    }
}

#[test]
fn every_command_of_the_table_is_there_and_no_other() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let listed = client.query("query-commands");
    let own = ["qmp_capabilities", "query-commands", "getfd", "closefd"];
    assert_eq!(listed.as_array().unwrap().len(), COMMANDS.len() + own.len());
    for command in COMMANDS {
        let reply = client.send(command.name, json!({})).pop().unwrap();
        assert_ne!(reply["error"]["class"], "CommandNotFound", "{reply}");
    }
    for name in ["migrate", "query-block", "system_reset"] {
        let error = &client.send(name, json!({}))[0]["error"];
        let text = format!("The command {name} has not been found");
        assert_eq!(error, &json!({"class": "CommandNotFound", "desc": text}));
    }
}

#[test]
fn commands_without_arguments_take_none() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    for name in ["quit", "cont", "query-status", "query-migrate", "x-query-receiver"] {
        assert_eq!(client.error(name, json!({"a": 1})), "Parameter 'a' is unexpected");
    }
    assert!(rig.ended.try_recv().is_err());
}

#[test]
fn quit_is_told_then_answered_then_done_and_ends_the_run() {
    let rig = Rig::new(MonitorConfig::default());
    let (mut client, mut other) = (rig.client(), rig.client());
    client.set("events", true);
    client.listen(json!({"exit-on-error": true}));
    other.heard();
    let mut said = client.send("quit", json!({}));
    // What the end of the run says may come before it is looked at here.
    said.truncate(2);
    assert_eq!(said[0]["event"], "SHUTDOWN");
    assert_eq!(said[0]["data"], json!({"guest": false, "reason": "host-qmp-quit"}));
    assert_eq!(said[1], json!({"return": {}}));
    assert_eq!(rig.ended.recv_timeout(PATIENCE).unwrap(), "quit");
    rig.wait();
    let shown = other.query("query-migrate");
    assert_eq!(shown["status"], "failed");
    assert_eq!(shown["error-desc"], "stopped by operator");
    assert_eq!(brief(&other.listen(json!({}))).last().unwrap(), "landfall is shutting down");
    assert_eq!(brief(&other.send("quit", json!({}))), ["{}"], "once is enough");
    assert!(rig.ended.try_recv().is_err(), "neither quit again nor exit 1");
}

#[test]
fn a_signal_is_announced_once() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    assert!(rig.monitor.destination.announce_shutdown(ShutdownCause::HostSignal));
    assert!(!rig.monitor.destination.announce_shutdown(ShutdownCause::HostSignal));
    let said = client.heard();
    assert_eq!(brief(&said), ["SHUTDOWN"]);
    assert_eq!(said[0]["data"], json!({"guest": false, "reason": "host-signal"}));
}

#[test]
fn a_client_on_a_socket_reads_the_end_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let address = format!("unix:{},server=on,wait=off", path.display()).parse().unwrap();
    let rig = Rig::new(MonitorConfig::default());
    let handler: Arc<dyn Handler> = Arc::<Monitor>::clone(&rig.monitor);
    let server = Server::start(&[address], handler, &rig.events).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert!(next()["QMP"].is_object());
    let multifd = json!([{"capability": "multifd", "state": true}]);
    for (command, arguments) in [
        ("qmp_capabilities", json!({})),
        ("migrate-set-capabilities", json!({"capabilities": multifd})),
        ("migrate-incoming", json!({"uri": "tcp:127.0.0.1:0"})),
    ] {
        write!(client, "{}", json!({"execute": command, "arguments": arguments})).unwrap();
        assert_eq!(next(), json!({"return": {}}));
    }
    write!(client, "{}", json!({"execute": "quit"})).unwrap();
    assert_eq!(next()["event"], "SHUTDOWN");
    assert_eq!(next(), json!({"return": {}}));
    assert_eq!(rig.ended.recv_timeout(PATIENCE).unwrap(), "quit");
    rig.receiver.stop();
    server.stop();
    assert!(lines.next().is_none(), "closed");
}
