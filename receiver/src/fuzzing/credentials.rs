//! What TLS reads besides records: names in certificates, priority strings, PEM files.

use std::collections::BTreeSet;

use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;

use super::script::Script;
use crate::tls::fuzzing::{
    NOT_OFFERED, certificate_with, certificates, der, distinguished_name, parse_priority,
    private_key, revocations, roots,
};

/// Reads the subject of a certificate. Scripts with an odd first byte are its bytes; others list
/// attributes, each of
///
/// | bytes | what they are |
/// |---|---|
/// | 1 | bit 7: in one set with the attribute before; the rest mod 20: its type |
/// | 1 | mod 9: the tag of its value |
/// | 1 + n | a length, and so many bytes of value |
///
/// A plain reader of the written name must find these attributes: no value can look like another
/// attribute. Where one of them, or all of it, is empty text there is no name.
///
/// # Panics
///
/// Where that is not so.
pub fn certificate_names(script: &[u8]) {
    let mut script = Script(script);
    if !script.byte().is_multiple_of(2) {
        let certificate = certificate_with(script.0);
        let _ = distinguished_name(&certificate).map(|name| read_name(&name));
        return;
    }
    let mut sets: Vec<Vec<u8>> = Vec::new();
    let mut expected = Vec::new();
    let mut is_none = false;
    while !script.0.is_empty() {
        let (head, tag) = (script.byte(), TAGS[usize::from(script.byte()) % TAGS.len()]);
        let length = usize::from(script.byte());
        let value = script.take(length).to_vec();
        let (oid, name, form) = TYPES[usize::from(head & 0x7f) % TYPES.len()];
        let pair = der(0x30, &[der(6, oid), der(tag, &value)].concat());
        let joined = head & 0x80 != 0 && !sets.is_empty();
        match sets.last_mut().filter(|_| joined) {
            Some(set) => set.extend(pair),
            None => sets.push(pair),
        }
        let text = match form {
            [_, ..] if value.is_empty() => Some(Vec::new()),
            _ => form.contains(&tag).then(|| text(tag, &value)).flatten(),
        };
        is_none |= form == DIRECTORY && value.is_empty();
        let value = text.map_or_else(|| Value::Der(der(tag, &value)), Value::Text);
        expected.push(Attribute { joined, name: name.as_bytes().to_owned(), value });
    }
    let subject: Vec<u8> = sets.iter().flat_map(|set| der(0x31, set)).collect();
    match distinguished_name(&certificate_with(&subject)) {
        Ok(name) => {
            let text = name.escape_ascii();
            assert!(!is_none, "{text}");
            assert_eq!(read_name(&name), expected, "{text}");
        }
        Err(error) => assert!(is_none || expected.is_empty(), "{expected:?}: {error}"),
    }
}

/// An attribute in the written name.
#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    joined: bool,
    name: Vec<u8>,
    value: Value,
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(Vec<u8>),
    Der(Vec<u8>),
}

/// The value as text, or as the number that stands for it; `None` if it is none.
fn text(tag: u8, value: &[u8]) -> Option<Vec<u8>> {
    let number = || {
        let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("#{digits}").into_bytes()
    };
    let text = match tag {
        BMP => {
            let ends = value.len() > 2 && value.ends_with(&[0, 0]);
            let value = &value[..value.len() - if ends { 2 } else { 0 }];
            let units = value.chunks_exact(2).map(|two| u16::from(two[0]) << 8 | u16::from(two[1]));
            let text = char::decode_utf16(units).collect::<Result<String, _>>();
            text.map_or_else(|_| number(), String::into_bytes)
        }
        T61 if !value.iter().all(|byte| (b' '..=b'~').contains(byte)) => number(),
        UNIVERSAL => number(),
        _ => value.to_owned(),
    };
    (!text.contains(&0)).then_some(text)
}

