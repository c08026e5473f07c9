//! TLS records: their header, and the protection of one direction.
//!
//! The handshake is rustls's; the records after it are opened here, in place and
//! without an allocation: rustls copies each record's plaintext into a buffer of
//! its own (docs/decisions/0008-tls-library.md). RFC 8446 5.2 (TLS 1.3), RFC 5288
//! (AES-GCM in 1.2), RFC 7905 (ChaCha20-Poly1305 in 1.2).

use std::ops::Range;

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::error::TlsError;

/// What a record holds (RFC 8446 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType(pub u8);

impl ContentType {
    /// Nothing, for the sake of old middleboxes.
    pub const CHANGE_CIPHER_SPEC: Self = Self(20);
    /// A warning, or the end.
    pub const ALERT: Self = Self(21);
    /// Messages of a handshake, or after one.
    pub const HANDSHAKE: Self = Self(22);
    /// Data of the application.
    pub const DATA: Self = Self(23);
}

/// The first five bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it says that it holds.
    pub content: ContentType,
    /// Of the record, header included.
    pub bytes: usize,
}

impl RecordHeader {
    /// The header at the front of `bytes`; `None` if it is not whole.
    ///
    /// # Errors
    /// No record of TLS, or a longer one than there can be.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, TlsError> {
        let Some(&[content, major, minor, high, low]) = bytes.first_chunk() else {
            return Ok(None);
        };
        let types = ContentType::CHANGE_CIPHER_SPEC.0..=ContentType::DATA.0;
        if !types.contains(&content) || major != 3 {
            return Err(TlsError::NotTls(content, major, minor));
        }
        let found = usize::from(u16::from_be_bytes([high, low]));
        if found > BODY_BYTES_MAX {
            return Err(TlsError::RecordTooLong { found, limit: BODY_BYTES_MAX });
        }
        Ok(Some(Self { content: ContentType(content), bytes: HEADER_BYTES + found }))
    }
}

/// How records are protected: the version and, in TLS 1.2, where the nonce is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// TLS 1.3: content type inside, nonce from the sequence number.
    Tls13,
    /// TLS 1.2 with AES-GCM: eight bytes of the nonce stand in the record.
    Tls12Explicit,
    /// TLS 1.2 with ChaCha20-Poly1305: nonce from the sequence number.
    Tls12Implicit,
}

impl Form {
    fn explicit_bytes(self) -> usize {
        if self == Self::Tls12Explicit { EXPLICIT_BYTES } else { 0 }
    }
}

/// The keys of one direction.
pub struct Protection {
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    seq: u64,
    form: Form,
}

