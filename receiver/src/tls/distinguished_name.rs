//! A certificate's subject as QEMU writes it, to be compared with `tls-authz`.
//!
//! GnuTLS `gnutls_x509_crt_get_dn`: parts in the order of the certificate,
//! `NAME=value` with commas between, `+` between parts of one set; special
//! characters with a backslash (RFC 4514 2.4). Types without a name go by number,
//! and their values, as all that are no text of the type's own form, with `#` and
//! the DER in hex. Of text that cannot be converted to UTF-8 the content comes so,
//! behind `\#`; what calls itself UTF-8 is not looked at, so that a name is bytes.

use std::io::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, Tag, ToDer};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

use super::error::TlsError;

/// The subject of `certificate`.
///
/// # Errors
/// It is no certificate, which the verification has found before; or its subject
/// cannot be written: it is empty, or a part of it is. QEMU refuses these too.
pub(crate) fn distinguished_name(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, TlsError> {
    let wrong = |error: String| TlsError::Handshake(format!("client certificate: {error}").into());
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| wrong(error.to_string()))?;
    let mut name = Vec::new();
    for set in certificate.subject().iter() {
        for (index, attribute) in set.iter().enumerate() {
            if !name.is_empty() {
                name.push(if index == 0 { b',' } else { b'+' });
            }
            push_attribute(&mut name, attribute).map_err(wrong)?;
        }
    }
    if name.is_empty() {
        return Err(wrong("its subject is empty".to_owned()));
    }
    Ok(name)
}

fn push_attribute(name: &mut Vec<u8>, attribute: &AttributeTypeAndValue<'_>) -> Result<(), String> {
    let oid = attribute.attr_type().to_id_string();
    let is_printed = oid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_printed || !is_identifier(attribute.attr_type().as_bytes()) {
        return Err("an attribute's type is no object identifier".to_owned());
    }
    let value = attribute.attr_value();
    let known = NAMES.iter().find(|(number, ..)| *number == oid);
    let short = known.map_or(&*oid, |(_, short, _)| short);
    name.extend_from_slice(short.as_bytes());
    name.push(b'=');
    if let Some((.., form)) = known {
        let content = value.data.to_vec();
        match form {
            Form::Directory if content.is_empty() => {
                return Err(format!("its {short} is empty"));
            }
            // As 3.8 has it; 3.7 writes the DER.
            _ if content.is_empty() => return Ok(()),
            _ => {}
        }
        if let Some(text) = form.text(value, content) {
            push_escaped(name, &text);
            return Ok(());
        }
    }
    name.push(b'#');
    push_hex(name, &value.to_der_vec().map_err(|error| error.to_string())?);
    Ok(())
}

/// True if these are numbers (X.690 8.19): each whole, and in the one form that it
/// has, or a type could pass for another.
fn is_identifier(bytes: &[u8]) -> bool {
    let continues = |byte: u8| byte & 0x80 != 0;
    let mut begins = true;
    let all_short = bytes.iter().all(|&byte| {
        let is_padding = begins && byte == 0x80;
        begins = !continues(byte);
        !is_padding
    });
    all_short && bytes.last().is_some_and(|&last| !continues(last))
}

fn push_escaped(name: &mut Vec<u8>, value: &[u8]) {
    let last = value.len().saturating_sub(1);
    for (at, &byte) in value.iter().enumerate() {
        let special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';');
        let at_edge = (byte == b' ' && (at == 0 || at == last)) || (byte == b'#' && at == 0);
        if special || at_edge {
            name.push(b'\\');
        }
        name.push(byte);
    }
}

fn push_hex(name: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        write!(name, "{byte:02x}").expect("a vector takes everything");
    }
}

/// The strings that X.520 has for a type's values.
#[derive(Clone, Copy)]
enum Form {
    /// A DirectoryString.
    Directory,
    /// A PrintableString.
    Printable,
    /// An IA5String.
    Ia5,
}

