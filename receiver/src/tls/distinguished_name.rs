//! A certificate's subject as QEMU writes it, to be compared with `tls-authz`.
//!
//! GnuTLS `gnutls_x509_crt_get_dn`: parts in the order of the certificate,
//! `NAME=value` with commas between, `+` between parts of one set; special
//! characters with a backslash (RFC 4514 2.4); types without a name by number,
//! with `#` and the value's bytes in hex.

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

use super::error::TlsError;

/// The subject of `certificate`.
///
/// # Errors
/// It is no certificate, which the verification has found before.
pub(super) fn distinguished_name(certificate: &CertificateDer<'_>) -> Result<String, TlsError> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| TlsError::Handshake(format!("client certificate: {error}").into()))?;
    let mut name = String::new();
    for set in certificate.subject().iter() {
        for (index, attribute) in set.iter().enumerate() {
            if !name.is_empty() {
                name.push(if index == 0 { ',' } else { '+' });
            }
            push_attribute(&mut name, attribute);
        }
    }
    Ok(name)
}

fn push_attribute(name: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let known = NAMES.iter().find(|(number, _)| *number == oid).map(|(_, short)| *short);
    match (known, attribute.as_str()) {
        (Some(known), Ok(value)) => {
            name.push_str(known);
            name.push('=');
            push_escaped(name, value);
        }
        (known, _) => {
            name.push_str(known.unwrap_or(&oid));
            name.push_str("=#");
            for byte in attribute.attr_value().data {
                write!(name, "{byte:02x}").expect("a string takes everything");
            }
        }
    }
}

fn push_escaped(name: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let at_edge =
            (character == ' ' && (at == 0 || at == last)) || (character == '#' && at == 0);
        if special || at_edge {
            name.push('\\');
        }
        name.push(character);
    }
}

/// Attribute types that GnuTLS has a short name for (`lib/x509/common.c`,
/// `_oid2str`), as far as they are seen in certificates of hosts and people.
const NAMES: [(&str, &str); 18] = [
    ("2.5.4.6", "C"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "sn"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.9", "street"),
    ("2.5.4.12", "title"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.42", "givenName"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "EMAIL"),
];
