//! Both ends of a connection without a handshake, for fuzzers: keys that a script chooses.

use ring::aead;

use super::error::TlsError;
use super::record::{ContentType, Form, Protection};
use super::stream::{NextKeys, TlsInfo, TlsStream};

pub(crate) use super::stream::OWED_MAX;

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