impl Form {
    /// The text of a value with this content, if it is of this form; with a NUL it is none.
    fn text(self, value: &Any<'_>, content: Vec<u8>) -> Option<Vec<u8>> {
        if value.header.class() != Class::Universal || value.header.is_constructed() {
            return None;
        }
        let is_printable = |byte: &u8| (b' '..=b'~').contains(byte);
        let text = match (self, value.tag()) {
            (Self::Directory, Tag::Utf8String | Tag::PrintableString)
            | (Self::Printable, Tag::PrintableString)
            | (Self::Ia5, Tag::Ia5String) => content,
            (Self::Directory, Tag::T61String) if content.iter().all(is_printable) => content,
            (Self::Directory, Tag::BmpString) => {
                utf8_of(&content).unwrap_or_else(|| numbers(&content))
            }
            (Self::Directory, Tag::T61String | Tag::UniversalString) => numbers(&content),
            _ => return None,
        };
        Some(text).filter(|text| !text.contains(&0))
    }
}

/// UTF-16 without a NUL at its end and without half a unit, as UTF-8; `None` if it
/// has half a surrogate pair.
fn utf8_of(content: &[u8]) -> Option<Vec<u8>> {
    let content = match content {
        [first @ .., 0, 0] if !first.is_empty() => first,
        all => all,
    };
    let (units, _) = content.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|two| u16::from_be_bytes(*two)).collect();
    String::from_utf16(&units).ok().map(String::into_bytes)
}

/// What stands for text that cannot be converted; its `#` is escaped as any other.
fn numbers(content: &[u8]) -> Vec<u8> {
    let mut text = vec![b'#'];
    push_hex(&mut text, content);
    text
}

