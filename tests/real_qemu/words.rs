//! Objects, credentials and sets of descriptors: a real QEMU and landfall are asked the
//! same, and must answer the same, word for word.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

use crate::certificates::{Authority, CLIENT_NAME};
use crate::pair::Pair;
use crate::{programs, turn};

#[test]
fn objects_for_tls_are_added_and_refused_in_qemus_words() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    let good = tempfile::tempdir().expect("a directory");
    Authority::new("words").write_all(good.path());
    std::fs::write(good.path().join("keys.psk"), "qemu:0011223344556677\n").expect("a file");
    let good = good.path().display().to_string();
    for version in ["7.2", "10.0"] {
        objects_alike(&mut Pair::start(&programs, version), &good);
    }
}

fn objects_alike(pair: &mut Pair, good: &str) {
    for kind in ["tls-creds-x509", "tls-creds-psk", "tls-creds-anon"] {
        for properties in [
            json!({}),
            json!({ "endpoint": "server" }),
            json!({ "endpoint": "both" }),
            json!({ "endpoint": 1 }),
            json!({ "dir": 5 }),
            json!({ "verify-peer": "yes" }),
            json!({ "priority": 1 }),
            json!({ "a": 1 }),
            json!({ "dir": "/nowhere", "endpoint": "server" }),
            json!({ "dir": "/nowhere" }),
            json!({ "dir": good, "endpoint": "server" }),
            json!({ "dir": good, "endpoint": "server", "verify-peer": false }),
            json!({ "dir": good, "endpoint": "client" }),
            json!({ "dir": good, "endpoint": "server", "loaded": true }),
            json!({ "dir": good, "endpoint": "server", "sanity-check": false }),
            json!({ "dir": good, "endpoint": "server", "sanity-check": 1 }),
            json!({ "dir": good, "endpoint": "server", "passwordid": "nosuch" }),
            json!({ "dir": good, "passwordid": 5 }),
            json!({ "dir": good, "endpoint": "server", "username": "joe" }),
            json!({ "dir": good, "username": 5 }),
            json!({ "dir": "/nowhere", "endpoint": "both", "a": 1 }),
        ] {
            pair.object(kind, &properties);
        }
    }
    for (kind, properties) in [
        ("authz-simple", json!({})),
        ("authz-simple", json!({ "identity": CLIENT_NAME })),
        ("authz-simple", json!({ "identity": "" })),
        ("authz-simple", json!({ "identity": 5 })),
        ("authz-simple", json!({ "identity": null })),
        ("authz-simple", json!({ "identity": "x", "a": 1 })),
        ("authz-list", json!({})),
        ("authz-list", json!({ "policy": "maybe" })),
        ("authz-list", json!({ "policy": 1 })),
        ("authz-list", json!({ "rules": 5 })),
        ("authz-list", json!({ "rules": [5] })),
        ("authz-list", json!({ "rules": [{}] })),
        ("authz-list", json!({ "rules": [{ "match": "x" }] })),
        ("authz-list", json!({ "rules": [{ "match": "x", "policy": "x" }] })),
        ("authz-list", json!({ "rules": [{ "match": "x", "policy": "allow", "format": "re" }] })),
        ("authz-list", json!({ "rules": [{ "match": "x", "policy": "allow", "a": 1 }] })),
        ("authz-list", json!({ "policy": "allow", "rules": [{ "match": "x", "policy": "deny" }] })),
        ("authz-list", json!({ "policy": "allow", "a": 1 })),
        ("authz-listfile", json!({})),
        ("authz-listfile", json!({ "filename": 5 })),
        ("authz-listfile", json!({ "filename": "/x", "refresh": 1 })),
        ("authz-pam", json!({})),
        ("authz-pam", json!({ "service": "x" })),
        ("secret", json!({})),
        ("secret", json!({ "data": "abc" })),
        ("secret", json!({ "data": 5 })),
        ("secret", json!({ "data": "" })),
        ("secret", json!({ "data": "a", "file": "/nowhere" })),
        ("secret", json!({ "file": "/nowhere" })),
        ("secret", json!({ "data": "!!!", "format": "base64" })),
        ("secret", json!({ "data": "YWJj", "format": "base64" })),
        ("secret", json!({ "data": "x", "format": "hex" })),
        ("secret", json!({ "data": "x", "keyid": "nosuch" })),
        ("secret", json!({ "data": "x", "keyid": 5 })),
        ("secret", json!({ "data": "x", "iv": 5 })),
        ("secret", json!({ "data": "x", "iv": "x" })),
        ("secret", json!({ "data": "x", "loaded": true })),
        ("secret", json!({ "data": "x", "a": 1 })),
        ("tls-creds", json!({})),
        ("nosuch", json!({})),
    ] {
        pair.object(kind, &properties);
    }
    for (command, arguments) in [
        ("object-add", json!({})),
        ("object-add", json!({ "id": "x" })),
        ("object-add", json!({ "qom-type": "tls-creds-anon" })),
        ("object-add", json!({ "qom-type": 5, "id": "x" })),
        ("object-add", json!({ "qom-type": "authz-simple", "id": 5 })),
        // The id is looked at before the files, and so is whether it is taken.
        ("object-add", json!({ "qom-type": "tls-creds-x509", "id": "9", "dir": "/nowhere" })),
        ("object-add", json!({ "qom-type": "authz-simple", "id": "a/b", "identity": "x" })),
        ("object-add", json!({ "qom-type": "authz-simple", "id": "", "identity": "x" })),
        ("object-add", json!({ "qom-type": "authz-simple", "id": "a_.-", "identity": "x" })),
        ("object-add", json!({ "qom-type": "tls-creds-x509", "id": "a_.-" })),
        ("object-add", json!({ "qom-type": "secret", "id": "a_.-" })),
        ("object-del", json!({ "id": "a_.-" })),
        ("object-del", json!({ "id": "a_.-" })),
        ("object-del", json!({})),
        ("object-del", json!({ "id": 5 })),
        ("object-del", json!({ "id": "x", "a": 1 })),
        ("migrate-set-parameters", json!({ "tls-creds": 5 })),
        ("migrate-set-parameters", json!({ "tls-hostname": true })),
        ("migrate-set-parameters", json!({ "tls-authz": ["x"] })),
        ("migrate-set-parameters", json!({ "tls-creds": "nosuch", "tls-hostname": "h" })),
        ("migrate-set-parameters", json!({ "tls-authz": "z", "tls-hostname": null })),
        ("query-migrate-parameters", json!({})),
        ("migrate-set-parameters", json!({ "tls-creds": null, "tls-authz": "" })),
        ("query-migrate-parameters", json!({})),
    ] {
        pair.answers_alike(command, arguments, &[]);
    }
}

