//! add-fd, remove-fd, query-fdsets and files of a set: what QEMU 10.0 answered, word for
//! word.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use super::*;

#[test]
fn sets_are_made_told_and_removed_in_qemus_words() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    assert_eq!(client.query("query-fdsets"), json!([]));
    let mut numbers = Vec::new();
    let added = |client: &mut Client, arguments: Value| {
        let answer = client.add_fd(arguments, vec![null()]);
        (answer["return"]["fd"].as_i64().expect("a number"), answer["return"]["fdset-id"].clone())
    };
    for (arguments, id) in [
        (json!({}), 0),
        (json!({ "fdset-id": 0, "opaque": "rdwr" }), 0),
        (json!({ "fdset-id": 5, "opaque": "five" }), 5),
        (json!({ "opaque": "" }), 1),
        (json!({ "fdset-id": i64::MAX }), i64::MAX),
    ] {
        let (fd, found) = added(&mut client, arguments);
        assert_eq!(found, id);
        numbers.push(fd);
    }
    let expected = json!([
        { "fds": [{ "fd": numbers[4] }], "fdset-id": i64::MAX },
        { "fds": [{ "fd": numbers[2], "opaque": "five" }], "fdset-id": 5 },
        { "fds": [{ "fd": numbers[3], "opaque": "" }], "fdset-id": 1 },
        {
            "fds": [{ "fd": numbers[0] }, { "fd": numbers[1], "opaque": "rdwr" }],
            "fdset-id": 0
        },
    ]);
    assert_eq!(client.query("query-fdsets").to_string(), expected.to_string());
    assert_eq!(rig.client().query("query-fdsets"), expected, "for every client");
    client.ok("remove-fd", json!({ "fdset-id": 0, "fd": numbers[0] }));
    assert_eq!(client.query("query-fdsets")[3]["fds"][0]["fd"], numbers[1]);
    client.ok("remove-fd", json!({ "fdset-id": 0 }));
    assert_eq!(client.query("query-fdsets").as_array().map(Vec::len), Some(3));
}

#[test]
fn wrong_arguments_of_sets_are_told_as_qemu_tells_them() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let none = "No file descriptor supplied via SCM_RIGHTS";
    let type_of_id = "Invalid parameter type for 'fdset-id', expected: integer";
    for (arguments, has_fd, text) in [
        (json!({}), false, none),
        (json!({ "fdset-id": -1 }), false, none),
        (json!({ "fdset-id": -1 }), true, "Parameter 'fdset-id' expects a non-negative value"),
        (json!({ "fdset-id": 1_u64 << 63 }), true, type_of_id),
        (json!({ "fdset-id": "1" }), true, type_of_id),
        (json!({ "fdset-id": 1.5 }), true, type_of_id),
        (json!({ "opaque": 5 }), true, "Invalid parameter type for 'opaque', expected: string"),
        (json!({ "opaque": null }), true, "Invalid parameter type for 'opaque', expected: string"),
        (json!({ "opaque": 5, "fdset-id": "x" }), true, type_of_id),
        (json!({ "a": 5 }), true, "Parameter 'a' is unexpected"),
    ] {
        // Its own client: a descriptor that nobody claims stays with a client.
        let mut client = rig.client();
        let fds = if has_fd { vec![null()] } else { Vec::new() };
        assert_eq!(client.add_fd(arguments.clone(), fds)["error"]["desc"], text, "{arguments}");
    }
    let (_, fd) = rig.destination_fdsets().add(Some(0), None, null()).unwrap();
    let beside = i64::from(fd) + 1;
    let beside_text = format!("File descriptor named 'fdset-id:0, fd:{beside}' not found");
    for (arguments, text) in [
        (json!({}), "Parameter 'fdset-id' is missing"),
        (json!({ "fd": 1 }), "Parameter 'fdset-id' is missing"),
        (json!({ "fdset-id": 99 }), "File descriptor named 'fdset-id:99' not found"),
        (json!({ "fdset-id": -1 }), "File descriptor named 'fdset-id:-1' not found"),
        (json!({ "fdset-id": 0, "fd": beside }), beside_text.as_str()),
        (json!({ "fdset-id": 0, "fd": -1 }), "File descriptor named 'fdset-id:0, fd:-1' not found"),
        (
            json!({ "fdset-id": 99, "fd": 999 }),
            "File descriptor named 'fdset-id:99, fd:999' not found",
        ),
        (json!({ "fdset-id": "x" }), type_of_id),
        (json!({ "fdset-id": 0, "fd": "x" }), "Invalid parameter type for 'fd', expected: integer"),
        (json!({ "fdset-id": 0, "b": 1 }), "Parameter 'b' is unexpected"),
    ] {
        assert_eq!(client.error("remove-fd", arguments.clone()), text, "{arguments}");
    }
    assert_eq!(client.error("query-fdsets", json!({ "a": 1 })), "Parameter 'a' is unexpected");
}

#[test]
fn a_file_of_a_set_is_received_from_or_told_why_not_and_may_be_tried_again() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let mut incoming = |uri: &str| client.error("migrate-incoming", json!({ "uri": uri }));
    assert_eq!(incoming("file:/dev/fdset/x"), "Could not parse fdset /dev/fdset/x");
    assert_eq!(incoming("file:/dev/fdset/3"), "Failed to find fdset /dev/fdset/3");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved");
    let mut file = File::create(&path).unwrap();
    file.write_all(&[0xee; 4096]).unwrap();
    file.write_all(&stream::whole("paused")).unwrap();
    client.add_fd(json!({ "fdset-id": 3 }), vec![file.into()]);
    let no_match = "Failed to find file descriptor with matching flags=0x0";
    let uri = "file:/dev/fdset/3,offset=4096";
    assert_eq!(client.error("migrate-incoming", json!({ "uri": uri })), no_match, "write only");
    client.add_fd(json!({ "fdset-id": 3 }), vec![File::open(&path).unwrap().into()]);
    client.ok("migrate-incoming", json!({ "uri": uri }));
    rig.wait();
    assert_eq!(client.query("query-migrate")["status"], "completed");
    // What a run reads is a duplicate: the set is as it was, and may be read again.
    assert_eq!(client.query("query-fdsets")[0]["fds"].as_array().map(Vec::len), Some(2));
    let again = json!({ "channels": [{ "channel-type": "main", "addr": {
        "transport": "file", "filename": "/dev/fdset/3", "offset": 4096,
    } }] });
    client.ok("migrate-incoming", again);
    rig.wait();
    assert_eq!(client.query("query-migrate")["status"], "completed");
}

#[test]
fn direct_io_with_multifd_wants_a_descriptor_of_that_kind_in_the_set() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.set("mapped-ram", true);
    client.set("multifd", true);
    client.ok("migrate-set-parameters", json!({ "direct-io": true }));
    client.add_fd(json!({ "fdset-id": 0 }), vec![null()]);
    assert_eq!(
        client.error("migrate-incoming", json!({ "uri": "file:/dev/fdset/0" })),
        "Failed to find file descriptor with matching flags=0x4000"
    );
}

impl Client {
    /// The whole reply to an add-fd with these descriptors.
    fn add_fd(&mut self, arguments: Value, fds: Vec<OwnedFd>) -> Value {
        let request = json!({ "execute": "add-fd", "arguments": arguments }).to_string();
        parse(&self.0.send_with_fds(request, fds)).pop().expect("a reply")
    }
}

impl Rig {
    fn destination_fdsets(&self) -> &crate::listen::FdSets {
        &self.monitor.destination.config().fdsets
    }
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}