/// Takes a written name apart (RFC 4514 2.4, 3).
fn read_name(name: &[u8]) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    let mut rest = name;
    let mut joined = false;
    while !rest.is_empty() {
        let equals = rest.iter().position(|&byte| byte == b'=');
        let (name, behind) = rest.split_at(equals.expect("a value behind each type"));
        let behind = &behind[1..];
        let is_type = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
        assert!(!name.is_empty() && name.iter().all(is_type), "{name:?}");
        let (mut text, mut escaped, mut end) = (Vec::new(), false, behind.len());
        let is_der = behind.starts_with(b"#");
        for (at, &byte) in behind.iter().enumerate() {
            match byte {
                _ if escaped => (escaped, _) = (false, text.push(byte)),
                b'\\' => escaped = true,
                b',' | b'+' => {
                    end = at;
                    break;
                }
                _ => text.push(byte),
            }
        }
        assert!(!escaped, "a backslash at the end");
        let value = if is_der { Value::Der(from_hex(&text[1..])) } else { Value::Text(text) };
        attributes.push(Attribute { joined, name: name.to_owned(), value });
        joined = behind[end..].starts_with(b"+");
        rest = behind.get(end + 1..).unwrap_or_default();
        assert!(behind.len() == end || !rest.is_empty(), "a separator at the end");
    }
    attributes
}

fn from_hex(text: &[u8]) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    let digits = text.chunks(2).map(|two| std::str::from_utf8(two).expect("ASCII"));
    digits.map(|two| u8::from_str_radix(two, 16).expect("hex")).collect()
}

/// Names to begin from.
pub fn certificate_names_seeds() -> Vec<Vec<u8>> {
    let client = b"\0\x00\x01\x02GB\x03\x00\x0cExample, Org\x05\x00\x06source";
    let mut seeds = vec![
        client.to_vec(),
        b"\0\x05\x00\x0dx,CN=source+ \\\x85\x00\x02# \x12\x00\x03abc\x13\x06\x01\0".to_vec(),
        b"\0\x05\x05\x04\0a\0,\x0f\x02\x03org\x05\x02\x03ia5\x06\x00\x03a\0b".to_vec(),
        b"\0\x05\x04\x04caf\xe9\x05\x00\x02a\xff\x05\x08\x04\0\0\0a\x00\x01\x00".to_vec(),
        b"\0\x05\x00\x00".to_vec(),
        b"\0".to_vec(),
    ];
    let organization = der(0x30, b"\x06\x03\x55\x04\x0a\x0c\x03a=b");
    seeds.push([&[1], &der(0x31, &organization)[..]].concat());
    seeds
}

/// Reads `bytes` as a priority string of GnuTLS.
///
/// A plain reading of its words comes to the same versions and ciphers, or finds nothing left where
/// it is refused; and what is left can make connections.
///
/// # Panics
///
/// Where that is not so.
pub fn tls_priority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let choice = match parse_priority(Some(text)) {
        Ok(choice) => choice,
        Err(why) => {
            assert!(why.starts_with(&format!("TLS priority '{text}': ")), "{why}");
            return assert!(plain(text).is_none(), "{text} is refused: {why}");
        }
    };
    let expected = plain(text).unwrap_or_else(|| panic!("{text} is taken"));
    let suites = &choice.provider.cipher_suites;
    let found: BTreeSet<_> = suites
        .iter()
        .map(|suite| {
            let name = format!("{:?}", suite.suite());
            let cipher = ["AES_128_GCM", "AES_256_GCM", "CHACHA20_POLY1305"];
            let cipher = cipher.iter().position(|cipher| name.contains(cipher));
            (suite.version().version == TLSv1_3, cipher.expect("a cipher that is offered"))
        })
        .collect();
    assert_eq!(found, expected, "{text}");
    let versions: Vec<_> = choice.versions.iter().map(|one| one.version).collect();
    let has = |tls13: bool| found.iter().any(|(version, _)| *version == tls13);
    let wanted = [(TLSv1_3, has(true)), (TLSv1_2, has(false))];
    let wanted = wanted.into_iter().filter(|(_, has)| *has).map(|(version, _)| version);
    assert_eq!(versions, wanted.collect::<Vec<_>>(), "{text}");
    // Of TLS 1.2 a cipher comes with keys of two kinds.
    let pairs = found.iter().map(|(tls13, _)| if *tls13 { 1 } else { 2 }).sum::<usize>();
    assert_eq!(suites.len(), pairs, "{text}");
    rustls::ServerConfig::builder_with_provider(choice.provider.into())
        .with_protocol_versions(&choice.versions)
        .expect("what is left makes connections");
}

