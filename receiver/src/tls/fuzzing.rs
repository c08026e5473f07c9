//! What fuzzers need of here: both ends of a connection without a handshake, with keys that a
//! script chooses; certificates of any subject; readers that are nobody else's.

use ring::aead;
use rustls::pki_types::CertificateDer;

use super::error::TlsError;
use super::record::{ContentType, Form, Protection};
use super::stream::{NextKeys, TlsInfo, TlsStream};

pub(crate) use super::credentials::{certificates, private_key, revocations, roots};
pub(crate) use super::distinguished_name::distinguished_name;
pub(crate) use super::priority::{NOT_OFFERED, parse as parse_priority};
pub(crate) use super::stream::OWED_MAX;

/// A certificate that nobody signed, whose subject has these bytes.
pub(crate) fn certificate_with(subject: &[u8]) -> CertificateDer<'static> {
    const ALGORITHM: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    const VERSION_SERIAL: &[u8] = b"\xa0\x03\x02\x01\x02\x02\x01\x01";
    const ISSUER: &[u8] = b"\x30\0";
    const VALIDITY: &[u8] = b"\x30\x1e\x17\x0d200101000000Z\x17\x0d400101000000Z";
    const KEY: &[u8] = b"\x30\x1a\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\
        \x48\xce\x3d\x03\x01\x07\x03\x03\0\x04\x01";
    const SIGNATURE: &[u8] = b"\x03\x09\0\x30\x06\x02\x01\x01\x02\x01\x01";
    let subject = der(0x30, subject);
    let signed = [VERSION_SERIAL, ALGORITHM, ISSUER, VALIDITY, &subject, KEY].concat();
    der(0x30, &[&der(0x30, &signed), ALGORITHM, SIGNATURE].concat()).into()
}

/// One element (X.690 8.1).
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let bytes = content.len().to_be_bytes();
    let long = &bytes[bytes.iter().position(|&byte| byte != 0).unwrap_or(7)..];
    let length = match long {
        [short @ 0..0x80] => vec![*short],
        _ => [&[0x80 + long.len() as u8], long].concat(),
    };
    [&[tag], &length[..], content].concat()
}

/// The other end: seals what it likes.
pub(crate) struct Sealer {
    suite: Suite,
    keys: Protection,
    updates: u8,
}

/// Version and suite.
#[derive(Clone, Copy)]
struct Suite {
    algorithm: &'static aead::Algorithm,
    form: Form,
}

impl Sealer {
    /// Our end, and the other, of version and suite number `suite`.
    pub(crate) fn pair(suite: u8) -> (Box<TlsStream>, Self) {
        let algorithms = [&aead::AES_128_GCM, &aead::AES_256_GCM, &aead::CHACHA20_POLY1305];
        let algorithm = algorithms[usize::from(suite >> 1) % 3];
        let tls13 = suite.is_multiple_of(2);
        let form = match tls13 {
            true => Form::Tls13,
            false if algorithm == &aead::CHACHA20_POLY1305 => Form::Tls12Implicit,
            false => Form::Tls12Explicit,
        };
        let suite = Suite { algorithm, form };
        let info = TlsInfo { version: "fuzzed", suite: String::new(), client: None };
        let next = Box::new(Counted { suite, rx: 0, tx: 0 });
        let stream = TlsStream::with_keys(info, tls13, suite.rx(0), suite.tx(0), next);
        (Box::new(stream), Self { suite, keys: suite.rx(0), updates: 0 })
    }

    /// Whether it is TLS 1.3.
    pub(crate) fn is_tls13(&self) -> bool {
        self.suite.form == Form::Tls13
    }

    /// One record of that content type.
    pub(crate) fn seal(&mut self, content: u8, plain: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        self.keys.seal(ContentType(content), plain, &mut record);
        record
    }

    /// What is sealed from now on has the next keys.
    pub(crate) fn update(&mut self) {
        self.updates = self.updates.wrapping_add(1);
        self.keys = self.suite.rx(self.updates);
    }
}

impl Suite {
    /// What the peer seals with after so many updates.
    fn rx(self, updates: u8) -> Protection {
        self.keys(0x40, updates)
    }

    /// What we seal with.
    fn tx(self, updates: u8) -> Protection {
        self.keys(0x80, updates)
    }

    fn keys(self, side: u8, updates: u8) -> Protection {
        let mut key = vec![side; self.algorithm.key_len()];
        key[0] = updates;
        Protection::with_key(self.form, 0, self.algorithm, &key, [side ^ 7; aead::NONCE_LEN])
    }
}

/// Keys one after the other.
struct Counted {
    suite: Suite,
    rx: u8,
    tx: u8,
}

impl NextKeys for Counted {
    fn rx(&mut self) -> Result<Protection, TlsError> {
        self.rx = self.rx.wrapping_add(1);
        Ok(self.suite.rx(self.rx))
    }

    fn tx(&mut self) -> Result<Protection, TlsError> {
        self.tx = self.tx.wrapping_add(1);
        Ok(self.suite.tx(self.tx))
    }
}
