//! Parameters: lists, types, and what is kept.

use super::*;

use QemuVersion::{V7_2, V10_0, V11_1};

#[test]
fn defaults_are_listed_in_the_order_and_with_the_values_of_each_version() {
    let json = |version| Settings::new(version).parameters_json().to_string();
    assert_eq!(json(V11_1), DEFAULTS_11_1);
    let without = DEFAULTS_11_1.replace("\"x-rdma-chunk-size\":1048576,", "");
    assert_eq!(json(V10_0), without.replace("\"cpr-exec-command\":[],", ""));
    assert_eq!(json(V7_2), DEFAULTS_7_2);
}

#[test]
fn parameters_of_the_wrong_type_are_refused_by_every_version() {
    for version in QemuVersion::ALL {
        for value in
            [json!("2"), json!(1.5), json!(true), json!(null), json!(18_446_744_073_709_551_616.0)]
        {
            let why = refusal(version, json!({"multifd-channels": value}));
            assert_eq!(why, "Parameter 'multifd-channels' expects uint64");
        }
        for value in [json!(-1), json!(256), json!(u64::MAX)] {
            let why = refusal(version, json!({"multifd-channels": value}));
            assert_eq!(why, "Parameter 'multifd-channels' expects uint8_t");
        }
        let why = refusal(version, json!({"x-checkpoint-delay": 1u64 << 32}));
        assert_eq!(why, "Parameter 'x-checkpoint-delay' expects uint32_t");
        let why = refusal(version, json!({"cpu-throttle-tailslow": 1}));
        assert_eq!(why, "Invalid parameter type for 'cpu-throttle-tailslow', expected: boolean");
        let why = refusal(version, json!({"tls-creds": 1}));
        assert_eq!(why, "Invalid parameter type for 'tls-creds', expected: StrOrNull");
        let why = refusal(version, json!({"multifd-compression": 1}));
        assert_eq!(why, "Invalid parameter type for 'multifd-compression', expected: string");
        let why = refusal(version, json!({"multifd-compression": "lz4"}));
        assert_eq!(why, "Parameter 'multifd-compression' does not accept value 'lz4'");
        assert_eq!(refusal(version, json!({"bogus": 1})), "Parameter 'bogus' is unexpected");
        let why = refusal(version, json!({"block-bitmap-mapping": ["a"]}));
        assert_eq!(why, "Invalid parameter type for 'block-bitmap-mapping[0]', expected: object");
    }
    let why = refusal(V11_1, json!({"cpr-exec-command": [1]}));
    assert_eq!(why, "Invalid parameter type for 'cpr-exec-command[0]', expected: string");
    let why = refusal(V10_0, json!({"mode": "cpr-exec"}));
    assert_eq!(why, "Parameter 'mode' does not accept value 'cpr-exec'");
    assert_eq!(set(&mut Settings::new(V11_1), json!({"mode": "cpr-exec"})), Ok(()));
}

#[test]
fn of_several_wrong_values_the_one_that_qemu_reads_first_is_named() {
    for version in [V7_2, V10_0] {
        let why = refusal(version, json!({"nosuch": 1, "multifd-channels": "x", "tls-creds": 5}));
        assert_eq!(why, "Invalid parameter type for 'tls-creds', expected: StrOrNull");
        let why = refusal(version, json!({"multifd-channels": 0, "max-cpu-throttle": "1"}));
        assert_eq!(why, "Parameter 'max-cpu-throttle' expects uint64");
    }
}

#[test]
fn version_7_2_takes_any_compression_level_and_keeps_the_old_one() {
    let mut settings = Settings::new(V7_2);
    assert_eq!(
        set(&mut settings, json!({"multifd-zlib-level": 10, "multifd-zstd-level": 21})),
        Ok(())
    );
    assert_eq!(settings.parameters_json()["multifd-zlib-level"], 1);
    assert_eq!(settings.parameters_json()["multifd-zstd-level"], 1);
    let why = refusal(V7_2, json!({"compress-level": 10}));
    assert_eq!(why, "Parameter 'compress_level' expects a value between 0 and 9");
    let why = refusal(V7_2, json!({"compress-threads": 0}));
    assert_eq!(why, "Parameter 'compress_threads' expects a value between 1 and 255");
}