/// Attribute types that GnuTLS has a short name for (`lib/x509/common.c`,
/// `_oid2str`), as far as they are seen in certificates of hosts and people.
const NAMES: [(&str, &str, Form); 18] = [
    ("2.5.4.6", "C", Form::Printable),
    ("2.5.4.8", "ST", Form::Directory),
    ("2.5.4.7", "L", Form::Directory),
    ("2.5.4.10", "O", Form::Directory),
    ("2.5.4.11", "OU", Form::Directory),
    ("2.5.4.3", "CN", Form::Directory),
    ("2.5.4.4", "surName", Form::Directory),
    ("2.5.4.5", "serialNumber", Form::Printable),
    ("2.5.4.9", "street", Form::Directory),
    ("2.5.4.12", "title", Form::Directory),
    ("2.5.4.17", "postalCode", Form::Directory),
    ("2.5.4.42", "givenName", Form::Directory),
    ("2.5.4.43", "initials", Form::Directory),
    ("2.5.4.44", "generationQualifier", Form::Directory),
    ("2.5.4.65", "pseudonym", Form::Directory),
    ("0.9.2342.19200300.100.1.25", "DC", Form::Ia5),
    ("0.9.2342.19200300.100.1.1", "UID", Form::Directory),
    ("1.2.840.113549.1.9.1", "EMAIL", Form::Ia5),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fuzzing::certificate_with;

    /// The name of one attribute, its type by the bytes of its OID.
    fn name(oid: &[u8], tag: u8, value: &[u8]) -> Result<Vec<u8>, TlsError> {
        let length = |bytes: usize| u8::try_from(bytes).unwrap();
        let oid = [&[6, length(oid.len())], oid].concat();
        let value = [&[tag, length(value.len())], value].concat();
        let pair = [&[0x30, length(oid.len() + value.len())], &oid[..], &value].concat();
        let set = [&[0x31, length(pair.len())], &pair[..]].concat();
        distinguished_name(&certificate_with(&set))
    }

    #[test]
    fn an_attribute_without_a_type_is_no_name() {
        for oid in [&[][..], &[0x55, 4, 0x83], &[0x55, 4, 0x80, 3], &[0xff; 20]] {
            let error = name(oid, 0x0c, b"a").unwrap_err().to_string();
            assert!(error.contains("client certificate: "), "{oid:?}: {error}");
        }
    }

    #[test]
    fn a_subject_that_is_empty_or_has_an_empty_text_is_no_name() {
        let texts = [0x0c, 0x13, 0x14, 0x1e, 0x16, 0x05, 0x30, 0x80];
        let errors = texts.map(|tag| name(&[0x55, 4, 3], tag, b"").unwrap_err());
        let none = distinguished_name(&certificate_with(b"")).unwrap_err();
        for (error, found) in errors.iter().map(|error| (error, "CN")).chain([(&none, "subject")]) {
            let wanted = format!("TLS handshake: client certificate: its {found} is empty");
            assert_eq!(error.to_string(), wanted);
        }
    }

    /// Asked of GnuTLS 3.7 and 3.8, `gnutls_x509_crt_get_dn`; where they differ, as 3.8 has it.
    #[test]
    fn values_are_written_as_gnutls_writes_them() {
        const CN: &[u8] = &[0x55, 4, 3];
        for (oid, tag, value, written) in [
            (CN, 0x0c, &b"a,b"[..], "CN=a\\,b"),
            (CN, 0x0c, b" #x ", "CN=\\ #x\\ "),
            (CN, 0x0c, b"#x", "CN=\\#x"),
            (CN, 0x0c, b"  ", "CN=\\ \\ "),
            (CN, 0x0c, b"a=b;c\"d<e>", "CN=a=b\\;c\\\"d\\<e\\>"),
            (CN, 0x0c, b"a\nb", "CN=a\nb"),
            (CN, 0x0c, b"a\0b", "CN=#0c03610062"),
            (CN, 0x0c, b"caf\xc3\xa9", "CN=café"),
            (CN, 0x14, b"caf\xe9,", "CN=\\#636166e92c"),
            (CN, 0x14, b"\x7f", "CN=\\#7f"),
            (CN, 0x14, b"a\nb", "CN=\\#610a62"),
            (CN, 0x14, b"a\0", "CN=\\#6100"),
            (CN, 0x14, b"#ff,", "CN=\\#ff\\,"),
            (CN, 0x1e, b"\0a\0", "CN=a"),
            (CN, 0x1e, b"a", "CN="),
            (CN, 0x1e, b"\0a\0\0", "CN=a"),
            (CN, 0x1e, b"\0a\0\0\0", "CN=a"),
            (CN, 0x1e, b"\xd8\0\0", "CN="),
            (CN, 0x1e, b"\0\0", "CN=#1e020000"),
            (CN, 0x1e, b"\0a\0\0\0b", "CN=#1e06006100000062"),
            (CN, 0x1e, b"\0a\xd8\0\0\0", "CN=\\#0061d8000000"),
            (CN, 0x1e, b"\xd8\0\xdc\0", "CN=\u{10000}"),
            (CN, 0x1c, b"\0\0\0a", "CN=\\#00000061"),
            (CN, 0x2c, b"\x0c\x01a", "CN=#2c030c0161"),
            (CN, 0x8c, b"abc", "CN=#8c03616263"),
            (CN, 0x80, b"abc", "CN=#8003616263"),
            (&[0x55, 4, 6], 0x13, b"", "C="),
            (&[0x55, 4, 6], 0x0c, b"", "C="),
            (&[0x55, 4, 6], 0x05, b"", "C="),
            (&[0x55, 4, 6], 0x14, b"\xe9", "C=#1401e9"),
            (&[0x55, 4, 99], 0x0c, b"", "2.5.4.99=#0c00"),
            (CN, 0x13, b"under_score@", "CN=under_score@"),
            (CN, 0x14, b"GB", "CN=GB"),
            (CN, 0x1e, b"\0a\0,\x20\xac", "CN=a\\,€"),
            (CN, 0x16, b"ia5", "CN=#1603696135"),
            (CN, 0x12, b"123", "CN=#1203313233"),
            (CN, 0x04, b"oct", "CN=#04036f6374"),
            (&[0x55, 4, 6], 0x13, b"GB", "C=GB"),
            (&[0x55, 4, 6], 0x0c, b"GB", "C=#0c024742"),
            (&[0x55, 4, 5], 0x0c, b"GB", "serialNumber=#0c024742"),
            (&[0x55, 4, 4], 0x0c, b"GB", "surName=GB"),
            (&[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 25], 0x16, b"GB", "DC=GB"),
            (&[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 25], 0x0c, b"GB", "DC=#0c024742"),
            (&[0x55, 4, 99], 0x0c, b"hi", "2.5.4.99=#0c026869"),
        ] {
            assert_eq!(name(oid, tag, value).as_deref(), Ok(written.as_bytes()), "{written}");
        }
    }

    /// Asked of both as well.
    #[test]
    fn text_that_is_no_utf8_is_written_as_it_stands() {
        for (oid, tag, value, written) in [
            (&[0x55, 4, 3], 0x0c, &b"a\xff, \xc0\x80 "[..], &b"CN=a\xff\\, \xc0\x80\\ "[..]),
            (&[0x55, 4, 3], 0x13, b"caf\xe9", b"CN=caf\xe9"),
            (&[0x55, 4, 6], 0x13, b"\xff", b"C=\xff"),
        ] {
            assert_eq!(name(oid, tag, value).as_deref(), Ok(written));
        }
    }
}
