//! What directories of credentials are taken.

use std::fs;

use super::certificates::{Authority, Whose};
use crate::tls::{X509Credentials, X509Options};

/// The refusal of a directory that `change` has been at, with `DIR` for its path.
fn refusal(
    change: impl FnOnce(&std::path::Path),
    options: impl FnOnce(&mut X509Options),
) -> String {
    let dir = tempfile::tempdir().unwrap();
    Authority::new("ca").write_all(dir.path());
    change(dir.path());
    let mut asked = X509Options::new(dir.path());
    options(&mut asked);
    let error = X509Credentials::load(&asked).unwrap_err().to_string();
    error.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn missing_and_useless_files_are_told_in_qemus_words() {
    for file in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        let missing = refusal(|dir| fs::remove_file(dir.join(file)).unwrap(), |_| {});
        let wanted = format!("Unable to access credentials DIR/{file}: No such file or directory");
        assert_eq!(missing, wanted);
    }
    let garbage =
        |file: &'static str| refusal(|dir| fs::write(dir.join(file), "garbage").unwrap(), |_| {});
    assert_eq!(garbage("ca-cert.pem"), "Unable to import CA certificate list DIR/ca-cert.pem");
    assert_eq!(
        garbage("server-cert.pem"),
        "Unable to import server certificate DIR/server-cert.pem: Base64 unexpected header error."
    );
    assert_eq!(
        garbage("server-key.pem"),
        "Cannot load certificate 'DIR/server-cert.pem' & key 'DIR/server-key.pem': The requested \
         data were not available."
    );
    let empty_list = "Cannot load CRL 'DIR/ca-crl.pem': Base64 decoding error.";
    assert_eq!(garbage("ca-crl.pem"), empty_list);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = refusal(|dir| fs::write(dir.join("server-key.pem"), encrypted).unwrap(), |_| {});
    assert!(locked.ends_with("encrypted private keys are not supported: decrypt it"), "{locked}");
}

#[test]
fn a_certificate_of_another_authority_or_key_is_noticed() {
    let foreign = |dir: &std::path::Path| Authority::new("other").write(dir, Whose::Server);
    assert_eq!(
        refusal(foreign, |_| {}),
        "Our own certificate DIR/server-cert.pem failed validation against DIR/ca-cert.pem: The \
         certificate hasn't got a known issuer"
    );
    let dir = tempfile::tempdir().unwrap();
    Authority::new("ca").write_all(dir.path());
    foreign(dir.path());
    let options = X509Options { sanity_check: false, ..X509Options::new(dir.path()) };
    X509Credentials::load(&options).unwrap();
    let other_key = |dir: &std::path::Path| {
        fs::copy(dir.join("client-key.pem"), dir.join("server-key.pem")).unwrap();
    };
    assert!(refusal(other_key, |_| {}).contains("& key 'DIR/server-key.pem'"));
}

#[test]
fn a_priority_that_cannot_be_had_is_refused() {
    let refused = refusal(|_| {}, |options| options.priority = Some("NORMAL:+ANON-DH".into()));
    assert_eq!(refused, "TLS priority 'NORMAL:+ANON-DH': '+ANON-DH' is not supported");
}
