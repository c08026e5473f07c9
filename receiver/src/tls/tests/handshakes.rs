//! Who is let in, and what the others are told.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rustls::version::{TLS12, TLS13};

use super::certificates::{Authority, CLIENT_NAME, Whose};
use super::peer::{CREDS, Pair, client, server};
use crate::tls::{Authz, Handshake, Step, TlsError};

#[test]
fn both_versions_and_every_cipher_are_agreed_on() {
    for (version, name) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
        for (cipher, in_suite) in [
            ("AES-128-GCM", "AES_128_GCM"),
            ("AES-256-GCM", "AES_256_GCM"),
            ("CHACHA20-POLY1305", "CHACHA20"),
        ] {
            let others = ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"];
            let minus = others.iter().filter(|other| **other != cipher);
            let priority: String = std::iter::once("NORMAL".to_owned())
                .chain(minus.map(|other| format!(":-{other}")))
                .collect();
            let server = server(CREDS.path(), Some(&priority), None);
            let mut pair = Pair::new(&server, client(CREDS.path(), &[version]));
            let (stream, told) = pair.shake();
            let stream = stream.unwrap();
            told.unwrap();
            let info = stream.info();
            assert_eq!(info.version, name);
            assert!(info.suite.contains(in_suite), "{info:?}");
            assert_eq!(info.client.as_deref(), Some(CLIENT_NAME));
        }
    }
}

#[test]
fn who_has_no_right_certificate_is_refused_and_told_why() {
    let ca = Authority::new("right");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    ca.write_all(&at("server"));
    let wrong = Authority::new("wrong");
    // Trusts the server, shows a certificate of somebody else.
    ca.write_ca(&at("stranger"));
    wrong.write(&at("stranger"), Whose::Client);
    ca.write_ca(&at("expired"));
    ca.write(&at("expired"), Whose::ExpiredClient);
    ca.write_ca(&at("nobody"));
    // Trusts another authority than the server's.
    wrong.write_ca(&at("doubter"));
    ca.write(&at("doubter"), Whose::Client);
    let server = server(&at("server"), None, None);
    for version in [&TLS13, &TLS12] {
        for (who, why, alert) in [
            ("stranger", "UnknownIssuer", "UnknownCA"),
            ("expired", "expired", "CertificateExpired"),
            ("nobody", "peer sent no certificates", "CertificateRequired"),
            ("doubter", "received fatal alert", ""),
        ] {
            let mut pair = Pair::new(&server, client(&at(who), &[version]));
            let (stream, told) = pair.shake();
            let error = stream.unwrap_err();
            let text = error.to_string();
            assert!(text.to_lowercase().contains(&why.to_lowercase()), "{who}: {text}");
            let told = told.unwrap_err().to_string();
            assert!(told.contains(alert), "{who}: {told}");
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused() {
    let ca = Authority::new("revoking");
    let dir = tempfile::tempdir().unwrap();
    ca.write_all(dir.path());
    let mut before = Pair::new(&server(dir.path(), None, None), client(dir.path(), &[&TLS13]));
    before.shake().0.unwrap();
    ca.write_revocations(dir.path());
    let mut after = Pair::new(&server(dir.path(), None, None), client(dir.path(), &[&TLS13]));
    let error = after.shake().0.unwrap_err().to_string();
    assert!(error.contains("Revoked"), "{error}");
}

#[test]
fn only_the_name_that_is_authorized_is_let_in() {
    for (identity, allowed) in [(CLIENT_NAME, true), ("CN=source", false)] {
        let authz = Some(Authz::Simple { identity: identity.into() });
        let server = server(CREDS.path(), None, authz);
        let mut pair = Pair::new(&server, client(CREDS.path(), &[&TLS13]));
        let (stream, told) = pair.shake();
        match stream {
            Ok(_) => assert!(allowed),
            Err(error) => {
                assert!(!allowed);
                assert_eq!(error, TlsError::Denied(CLIENT_NAME.into()));
                let told = told.unwrap_err().to_string();
                assert!(told.contains("AccessDenied"), "{told}");
            }
        }
    }
}

#[test]
fn what_follows_the_handshake_is_left_in_the_socket() {
    for version in [&TLS13, &TLS12] {
        let server = server(CREDS.path(), None, None);
        let mut pair = Pair::new(&server, client(CREDS.path(), &[version]));
        // Queued now, it goes out right behind the last flight.
        pair.client.writer().write_all(b"at once").unwrap();
        let mut stream = pair.shake().0.unwrap();
        let mut bytes = [0; 64];
        let have = nix::unistd::read(&pair.ours, &mut bytes).unwrap();
        let opened = stream.open(&mut bytes[..have]).unwrap();
        let crate::tls::Opened::Record { plain, bytes: all } = opened else { panic!("{opened:?}") };
        assert_eq!((&bytes[plain], all), (&b"at once"[..], have));
    }
}

#[test]
fn no_tls_and_endless_handshakes_are_refused() {
    let server = server(CREDS.path(), None, None);
    let first = |sent: &[u8]| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(sent).unwrap();
        let mut handshake = Handshake::new(std::sync::Arc::clone(&server)).unwrap();
        handshake.step(&ours.into())
    };
    assert_eq!(first(b"QEVM\0\0\0\x03").unwrap_err(), TlsError::NotTls(b'Q', b'E', b'V'));
    assert!(matches!(first(b"GET / HTTP").unwrap_err(), TlsError::NotTls(..)));
    assert!(matches!(first(b"\x16\x03\x01\xff\xff"), Err(TlsError::RecordTooLong { .. })));
    assert!(matches!(first(b"\x16\x03\x01"), Ok(Step::Read)));
    // A hello that says it has 64 KiB, in records that never are all of it.
    let mut endless = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    endless.resize(5 + 0x4000, 0);
    for _ in 0..8 {
        endless.extend([0x16, 3, 1, 0x40, 0]);
        endless.extend([0; 0x4000]);
    }
    assert!(first(&endless).is_err());
}

#[test]
fn every_prefix_of_a_hello_waits_and_every_flipped_byte_fails_or_waits() {
    let server = server(CREDS.path(), None, None);
    let mut hello = Vec::new();
    let mut pair = Pair::new(&server, client(CREDS.path(), &[&TLS13, &TLS12]));
    pair.client.write_tls(&mut hello).unwrap();
    for cut in 0..hello.len() {
        for spoilt in [None, Some(cut)] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut bytes = if spoilt.is_some() { hello.clone() } else { hello[..cut].to_vec() };
            if let Some(at) = spoilt {
                bytes[at] ^= 0xff;
            }
            theirs.write_all(&bytes).unwrap();
            let mut handshake = Handshake::new(std::sync::Arc::clone(&server)).unwrap();
            let step = handshake.step(&ours.into());
            assert!(!matches!(step, Ok(Step::Done(_))), "{cut}");
            assert!(spoilt.is_some() || matches!(step, Ok(Step::Read)), "{cut}: {step:?}");
        }
    }
}