#[test]
fn refused_parameters_change_nothing_and_accepted_ones_read_back() {
    let mut settings = Settings::new(V10_0);
    let before = settings.parameters_json();
    assert!(
        set(&mut settings, json!({"multifd-channels": 8, "downtime-limit": 2_000_001})).is_err()
    );
    assert!(set(&mut settings, json!({"multifd-channels": 8, "bogus": 1})).is_err());
    assert_eq!(settings.parameters_json(), before);

    let wanted = json!({
        "multifd-channels": 255, "multifd-compression": "zstd", "max-bandwidth": 0,
        "tls-creds": "tls0", "cpu-throttle-tailslow": true, "zero-page-detection": "legacy",
        "direct-io": true, "mode": "cpr-reboot", "max-postcopy-bandwidth": -1,
        "block-bitmap-mapping": [
            {"node-name": "a", "alias": "b", "bitmaps": [
                {"name": "c", "alias": "d", "transform": {"persistent": true}}]}],
    });
    set(&mut settings, wanted.clone()).unwrap();
    let after = settings.parameters_json();
    for (name, value) in wanted.as_object().unwrap() {
        let expected =
            if name == "max-postcopy-bandwidth" { json!(u64::MAX) } else { value.clone() };
        assert_eq!(after[name], expected, "{name}");
    }
    assert_eq!(settings.multifd_channels(), 255);
    assert_eq!(settings.compression(), MultifdCompression::Zstd);
    assert_eq!(settings.tls_creds(), Some("tls0"));
    assert!(settings.direct_io());
    // block-bitmap-mapping appears once it is set, in its place.
    let keys: Vec<_> = after.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(&keys[3..6], ["announce-max", "block-bitmap-mapping", "direct-io"]);

    set(&mut settings, json!({"tls-creds": null})).unwrap();
    assert_eq!(settings.tls_creds(), None);
    assert_eq!(settings.parameters_json()["tls-creds"], "");
}

#[test]
fn accelerators_compressions_are_accepted_from_the_version_that_has_them() {
    for name in ["qpl", "uadk", "qatzip"] {
        for version in [V10_0, V11_1] {
            let mut settings = Settings::new(version);
            assert_eq!(set(&mut settings, json!({"multifd-compression": name})), Ok(()));
            assert_eq!(settings.compression().name(), name);
        }
        let why = refusal(V7_2, json!({"multifd-compression": name}));
        assert_eq!(why, format!("Parameter 'multifd-compression' does not accept value '{name}'"));
    }
}

/// `query-migrate-parameters` of 11.1.3 before anything was set.
const DEFAULTS_11_1: &str = concat!(
    r#"{"cpu-throttle-tailslow":false,"xbzrle-cache-size":67108864,"cpu-throttle-initial":20,"#,
    r#""announce-max":550,"direct-io":false,"avail-switchover-bandwidth":0,"#,
    r#""zero-page-detection":"multifd","multifd-qatzip-level":1,"x-rdma-chunk-size":1048576,"#,
    r#""multifd-channels":2,"mode":"normal","multifd-zstd-level":1,"announce-initial":50,"#,
    r#""downtime-limit":300,"tls-authz":"","cpr-exec-command":[],"vcpu-dirty-limit":1,"#,
    r#""multifd-compression":"none","announce-rounds":5,"announce-step":100,"tls-creds":"","#,
    r#""x-vcpu-dirty-limit-period":1000,"multifd-zlib-level":1,"max-cpu-throttle":99,"#,
    r#""max-postcopy-bandwidth":0,"tls-hostname":"","throttle-trigger-threshold":50,"#,
    r#""max-bandwidth":134217728,"x-checkpoint-delay":20000,"cpu-throttle-increment":10}"#,
);

/// The same of 7.2.22.
const DEFAULTS_7_2: &str = concat!(
    r#"{"cpu-throttle-tailslow":false,"xbzrle-cache-size":67108864,"cpu-throttle-initial":20,"#,
    r#""announce-max":550,"decompress-threads":2,"compress-threads":8,"compress-level":1,"#,
    r#""multifd-channels":2,"multifd-zstd-level":1,"announce-initial":50,"#,
    r#""block-incremental":false,"compress-wait-thread":true,"downtime-limit":300,"#,
    r#""tls-authz":"","multifd-compression":"none","announce-rounds":5,"announce-step":100,"#,
    r#""tls-creds":"","multifd-zlib-level":1,"max-cpu-throttle":99,"max-postcopy-bandwidth":0,"#,
    r#""tls-hostname":"","throttle-trigger-threshold":50,"max-bandwidth":134217728,"#,
    r#""x-checkpoint-delay":20000,"cpu-throttle-increment":10}"#,
);
