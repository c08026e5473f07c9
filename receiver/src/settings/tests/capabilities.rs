//! Capabilities and their combinations.

use super::*;

use IncomingPhase::{Active, Ended, Listening, NotStarted};
use QemuVersion::{V7_2, V10_0, V11_1};

#[test]
fn every_capability_is_listed_off_with_state_first() {
    for (version, count) in [(V7_2, 21), (V10_0, 22), (V11_1, 21)] {
        let listed = Settings::new(version).capabilities_json();
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), count, "{version}");
        assert_eq!(listed[0].to_string(), r#"{"state":false,"capability":"xbzrle"}"#);
        assert!(listed.iter().all(|item| item["state"] == false));
    }
}

/// What `version` says to these capabilities being switched on at once.
fn answer(version: QemuVersion, names: &[&str]) -> Result<(), String> {
    Settings::new(version).set_capabilities(&on(names), NotStarted)
}

#[test]
fn capabilities_of_the_wrong_shape_are_refused_as_by_qapi() {
    for (list, why) in [
        (json!(5), "Invalid parameter type for 'capabilities', expected: array"),
        (json!(null), "Invalid parameter type for 'capabilities', expected: array"),
        (json!([5]), "Invalid parameter type for 'capabilities[0]', expected: object"),
        (json!([{}]), "Parameter 'capabilities[0].capability' is missing"),
        (json!([{"x": 5}]), "Parameter 'capabilities[0].capability' is missing"),
        (json!([{"capability": "multifd"}]), "Parameter 'capabilities[0].state' is missing"),
        (json!([{"state": true}]), "Parameter 'capabilities[0].capability' is missing"),
        (
            json!([{"capability": 5, "state": true}]),
            "Invalid parameter type for 'capabilities[0].capability', expected: string",
        ),
        (
            json!([{"capability": "multifd", "state": "on"}]),
            "Invalid parameter type for 'capabilities[0].state', expected: boolean",
        ),
        (
            json!([{"capability": "multifd", "state": true, "x": 1}]),
            "Parameter 'capabilities[0].x' is unexpected",
        ),
        (
            json!([{"capability": "events", "state": true}, {"capability": "nosuch", "state": 5}]),
            "Parameter 'capability' does not accept value 'nosuch'",
        ),
    ] {
        let mut settings = Settings::new(V10_0);
        assert_eq!(settings.set_capabilities(&list, NotStarted), Err(why.to_owned()), "{list}");
        assert!(!settings.events(), "nothing of a refused list takes effect");
    }
    assert_eq!(Settings::new(V10_0).set_capabilities(&json!([]), NotStarted), Ok(()));
}

#[test]
fn a_capability_another_version_has_is_unknown() {
    for (version, name) in [
        (V7_2, "dirty-limit"),
        (V7_2, "switchover-ack"),
        (V7_2, "mapped-ram"),
        (V10_0, "compress"),
        (V10_0, "block"),
        (V11_1, "zero-blocks"),
    ] {
        let why = format!("Parameter 'capability' does not accept value '{name}'");
        assert_eq!(answer(version, &[name]), Err(why), "{version}");
    }
    assert_eq!(answer(V10_0, &["zero-blocks"]), Ok(()));
    assert_eq!(answer(V7_2, &["compress", "block"]), Ok(()));
}