#[test]
fn credentials_that_are_of_no_use_are_refused_in_qemus_words() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    let mut pair = Pair::start(&programs, "10.0");
    let write = |path: &Path, name: &str, text: &str| {
        std::fs::write(path.join(name), text).expect("a file");
    };
    let other = Authority::new("another");
    for (spoilt, spoil) in [
        ("nothing", &(|_: &Path| ()) as &dyn Fn(&Path)),
        ("no key", &|dir| std::fs::remove_file(dir.join("server-key.pem")).expect("it was there")),
        ("no certificate", &|dir| {
            std::fs::remove_file(dir.join("server-cert.pem")).expect("it was there");
        }),
        ("the CA is garbage", &|dir| write(dir, "ca-cert.pem", "garbage")),
        ("the certificate is garbage", &|dir| write(dir, "server-cert.pem", "garbage")),
        ("another's CA", &|dir| other.write_ca(dir)),
        ("the key is garbage", &|dir| write(dir, "server-key.pem", "garbage")),
        ("another's key", &|dir| {
            std::fs::copy(dir.join("client-key.pem"), dir.join("server-key.pem")).expect("a copy");
        }),
        ("the list of the revoked is garbage", &|dir| write(dir, "ca-crl.pem", "garbage")),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        Authority::new("words").write_all(dir.path());
        spoil(dir.path());
        println!("{spoilt}");
        pair.object("tls-creds-x509", &json!({ "dir": dir.path(), "endpoint": "server" }));
    }
}

#[test]
fn sets_of_descriptors_are_told_in_qemus_words() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    std::fs::write(&path, "no migration stream").expect("a file");
    let open = |write: bool, flags: i32| {
        let mut options = File::options();
        options.read(!write).write(write).custom_flags(flags).open(&path).expect("a file")
    };
    let (reads, writes, direct) = (open(false, 0), open(true, 0), open(false, libc::O_DIRECT));
    let [reads, writes, direct] = [reads.as_fd(), writes.as_fd(), direct.as_fd()];
    let mut pair = Pair::start(&programs, "10.0");
    for (command, arguments, fds) in [
        ("query-fdsets", json!({}), &[][..]),
        ("add-fd", json!({}), &[]),
        ("add-fd", json!({ "fdset-id": -1 }), &[reads]),
        ("add-fd", json!({ "fdset-id": "x", "opaque": 5 }), &[]),
        ("add-fd", json!({}), &[writes, reads]),
        ("add-fd", json!({ "fdset-id": 3, "opaque": "three" }), &[writes]),
        ("add-fd", json!({ "opaque": "" }), &[direct]),
        ("add-fd", json!({ "fdset-id": 3 }), &[direct]),
        ("add-fd", json!({ "fdset-id": i64::MAX }), &[reads]),
        ("query-fdsets", json!({}), &[]),
        ("remove-fd", json!({ "fdset-id": 77 }), &[]),
        ("remove-fd", json!({ "fdset-id": 3, "fd": 9999 }), &[]),
        ("remove-fd", json!({ "fd": 1 }), &[]),
        ("remove-fd", json!({ "fdset-id": i64::MAX }), &[]),
        ("remove-fd", json!({ "fdset-id": 0 }), &[]),
        ("remove-fd", json!({ "fdset-id": 0 }), &[]),
        ("query-fdsets", json!({}), &[]),
        ("add-fd", json!({}), &[reads]),
        ("query-fdsets", json!({}), &[]),
    ] {
        pair.answers_alike(command, arguments, fds);
    }
    // A QEMU whose file could not be opened listens to nothing more.
    for uri in [
        "file:/dev/fdset/1x",
        "file:/dev/fdset/77",
        "file:/dev/fdset/3,offset=1",
        "file:/dev/fdset",
    ] {
        let mut pair = Pair::start(&programs, "10.0");
        for fd in [writes, direct] {
            pair.answers_alike("add-fd", json!({ "fdset-id": 3 }), &[fd]);
        }
        pair.answers_alike("migrate-incoming", json!({ "uri": uri }), &[]);
    }
}