impl Protection {
    /// Keys as the handshake made them; `seq` is the next record's number.
    pub fn new(tls13: bool, seq: u64, secrets: &ConnectionTrafficSecrets) -> Self {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => unreachable!("no other suite is offered"),
        };
        let form = match tls13 {
            true => Form::Tls13,
            false if algorithm == &aead::CHACHA20_POLY1305 => Form::Tls12Implicit,
            false => Form::Tls12Explicit,
        };
        let iv = iv.as_ref().try_into().expect("nonces of all suites have 12 bytes");
        Self::with_key(form, seq, algorithm, key.as_ref(), iv)
    }

    /// Keys by hand; `key` has the length that `algorithm` wants.
    ///
    /// # Panics
    /// If it has not: our own bug.
    pub fn with_key(
        form: Form,
        seq: u64,
        algorithm: &'static aead::Algorithm,
        key: &[u8],
        iv: [u8; aead::NONCE_LEN],
    ) -> Self {
        let key = UnboundKey::new(algorithm, key).expect("the key has its suite's length");
        Self { key: LessSafeKey::new(key), iv, seq, form }
    }

    /// Decrypts a whole record in place; returns its content type and where in
    /// it the plaintext is.
    ///
    /// # Errors
    /// It is not what the peer sealed as this record.
    #[inline]
    pub fn open(
        &mut self,
        header: RecordHeader,
        record: &mut [u8],
    ) -> Result<(ContentType, Range<usize>), TlsError> {
        assert!(record.len() == header.bytes, "one whole record");
        let from = HEADER_BYTES + self.form.explicit_bytes();
        let plain_bytes = header.bytes.checked_sub(from + TAG_BYTES);
        let plain_bytes = plain_bytes.ok_or(TlsError::NoContent(header.bytes))?;
        let (head, sealed) = record.split_at_mut(from);
        let nonce = match self.form {
            Form::Tls12Explicit => {
                let mut nonce = self.iv;
                nonce[SALT_BYTES..].copy_from_slice(&head[HEADER_BYTES..]);
                nonce
            }
            Form::Tls13 | Form::Tls12Implicit => self.numbered_nonce(),
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let header_bytes: [u8; HEADER_BYTES] = *head.first_chunk().expect("a whole header");
        let opened = match self.form {
            Form::Tls13 => self.key.open_in_place(nonce, Aad::from(header_bytes), sealed),
            Form::Tls12Explicit | Form::Tls12Implicit => {
                let aad = tls12_aad(self.seq, header.content, plain_bytes);
                self.key.open_in_place(nonce, Aad::from(aad), sealed)
            }
        };
        let plain = opened.map_err(|_| TlsError::Undecryptable)?;
        self.seq += 1;
        let (content, bytes) = match self.form {
            Form::Tls13 => {
                // Content, its type, then zeros to any length.
                let last = plain.iter().rposition(|&byte| byte != 0);
                let last = last.ok_or(TlsError::NoContent(header.bytes))?;
                (ContentType(plain[last]), last)
            }
            Form::Tls12Explicit | Form::Tls12Implicit => (header.content, plain_bytes),
        };
        if bytes > PLAIN_BYTES_MAX {
            return Err(TlsError::RecordTooLong { found: bytes, limit: PLAIN_BYTES_MAX });
        }
        Ok((content, from..from + bytes))
    }

    /// Appends `plain`, at most 16 KiB, as one record to `out`.
    pub fn seal(&mut self, content: ContentType, plain: &[u8], out: &mut Vec<u8>) {
        assert!(plain.len() <= PLAIN_BYTES_MAX, "one record's worth");
        let numbered = self.numbered_nonce();
        let inner = usize::from(self.form == Form::Tls13);
        let body = self.form.explicit_bytes() + plain.len() + inner + TAG_BYTES;
        let outer = if self.form == Form::Tls13 { ContentType::DATA } else { content };
        let [high, low] = u16::try_from(body).expect("it fits a record").to_be_bytes();
        let header = [outer.0, 3, 3, high, low];
        out.extend_from_slice(&header);
        if self.form == Form::Tls12Explicit {
            out.extend_from_slice(&numbered[SALT_BYTES..]);
        }
        let from = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(numbered);
        let tag = if self.form == Form::Tls13 {
            out.push(content.0);
            let sealed = &mut out[from..];
            self.key.seal_in_place_separate_tag(nonce, Aad::from(header), sealed)
        } else {
            let aad = tls12_aad(self.seq, content, plain.len());
            self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[from..])
        };
        out.extend_from_slice(tag.expect("one record is never too long").as_ref());
        self.seq += 1;
    }

    /// Static IV and sequence number, each bit of both (RFC 8446 5.3).
    fn numbered_nonce(&self) -> [u8; aead::NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[SALT_BYTES..].iter_mut().zip(self.seq.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

/// What TLS 1.2 authenticates beside the content (RFC 5246 6.2.3.3).
fn tls12_aad(seq: u64, content: ContentType, plain_bytes: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&seq.to_be_bytes());
    aad[8..11].copy_from_slice(&[content.0, 3, 3]);
    let bytes = u16::try_from(plain_bytes).expect("it came in a record");
    aad[11..].copy_from_slice(&bytes.to_be_bytes());
    aad
}

/// Of a record.
pub const HEADER_BYTES: usize = 5;
/// Plaintext of one record (RFC 8446 5.1).
pub const PLAIN_BYTES_MAX: usize = 1 << 14;
/// A record's body: TLS 1.2 allows 2048 bytes of protection, 1.3 only 256.
const BODY_BYTES_MAX: usize = PLAIN_BYTES_MAX + 2048;
/// The longest record, header included.
pub const RECORD_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;
/// Of all suites.
const TAG_BYTES: usize = 16;
/// The part of a nonce that TLS 1.2 with AES-GCM does not send.
const SALT_BYTES: usize = 4;
const EXPLICIT_BYTES: usize = aead::NONCE_LEN - SALT_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn protections() -> Vec<(Protection, Protection)> {
        let of = |algorithm: &'static aead::Algorithm, form| {
            Protection::with_key(form, 5, algorithm, &vec![7; algorithm.key_len()], [3; 12])
        };
        let mut pairs = Vec::new();
        for algorithm in [&aead::AES_128_GCM, &aead::AES_256_GCM, &aead::CHACHA20_POLY1305] {
            let implicit = algorithm == &aead::CHACHA20_POLY1305;
            let tls12 = if implicit { Form::Tls12Implicit } else { Form::Tls12Explicit };
            for form in [Form::Tls13, tls12] {
                pairs.push((of(algorithm, form), of(algorithm, form)));
            }
        }
        pairs
    }

    fn sealed(protection: &mut Protection, plain: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        protection.seal(ContentType::DATA, plain, &mut record);
        record
    }

    fn open(protection: &mut Protection, record: &mut [u8]) -> Result<Vec<u8>, TlsError> {
        let header = RecordHeader::parse(record)?.unwrap();
        let (content, plain) = protection.open(header, record)?;
        assert_eq!(content, ContentType::DATA);
        Ok(record[plain].to_vec())
    }

    #[test]
    fn what_was_sealed_opens_in_order_and_only_once() {
        for (mut sealer, mut opener) in protections() {
            for bytes in [0, 1, 4096, PLAIN_BYTES_MAX] {
                let plain: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
                let mut record = sealed(&mut sealer, &plain);
                let mut again = record.clone();
                assert_eq!(open(&mut opener, &mut record).unwrap(), plain);
                // The explicit nonce is the record's own; the number is authenticated.
                assert_eq!(open(&mut opener, &mut again), Err(TlsError::Undecryptable));
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        for (mut sealer, opener) in protections() {
            let record = sealed(&mut sealer, b"a page");
            for bit in 0..record.len() * 8 {
                let mut opener = Protection { key: opener.key.clone(), ..opener };
                let mut record = record.clone();
                record[bit / 8] ^= 1 << (bit % 8);
                let Ok(Some(header)) = RecordHeader::parse(&record) else { continue };
                if header.bytes != record.len() {
                    continue;
                }
                // TLS 1.2 and 1.3 both authenticate type and length; a version inside 3.x is
                // fixed in TLS 1.2's own data.
                let version = bit / 8 == 2 && opener.form != Form::Tls13;
                assert!(version || opener.open(header, &mut record).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn padding_without_content_and_content_without_room_are_errors() {
        let (mut sealer, mut opener) = protections().remove(0);
        assert_eq!(sealer.form, Form::Tls13);
        let mut record = Vec::new();
        sealer.seal(ContentType(0), &[0; 40], &mut record);
        let header = RecordHeader::parse(&record).unwrap().unwrap();
        assert!(matches!(opener.open(header, &mut record), Err(TlsError::NoContent(_))));
        for (_, mut opener) in protections() {
            let mut short = [23, 3, 3, 0, 15].to_vec();
            short.resize(20, 0);
            let header = RecordHeader::parse(&short).unwrap().unwrap();
            assert_eq!(opener.open(header, &mut short), Err(TlsError::NoContent(20)));
        }
    }

    #[test]
    fn headers_of_no_tls_and_of_overlong_records_are_refused() {
        for cut in 0..HEADER_BYTES {
            assert_eq!(RecordHeader::parse(&[23, 3, 3, 0, 1][..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(RecordHeader::parse(b"QEVM\0"), Err(TlsError::NotTls(b'Q', b'E', b'V')));
        assert!(RecordHeader::parse(&[24, 3, 3, 0, 1]).is_err());
        assert!(RecordHeader::parse(&[23, 2, 3, 0, 1]).is_err());
        let [high, low] = u16::try_from(BODY_BYTES_MAX).unwrap().to_be_bytes();
        let longest = RecordHeader::parse(&[23, 3, 3, high, low]).unwrap().unwrap();
        assert_eq!(longest.bytes, RECORD_BYTES_MAX);
        assert!(RecordHeader::parse(&[23, 3, 3, high, low + 1]).is_err());
    }
}
