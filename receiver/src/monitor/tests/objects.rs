//! object-add and object-del: what QEMU 10.0 answered, word for word, and what
//! is refused in our own.

use serde_json::{Value, json};

use super::*;
use crate::monitor::TlsDefault;
use crate::tls::tests::certificates;
use crate::tls::{X509Credentials, X509Options};

#[test]
fn wrong_arguments_are_told_as_qemu_tells_them() {
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let x509 = |more: Value| {
        let mut object = json!({"qom-type": "tls-creds-x509", "id": "t0"});
        for (name, value) in more.as_object().expect("an object") {
            object[name] = value.clone();
        }
        object
    };
    for (object, answer) in [
        (json!({}), "Parameter 'qom-type' is missing"),
        (json!({"qom-type": "tls-creds-x509"}), "Parameter 'id' is missing"),
        (
            json!({"qom-type": "bogus", "id": "t"}),
            "Parameter 'qom-type' does not accept value 'bogus'",
        ),
        (x509(json!({})), "Missing 'dir' property value"),
        (
            x509(json!({"dir": "/nowhere", "endpoint": "server"})),
            "Unable to access credentials /nowhere/ca-cert.pem: No such file or directory",
        ),
        (
            x509(json!({"dir": "/nowhere", "endpoint": "both"})),
            "Parameter 'endpoint' does not accept value 'both'",
        ),
        (x509(json!({"dir": 5})), "Invalid parameter type for 'dir', expected: string"),
        (
            x509(json!({"dir": "/nowhere", "verify-peer": "yes"})),
            "Invalid parameter type for 'verify-peer', expected: boolean",
        ),
        (x509(json!({"dir": "/nowhere", "speed": 1})), "Parameter 'speed' is unexpected"),
        (
            x509(json!({"dir": "/nowhere", "passwordid": "p"})),
            "Unable to access credentials /nowhere/ca-cert.pem: No such file or directory",
        ),
        (x509(json!({"dir": "/nowhere", "loaded": true})), "Parameter 'loaded' is unexpected"),
        (json!({"qom-type": "authz-simple", "id": "a"}), "Parameter 'identity' is missing"),
        (
            json!({"qom-type": "authz-simple", "id": "9", "identity": "CN=x"}),
            "Parameter 'id' expects an identifier",
        ),
        (
            json!({"qom-type": "authz-list", "id": "a", "policy": "maybe"}),
            "Parameter 'policy' does not accept value 'maybe'",
        ),
        (
            json!({"qom-type": "authz-list", "id": "a", "rules": [{"match": "CN=x"}]}),
            "Parameter 'rules[0].policy' is missing",
        ),
    ] {
        assert_eq!(client.error("object-add", object.clone()), answer, "{object}");
    }
    assert_eq!(client.error("object-del", json!({"id": "t0"})), "object 't0' not found");
    for (kind, name, value, wrong) in [
        ("tls-creds-psk", "dir", "/nowhere", "Missing 'dir' property value"),
        ("authz-pam", "service", "x", "Parameter 'service' is missing"),
        ("authz-listfile", "filename", "x", "Parameter 'filename' is missing"),
    ] {
        let mut object = json!({"qom-type": kind, "id": "x"});
        assert_eq!(client.error("object-add", object.clone()), wrong);
        object[name] = value.into();
        assert_ne!(client.error("object-add", object), wrong);
    }
}

#[test]
fn what_is_not_supported_is_refused_when_all_else_is_right() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("keys.psk"), "qemu:00112233\n").expect("a file");
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    for (kind, properties) in [
        ("tls-creds-psk", json!({"dir": dir.path(), "endpoint": "server"})),
        ("tls-creds-anon", json!({"endpoint": "server"})),
        ("authz-listfile", json!({"filename": "x"})),
    ] {
        let mut object = json!({"qom-type": kind, "id": "x"});
        object.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        let refused = client.error("object-add", object);
        assert!(refused.starts_with(&format!("{kind} is not supported: ")), "{refused}");
    }
    let pam = json!({"qom-type": "authz-pam", "id": "x", "service": "y"});
    assert_eq!(client.error("object-add", pam), "invalid object type: authz-pam");
}

#[test]
fn a_run_takes_the_objects_that_the_parameters_name_or_does_not_listen() {
    let dir = tempfile::tempdir().expect("a directory");
    certificates::Authority::new("ours").write_all(dir.path());
    let rig = Rig::new(MonitorConfig::default());
    let mut client = rig.client();
    let server = json!({
        "qom-type": "tls-creds-x509", "id": "server", "dir": dir.path(), "endpoint": "server",
    });
    client.ok("object-add", server.clone());
    let twice = "attempt to add duplicate property 'server' to object (type 'container')";
    assert_eq!(client.error("object-add", server.clone()), twice);
    client
        .ok("object-add", json!({"qom-type": "tls-creds-x509", "id": "client", "dir": dir.path()}));
    client.ok("object-add", json!({"qom-type": "authz-simple", "id": "a", "identity": "CN=x"}));
    let mut open = server;
    (open["id"], open["verify-peer"]) = (json!("open"), json!(false));
    client.ok("object-add", open);
    for (creds, authz, answer) in [
        ("none", "", "No TLS credentials with id 'none'"),
        ("a", "", "Object with id 'a' is not TLS credentials"),
        ("client", "", "Expected TLS credentials for a server endpoint"),
        ("server", "none", "Cannot find QAuthZ object ID none"),
        ("server", "client", "Object 'client' is not a QAuthZ subclass"),
        ("open", "a", "tls-authz needs verify-peer: without a certificate nobody has a name"),
    ] {
        client.ok("migrate-set-parameters", json!({"tls-creds": creds, "tls-authz": authz}));
        assert_eq!(brief(&client.listen(json!({}))), [answer]);
    }
    client.ok("migrate-set-parameters", json!({"tls-creds": "server", "tls-authz": "a"}));
    assert_eq!(brief(&client.listen(json!({}))), ["{}"]);
}

#[test]
fn credentials_of_the_command_line_are_seen_on_qmp() {
    let dir = tempfile::tempdir().expect("a directory");
    certificates::Authority::new("ours").write_all(dir.path());
    let credentials = X509Credentials::load(&X509Options::new(dir.path())).expect("credentials");
    let tls = Some(TlsDefault { credentials, authz: None });
    let rig = Rig::new(MonitorConfig { tls, ..MonitorConfig::default() });
    let mut client = rig.client();
    let parameters = client.query("query-migrate-parameters");
    assert_eq!(parameters["tls-creds"], TlsDefault::CREDS_ID);
    client.ok("object-del", json!({"id": TlsDefault::CREDS_ID}));
    let gone = format!("No TLS credentials with id '{}'", TlsDefault::CREDS_ID);
    assert_eq!(brief(&client.listen(json!({}))), [gone]);
}
