//! Arguments as QEMU 7.2, 10.0 and 11.1 take and refuse them.

use serde_json::json;

use super::*;

use QemuVersion::{V7_2, V10_0, V11_1};

fn parse(arguments: Value, version: QemuVersion) -> Result<IncomingArguments, String> {
    IncomingArguments::parse(arguments.as_object().expect("an object"), version)
}

fn channels(list: Value) -> Result<Address, String> {
    parse(json!({"channels": list}), V10_0).map(|parsed| parsed.address)
}

fn main(addr: Value) -> Result<Address, String> {
    channels(json!([{"channel-type": "main", "addr": addr}]))
}

fn refused<T: std::fmt::Debug>(answer: Result<T, String>) -> String {
    answer.expect_err("refused")
}

#[test]
fn a_uri_or_channels_but_not_both_and_not_none() {
    let either = "need either 'uri' or 'channels' argument";
    let channel = json!([{"channel-type": "main", "addr":
        {"transport": "socket", "type": "inet", "host": "h", "port": "1"}}]);
    let uri = Address::parse("tcp:h:1").unwrap();
    for version in [V10_0, V11_1] {
        assert_eq!(parse(json!({"uri": "tcp:h:1"}), version).unwrap().address, uri);
        assert_eq!(parse(json!({"channels": channel}), version).unwrap().address, uri);
        assert_eq!(refused(parse(json!({}), version)), either);
        assert_eq!(refused(parse(json!({"channels": []}), version)), either);
        assert_eq!(refused(parse(json!({"uri": "tcp:h:1", "channels": channel}), version)), either);
        // An empty list is as good as none.
        assert_eq!(parse(json!({"uri": "tcp:h:1", "channels": []}), version).unwrap().address, uri);
    }
}

#[test]
fn exit_on_error_is_passed_on() {
    let told = |value: Value| parse(json!({"uri": "tcp:h:1", "exit-on-error": value}), V10_0);
    assert_eq!(told(json!(false)).unwrap().exit_on_error, Some(false));
    assert_eq!(parse(json!({"uri": "tcp:h:1"}), V10_0).unwrap().exit_on_error, None);
    assert_eq!(
        refused(told(json!(1))),
        "Invalid parameter type for 'exit-on-error', expected: boolean"
    );
    assert_eq!(
        refused(parse(json!({"uri": "tcp:h:1", "foo": 1}), V10_0)),
        "Parameter 'foo' is unexpected"
    );
    assert_eq!(
        refused(parse(json!({"uri": 1}), V10_0)),
        "Invalid parameter type for 'uri', expected: string"
    );
}

#[test]
fn version_7_2_knows_only_the_uri_and_no_files() {
    assert_eq!(parse(json!({"uri": "tcp:h:1"}), V7_2).unwrap().address.to_string(), "tcp:h:1");
    assert_eq!(refused(parse(json!({}), V7_2)), "Parameter 'uri' is missing");
    let extra = json!({"uri": "tcp:h:1", "exit-on-error": false});
    assert_eq!(refused(parse(extra, V7_2)), "Parameter 'exit-on-error' is unexpected");
    assert_eq!(
        refused(parse(json!({"uri": "file:/x"}), V7_2)),
        "unknown migration protocol: file:/x"
    );
}

#[test]
fn the_list_has_one_entry_for_main() {
    let why = "Channel list must have only one entry, for type 'main'";
    let inet = json!({"transport": "socket", "type": "inet", "host": "h", "port": "1"});
    let one = json!({"channel-type": "main", "addr": inet});
    assert_eq!(refused(channels(json!([one, one]))), why);
    assert_eq!(refused(channels(json!([{"channel-type": "cpr", "addr": inet}]))), why);
}

#[test]
fn lists_of_the_wrong_shape_are_refused_as_by_qapi() {
    for (list, why) in [
        (json!(null), "Invalid parameter type for 'channels', expected: array"),
        (json!({}), "Invalid parameter type for 'channels', expected: array"),
        (json!([5]), "Invalid parameter type for 'channels[0]', expected: object"),
        (json!([{}]), "Parameter 'channels[0].channel-type' is missing"),
        (json!([{"addr": {}}]), "Parameter 'channels[0].channel-type' is missing"),
        (json!([{"channel-type": "main"}]), "Parameter 'channels[0].addr' is missing"),
        (
            json!([{"channel-type": 5, "addr": {}}]),
            "Invalid parameter type for 'channels[0].channel-type', expected: string",
        ),
        (
            json!([{"channel-type": "bogus", "addr": {}}]),
            "Parameter 'channel-type' does not accept value 'bogus'",
        ),
        (
            json!([{"channel-type": "main", "addr": {"transport": "exec", "args": ["a"]}, "z": 1}]),
            "Parameter 'channels[0].z' is unexpected",
        ),
    ] {
        assert_eq!(refused(channels(list.clone())), why, "{list}");
    }
}