/// Pairs of version (1.3 or not) and cipher that a string leaves; `None` if it is refused.
fn plain(text: &str) -> Option<BTreeSet<(bool, usize)>> {
    let (first, rest) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
    let mut versions = BTreeSet::from([true, false]);
    let mut ciphers = match first {
        "NORMAL" | "PERFORMANCE" | "PFS" | "SECURE128" | "SECURE" | "@SYSTEM" | "@QEMU,SYSTEM" => {
            BTreeSet::from([0, 1, 2])
        }
        "SECURE192" | "SECURE256" => BTreeSet::from([1, 2]),
        _ => return None,
    };
    for word in rest.into_iter().flat_map(|rest| rest.split(':')) {
        let adds = word.starts_with('+');
        let name = word.strip_prefix(['+', '-', '!'])?;
        let mut version = |tls13: bool| match adds {
            true => versions.insert(tls13),
            false => versions.remove(&tls13),
        };
        match name {
            "VERS-TLS1.3" => drop(version(true)),
            "VERS-TLS1.2" => drop(version(false)),
            "VERS-ALL" | "VERS-TLS-ALL" => {
                version(true);
                version(false);
            }
            "AES-128-GCM" | "AES-256-GCM" | "CHACHA20-POLY1305" => {
                let index = match name {
                    "AES-128-GCM" => 0,
                    "AES-256-GCM" => 1,
                    _ => 2,
                };
                if adds {
                    ciphers.insert(index)
                } else {
                    ciphers.remove(&index)
                };
            }
            _ if adds => return None,
            _ if OLD_VERSIONS.contains(&name) || NOT_OFFERED.contains(&name) => {}
            _ => return None,
        }
    }
    let pairs = versions.iter().flat_map(|&tls13| ciphers.iter().map(move |&one| (tls13, one)));
    Some(pairs.collect()).filter(|pairs: &BTreeSet<_>| !pairs.is_empty())
}

