//! Capabilities and parameters through the monitor.

use std::io::Write;

use serde_json::{Value, json};

use super::*;
use crate::monitor::ChannelsDefault;
use crate::settings::QemuVersion;

#[test]
fn what_is_set_is_what_is_queried() {
    let rig = Rig::new(MonitorConfig::default());
    let (mut client, mut other) = (rig.client(), rig.client());
    client.ok(
        "migrate-set-parameters",
        json!({"multifd-channels": 8, "max-bandwidth": 0, "tls-hostname": "a"}),
    );
    assert_eq!(brief(&client.set("multifd", true)), ["{}"]);
    let parameters = other.query("query-migrate-parameters");
    assert_eq!(parameters.as_object().unwrap().len(), 28);
    assert_eq!(parameters["multifd-channels"], 8);
    assert_eq!(parameters["tls-hostname"], "a");
    assert_eq!(parameters["tls-creds"], "");
    let capabilities = other.query("query-migrate-capabilities");
    let capabilities = capabilities.as_array().unwrap();
    assert_eq!(capabilities.len(), 22);
    let on: Vec<_> = capabilities.iter().filter(|item| item["state"] == true).collect();
    assert_eq!(on, [&json!({"state": true, "capability": "multifd"})]);
}

#[test]
fn bad_settings_are_refused_in_qemus_words() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let mut capabilities =
        |list: Value| client.error("migrate-set-capabilities", json!({"capabilities": list}));
    let unknown = "Parameter 'capability' does not accept value 'compress'";
    assert_eq!(capabilities(json!([{"capability": "compress", "state": true}])), unknown);
    assert_eq!(
        capabilities(json!([{"capability": "multifd"}])),
        "Parameter 'capabilities[0].state' is missing"
    );
    assert_eq!(
        capabilities(json!({})),
        "Invalid parameter type for 'capabilities', expected: array"
    );
    assert_eq!(
        client.error("migrate-set-capabilities", json!({})),
        "Parameter 'capabilities' is missing"
    );
    for (arguments, text) in [
        (
            json!({"multifd-channels": 0}),
            "Parameter 'multifd_channels' expects a value between 1 and 255",
        ),
        (json!({"multifd-channels": 256}), "Parameter 'multifd-channels' expects uint8_t"),
        (json!({"bogus": 1}), "Parameter 'bogus' is unexpected"),
        (
            json!({"multifd-compression": "lz4"}),
            "Parameter 'multifd-compression' does not accept value 'lz4'",
        ),
    ] {
        assert_eq!(client.error("migrate-set-parameters", arguments), text);
    }
    assert_eq!(client.query("query-migrate-parameters")["multifd-channels"], 2);
}

#[test]
fn multifd_is_set_before_a_run_listens_and_again_after_it_has_ended() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    client.listen(json!({}));
    let late = "Multifd must be set before incoming starts";
    assert_eq!(brief(&client.set("multifd", true)), [late]);
    // Others may be set, as guestperf sets postcopy-ram on an open listener.
    assert_eq!(brief(&client.set("postcopy-ram", true)), ["{}"]);
    assert_eq!(brief(&client.set("postcopy-ram", false)), ["{}"]);
    let mut source = client.connect();
    source.write_all(b"QEVM").unwrap();
    drop(source);
    rig.wait();
    assert_eq!(brief(&client.set("multifd", true)), ["{}"]);
    assert_eq!(brief(&client.listen(json!({}))), ["{}"]);
}

#[test]
fn a_count_from_the_command_line_is_there_at_once() {
    let channels = ChannelsDefault::Fixed(16);
    let rig = Rig::new(MonitorConfig { channels, ..MonitorConfig::default() });
    let mut client = rig.client();
    assert_eq!(client.query("query-migrate-parameters")["multifd-channels"], 16);
    let capabilities = client.query("query-migrate-capabilities");
    let multifd = json!({"state": true, "capability": "multifd"});
    assert!(capabilities.as_array().unwrap().contains(&multifd));
}

#[test]
fn tables_and_texts_are_those_of_the_version() {
    for (version, parameters, capabilities) in
        [(QemuVersion::V7_2, 26, 21), (QemuVersion::V10_0, 28, 22), (QemuVersion::V11_1, 30, 21)]
    {
        let rig = Rig::new(MonitorConfig { version, ..MonitorConfig::default() });
        let mut client = rig.client();
        let found = client.query("query-migrate-parameters");
        assert_eq!(found.as_object().unwrap().len(), parameters, "{version}");
        let found = client.query("query-migrate-capabilities");
        assert_eq!(found.as_array().unwrap().len(), capabilities, "{version}");
        let text = client.error("migrate-set-parameters", json!({"multifd-channels": 0}));
        let new = version == QemuVersion::V11_1;
        let beginning =
            if new { "Option multifd-channels" } else { "Parameter 'multifd_channels'" };
        assert!(text.starts_with(beginning), "{text}");
    }
}