#[test]
fn addresses_of_the_wrong_shape_are_refused_as_by_qapi() {
    let socket = |mut rest: Value| {
        rest["transport"] = "socket".into();
        rest
    };
    let inet = |mut rest: Value| {
        for (name, value) in [("type", "inet"), ("host", "127.0.0.1"), ("transport", "socket")] {
            rest[name] = value.into();
        }
        rest
    };
    for (addr, why) in [
        (json!({}), "Parameter 'channels[0].addr.transport' is missing"),
        (json!(5), "Invalid parameter type for 'channels[0].addr', expected: object"),
        (json!({"transport": "x"}), "Parameter 'transport' does not accept value 'x'"),
        (
            json!({"transport": 5}),
            "Invalid parameter type for 'channels[0].addr.transport', expected: string",
        ),
        (json!({"transport": "socket"}), "Parameter 'channels[0].addr.type' is missing"),
        (socket(json!({"type": "x"})), "Parameter 'type' does not accept value 'x'"),
        (socket(json!({"type": "inet"})), "Parameter 'channels[0].addr.host' is missing"),
        (
            socket(json!({"type": "inet", "port": "0"})),
            "Parameter 'channels[0].addr.host' is missing",
        ),
        (inet(json!({})), "Parameter 'channels[0].addr.port' is missing"),
        (
            inet(json!({"port": 0})),
            "Invalid parameter type for 'channels[0].addr.port', expected: string",
        ),
        (inet(json!({"port": "0", "x": 1})), "Parameter 'channels[0].addr.x' is unexpected"),
        (inet(json!({"port": "0", "to": "5"})), "Parameter 'channels[0].addr.to' expects uint64"),
        (inet(json!({"port": "0", "to": 70000})), "Parameter 'to' expects uint16_t"),
        (inet(json!({"port": "0", "to": -1})), "Parameter 'to' expects uint16_t"),
        (
            inet(json!({"port": "0", "ipv4": "on"})),
            "Invalid parameter type for 'channels[0].addr.ipv4', expected: boolean",
        ),
        (
            inet(json!({"port": "0", "keep-alive-count": 3})),
            "Parameter 'channels[0].addr.keep-alive-count' is unexpected",
        ),
        (
            inet(json!({"port": "0", "ipv4": false, "ipv6": false})),
            "Cannot disable IPv4 and IPv6 at same time",
        ),
        (inet(json!({"port": "99999"})), "port 99999 is out of range: the last one is 65535"),
        (socket(json!({"type": "unix"})), "Parameter 'channels[0].addr.path' is missing"),
        (socket(json!({"type": "unix", "path": ""})), "invalid Unix socket address"),
        (
            socket(json!({"type": "vsock", "cid": "3"})),
            "Parameter 'channels[0].addr.port' is missing",
        ),
        (socket(json!({"type": "vsock", "cid": "x", "port": "1"})), "Failed to parse cid 'x'"),
        (socket(json!({"type": "fd"})), "Parameter 'channels[0].addr.str' is missing"),
        (json!({"transport": "exec"}), "Parameter 'channels[0].addr.args' is missing"),
        (json!({"transport": "exec", "args": []}), "exec needs a program in 'args'"),
        (
            json!({"transport": "exec", "args": ["x", 5]}),
            "Invalid parameter type for 'channels[0].addr.args[1]', expected: string",
        ),
        (json!({"transport": "file"}), "Parameter 'channels[0].addr.filename' is missing"),
        (
            json!({"transport": "file", "filename": "/x"}),
            "Parameter 'channels[0].addr.offset' is missing",
        ),
        (
            json!({"transport": "file", "filename": "/x", "offset": "0"}),
            "Parameter 'channels[0].addr.offset' expects uint64",
        ),
    ] {
        assert_eq!(refused(main(addr.clone())), why, "{addr}");
    }
}

#[test]
fn every_transport_has_its_json_form() {
    let same = |addr: Value, uri: &str| assert_eq!(main(addr), Address::parse(uri), "{uri}");
    same(
        json!({"transport": "socket", "type": "inet", "host": "::1", "port": "0", "to": 9, "ipv6": true,
               "keep-alive": true}),
        "tcp:[::1]:0,to=9,ipv6=on,keep-alive",
    );
    same(json!({"transport": "socket", "type": "unix", "path": "/x"}), "unix:/x");
    same(json!({"transport": "socket", "type": "vsock", "cid": "3", "port": "9"}), "vsock:3:9");
    same(json!({"transport": "socket", "type": "fd", "str": "mig"}), "fd:mig");
    same(json!({"transport": "file", "filename": "/x", "offset": 4096}), "file:/x,offset=4k");
    assert_eq!(
        main(json!({"transport": "exec", "args": ["cat", "/x"]})),
        Ok(Address::Exec { args: vec!["cat".into(), "/x".into()] })
    );
    assert_eq!(
        main(
            json!({"transport": "socket", "type": "unix", "path": "n", "abstract": true, "tight": false})
        ),
        Ok(Address::Unix(UnixAddress { path: "n".into(), abstract_name: true, tight: false }))
    );
    let rdma = json!({"transport": "rdma", "host": "h", "port": "1"});
    assert!(refused(main(rdma)).starts_with("rdma is not supported"));
}

#[test]
fn version_11_1_sets_the_times_of_keep_alive() {
    let addr = json!({"transport": "socket", "type": "inet", "host": "h", "port": "1", "keep-alive": true,
                      "keep-alive-count": 3, "keep-alive-idle": 4, "keep-alive-interval": 5});
    let list = json!({"channels": [{"channel-type": "main", "addr": addr}]});
    let Ok(Address::Tcp(inet)) = parse(list, V11_1).map(|parsed| parsed.address) else {
        panic!("not tcp")
    };
    let wanted = KeepAlive { count: Some(3), idle_secs: Some(4), interval_secs: Some(5) };
    assert_eq!(inet.keep_alive, Some(wanted));
}