/// Strings to begin from.
pub fn tls_priority_seeds() -> Vec<Vec<u8>> {
    [
        "NORMAL",
        "@SYSTEM:-VERS-TLS1.3",
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:-AES-256-GCM:-CHACHA20-POLY1305",
        "SECURE256:+AES-128-GCM:-VERS-TLS1.1:!VERS-SSL3.0:-3DES-CBC:-MD5",
        "NORMAL:+ANON-DH",
        "NORMAL:%COMPAT:",
        "NORMAL:-VERS-TLS-ALL",
        "PFS:-RSA:+VERS-TLS1.2:-AES-128-GCM:+AES-128-GCM",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Reads `bytes` as each of the files of credentials.
///
/// What is taken, written anew without anything around it, reads the same; and a certificate, list
/// or key behind a file that is taken is found behind what the file has. Neither authorities nor
/// certificates that are none can do harm.
///
/// # Panics
///
/// Where that is not so.
pub fn pem_files(bytes: &[u8]) {
    let ours = certificate_with(b"");
    if let Some(found) = certificates(bytes) {
        assert!(!found.is_empty());
        let anew: String = found.iter().map(|one| pem("CERTIFICATE", one)).collect();
        assert_eq!(certificates(anew.as_bytes()).as_ref(), Some(&found));
        let behind = [bytes, b"\n", pem("CERTIFICATE", &ours).as_bytes()].concat();
        let more = [found.clone(), vec![ours.clone()]].concat();
        assert_eq!(certificates(&behind), Some(more));
        for one in &found {
            let _ = ParsedCertificate::try_from(one);
            let _ = distinguished_name(one).map(|name| read_name(&name));
        }
        if let Some(roots) = roots(bytes) {
            assert_eq!(roots.len(), found.len());
        }
    } else {
        assert!(roots(bytes).is_none(), "authorities in a file without certificates");
    }
    match revocations(bytes) {
        Ok(found) => {
            let anew: String = found.iter().map(|one| pem("X509 CRL", one)).collect();
            assert_eq!(revocations(anew.as_bytes()), Ok(found));
        }
        Err(why) => assert!(!why.is_empty()),
    }
    match private_key(bytes) {
        Ok(found) => {
            let label = match &found {
                PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
                PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
                _ => "PRIVATE KEY",
            };
            assert_eq!(private_key(pem(label, found.secret_der()).as_bytes()), Ok(found));
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// Files to begin from.
pub fn pem_files_seeds() -> Vec<Vec<u8>> {
    let certificate: CertificateDer<'_> = certificate_with(&[]);
    let one = pem("CERTIFICATE", &certificate);
    let key = pem("PRIVATE KEY", b"\x30\x03\x02\x01\x07");
    [
        one.clone(),
        format!("subject=CN = x\n{one}{one}# end\n"),
        format!("{key}{one}"),
        format!("{}{}", pem("X509 CRL", b"\x30\0"), pem("EC PRIVATE KEY", b"\x30\0")),
        key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n{one}"),
        one.replace('\n', "\r\n"),
        "garbage".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

/// One section of a PEM file (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for digit in 0..4 {
                let value = bits >> (18 - 6 * digit) & 63;
                let is_there = digit as usize <= three.len();
                text.push(if is_there { BASE64[value as usize].into() } else { '=' });
            }
        }
        text.push('\n');
    }
    format!("{text}-----END {label}-----\n")
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const BMP: u8 = 0x1e;
const T61: u8 = 0x14;
const PRINTABLE: u8 = 0x13;
const UTF8: u8 = 0x0c;
const IA5: u8 = 0x16;
const UNIVERSAL: u8 = 0x1c;
/// UTF8, Printable, IA5, Numeric, T61, BMP and Universal strings; octets, an integer.
const TAGS: [u8; 9] = [UTF8, PRINTABLE, IA5, 0x12, T61, BMP, 4, 2, UNIVERSAL];
const DIRECTORY: &[u8] = &[UTF8, PRINTABLE, T61, BMP, UNIVERSAL];

/// Types of attributes: the OID's bytes, the name, the tags of its text.
const TYPES: [(&[u8], &str, &[u8]); 20] = [
    (b"\x55\x04\x06", "C", &[PRINTABLE]),
    (b"\x55\x04\x08", "ST", DIRECTORY),
    (b"\x55\x04\x07", "L", DIRECTORY),
    (b"\x55\x04\x0a", "O", DIRECTORY),
    (b"\x55\x04\x0b", "OU", DIRECTORY),
    (b"\x55\x04\x03", "CN", DIRECTORY),
    (b"\x55\x04\x04", "surName", DIRECTORY),
    (b"\x55\x04\x05", "serialNumber", &[PRINTABLE]),
    (b"\x55\x04\x09", "street", DIRECTORY),
    (b"\x55\x04\x0c", "title", DIRECTORY),
    (b"\x55\x04\x11", "postalCode", DIRECTORY),
    (b"\x55\x04\x2a", "givenName", DIRECTORY),
    (b"\x55\x04\x2b", "initials", DIRECTORY),
    (b"\x55\x04\x2c", "generationQualifier", DIRECTORY),
    (b"\x55\x04\x41", "pseudonym", DIRECTORY),
    (b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19", "DC", &[IA5]),
    (b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01", "UID", DIRECTORY),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01", "EMAIL", &[IA5]),
    (b"\x55\x04\x63", "2.5.4.99", &[]),
    (b"\x2b\x06\x01\x04\x01\x82\x37\x3c\x02\x01\x03", "1.3.6.1.4.1.311.60.2.1.3", &[]),
];

/// Versions that may be taken away although nobody offers them.
const OLD_VERSIONS: [&str; 6] =
    ["VERS-TLS1.1", "VERS-TLS1.0", "VERS-SSL3.0", "VERS-DTLS1.0", "VERS-DTLS1.2", "VERS-DTLS-ALL"];