#[test]
fn combinations_are_refused_in_the_words_of_each_version() {
    let multifd_xbzrle = "Multifd is not compatible with xbzrle";
    let ack = "Capability 'switchover-ack' requires capability 'return-path'";
    let conflict = "dirty-limit conflicts with auto-converge either of then available currently";
    let ring = "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set";
    let unknown = |name: &str| format!("Parameter 'capability' does not accept value '{name}'");
    let same = |text: &'static str| [text; 3].map(|text| Some(text.to_owned()));
    let newer =
        |seven: Option<String>, text: &str| [seven, Some(text.to_owned()), Some(text.to_owned())];
    let cases: [(&[&str], [Option<String>; 3]); 19] = [
        (&["multifd", "xbzrle"], newer(None, multifd_xbzrle)),
        (
            &["postcopy-ram", "multifd"],
            [None, Some("Postcopy is not yet compatible with multifd".into()), None],
        ),
        (
            &["postcopy-ram", "x-ignore-shared"],
            same("Postcopy is not compatible with ignore-shared"),
        ),
        (&["postcopy-preempt"], same("Postcopy preempt requires postcopy-ram")),
        (&["postcopy-preempt", "postcopy-ram"], [None, None, None]),
        (&["switchover-ack"], newer(Some(unknown("switchover-ack")), ack)),
        (&["switchover-ack", "return-path"], [Some(unknown("switchover-ack")), None, None]),
        (
            &["mapped-ram", "xbzrle"],
            newer(Some(unknown("mapped-ram")), "Mapped-ram migration is incompatible with xbzrle"),
        ),
        (
            &["mapped-ram", "postcopy-ram"],
            newer(
                Some(unknown("mapped-ram")),
                "Mapped-ram migration is incompatible with postcopy",
            ),
        ),
        (&["mapped-ram", "multifd"], [Some(unknown("mapped-ram")), None, None]),
        (
            &["background-snapshot", "multifd"],
            same("Background-snapshot is not compatible with multifd"),
        ),
        (
            &["background-snapshot", "validate-uuid", "xbzrle", "rdma-pin-all"],
            same("Background-snapshot is not compatible with rdma-pin-all"),
        ),
        (&["zero-copy-send"], same(ZERO_COPY)),
        (&["zero-copy-send", "multifd"], [None, None, None]),
        (&["dirty-limit"], newer(Some(unknown("dirty-limit")), ring)),
        (&["dirty-limit", "auto-converge"], newer(Some(unknown("dirty-limit")), conflict)),
        (
            &["x-colo"],
            [None, None, Some("Capability 'x-colo' requires capability 'return-path'".into())],
        ),
        (&["x-colo", "return-path"], [None, None, None]),
        (
            &["multifd", "compress"],
            [
                Some("Multifd is not compatible with compress".into()),
                Some(unknown("compress")),
                Some(unknown("compress")),
            ],
        ),
    ];
    for (names, answers) in cases {
        for (version, expected) in QemuVersion::ALL.into_iter().zip(answers) {
            assert_eq!(answer(version, names).err(), expected, "{version}: {names:?}");
        }
    }
}

#[test]
fn multifd_and_preempt_come_too_late_once_incoming_has_started() {
    for version in [V10_0, V11_1] {
        for phase in [Listening, Active, Ended] {
            let mut settings = Settings::new(version);
            let late = settings.set_capabilities(&on(&["multifd"]), phase);
            assert_eq!(late, Err("Multifd must be set before incoming starts".to_owned()));
            let late = settings.set_capabilities(&on(&["postcopy-ram", "postcopy-preempt"]), phase);
            assert_eq!(late, Err("Postcopy preempt must be set before incoming starts".to_owned()));
            // Others still may, as guestperf does with postcopy-ram.
            assert_eq!(settings.set_capabilities(&on(&["postcopy-ram"]), phase), Ok(()));
        }
        // It was on before: saying so again is no change.
        let mut settings = Settings::new(version);
        settings.set_capabilities(&on(&["multifd"]), NotStarted).unwrap();
        assert_eq!(settings.set_capabilities(&on(&["multifd", "events"]), Listening), Ok(()));
    }
    assert_eq!(Settings::new(V7_2).set_capabilities(&on(&["multifd"]), Active), Ok(()));
}

#[test]
fn zero_copy_and_mapped_ram_exclude_compression_and_tls() {
    let mut settings = Settings::new(V10_0);
    settings.set_capabilities(&on(&["multifd", "zero-copy-send"]), NotStarted).unwrap();
    assert_eq!(
        set(&mut settings, json!({"multifd-compression": "zlib"})),
        Err(ZERO_COPY.to_owned())
    );
    assert_eq!(set(&mut settings, json!({"tls-creds": "t"})), Err(ZERO_COPY.to_owned()));

    let mut settings = Settings::new(V10_0);
    settings.set_capabilities(&on(&["mapped-ram"]), NotStarted).unwrap();
    let why = "Mapped-ram only available for non-compressed non-TLS multifd migration";
    for parameters in [json!({"tls-creds": "t"}), json!({"multifd-compression": "zlib"})] {
        // QEMU looks at what held before: the first comes in, and can only go by way of the
        // capability.
        let mut settings = settings.clone();
        assert_eq!(set(&mut settings, parameters), Ok(()));
        let back = json!({"tls-creds": "", "multifd-compression": "none"});
        assert_eq!(set(&mut settings, back.clone()), Err(why.to_owned()));
        let off = json!([{"capability": "mapped-ram", "state": false}]);
        settings.set_capabilities(&off, NotStarted).unwrap();
        assert_eq!(set(&mut settings, back), Ok(()));
    }

    let mut settings = Settings::new(V10_0);
    set(&mut settings, json!({"multifd-compression": "zlib"})).unwrap();
    let both = on(&["multifd", "zero-copy-send"]);
    assert_eq!(settings.set_capabilities(&both, NotStarted), Err(ZERO_COPY.to_owned()));
}
