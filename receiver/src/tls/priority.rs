//! GnuTLS priority strings, as far as they mean something here.
//!
//! `tls-creds-x509` has a property `priority`. What it can choose among is what
//! this library offers: TLS 1.2 and 1.3, ephemeral keys, AES-GCM and ChaCha20.
//! Taking away what is not offered is granted; asking for it is refused.

use rustls::crypto::{CryptoProvider, ring};
use rustls::{
    CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version,
};

/// What a connection may agree on.
pub(crate) struct Choice {
    pub(crate) provider: CryptoProvider,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
}

/// What `text` leaves of all that is offered; `None` is QEMU's own default,
/// `NORMAL`.
///
/// # Errors
/// A word that is not understood, or nothing is left.
pub(crate) fn parse(text: Option<&str>) -> Result<Choice, String> {
    let refused = |why: String| format!("TLS priority '{}': {why}", text.unwrap_or_default());
    let mut words = text.unwrap_or("NORMAL").split(':');
    let mut versions = vec![ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2];
    let mut suites = ring::DEFAULT_CIPHER_SUITES.to_vec();
    match words.next().unwrap_or_default() {
        "NORMAL" | "PERFORMANCE" | "PFS" | "SECURE128" | "SECURE" | "@SYSTEM" | "@QEMU,SYSTEM" => {}
        "SECURE192" | "SECURE256" => suites.retain(|suite| !cipher(suite.suite()).contains("128")),
        other => return Err(refused(format!("'{other}' is not known"))),
    }
    for word in words {
        let (sign, name) = word.split_at_checked(1).unwrap_or_default();
        let adds = match sign {
            "+" => true,
            "-" | "!" => false,
            _ => return Err(refused(format!("'{word}' is not known"))),
        };
        if let Some(version) = name.strip_prefix("VERS-") {
            let named = match version {
                "TLS1.3" => vec![ProtocolVersion::TLSv1_3],
                "TLS1.2" => vec![ProtocolVersion::TLSv1_2],
                "ALL" | "TLS-ALL" => vec![ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2],
                "TLS1.1" | "TLS1.0" | "SSL3.0" | "DTLS1.0" | "DTLS1.2" | "DTLS-ALL" if !adds => {
                    vec![]
                }
                _ => return Err(refused(format!("{version} is not offered"))),
            };
            versions.retain(|version| !named.contains(version));
            versions.extend(named.into_iter().filter(|_| adds));
        } else if CIPHERS.contains(&name) {
            suites.retain(|suite| cipher(suite.suite()) != name);
            let all = ring::ALL_CIPHER_SUITES.iter();
            suites.extend(all.filter(|suite| adds && cipher(suite.suite()) == name));
        } else if adds || !NOT_OFFERED.contains(&name) {
            return Err(refused(format!("'{word}' is not supported")));
        }
    }
    suites.retain(|suite| versions.contains(&suite.version().version));
    let mut offered = vec![&version::TLS13, &version::TLS12];
    offered.retain(|one| suites.iter().any(|suite| suite.version().version == one.version));
    if offered.is_empty() {
        return Err(refused("nothing is left of TLS 1.2 and 1.3".into()));
    }
    let provider = CryptoProvider { cipher_suites: ordered(suites), ..ring::default_provider() };
    Ok(Choice { provider, versions: offered })
}

/// In the library's own order.
fn ordered(suites: Vec<SupportedCipherSuite>) -> Vec<SupportedCipherSuite> {
    let all = ring::ALL_CIPHER_SUITES.iter();
    all.filter(|suite| suites.contains(suite)).copied().collect()
}

/// GnuTLS's name of a suite's cipher.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => CIPHERS[0],
        CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => CIPHERS[1],
        _ => CIPHERS[2],
    }
}

const CIPHERS: [&str; 3] = ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"];

/// What people take away, and what is never offered anyway.
pub(crate) const NOT_OFFERED: [&str; 21] = [
    "AES-128-CBC",
    "AES-192-CBC",
    "AES-256-CBC",
    "AES-128-CCM",
    "AES-256-CCM",
    "CAMELLIA-128-CBC",
    "CAMELLIA-256-CBC",
    "CAMELLIA-128-GCM",
    "CAMELLIA-256-GCM",
    "3DES-CBC",
    "ARCFOUR-128",
    "NULL",
    "RSA",
    "DHE-RSA",
    "DHE-DSS",
    "ANON-DH",
    "ANON-ECDH",
    "PSK",
    "DHE-PSK",
    "MD5",
    "SHA1",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str) -> (Vec<ProtocolVersion>, usize) {
        let choice = parse(Some(text)).unwrap();
        let versions = choice.versions.iter().map(|one| one.version).collect();
        (versions, choice.provider.cipher_suites.len())
    }

    #[test]
    fn common_strings_leave_what_they_say() {
        use ProtocolVersion::{TLSv1_2, TLSv1_3};
        assert_eq!(left("NORMAL"), (vec![TLSv1_3, TLSv1_2], 9));
        assert_eq!(left("@SYSTEM"), left("NORMAL"));
        assert_eq!(left("NORMAL:-VERS-TLS1.3"), (vec![TLSv1_2], 6));
        assert_eq!(left("NORMAL:-VERS-ALL:+VERS-TLS1.3"), (vec![TLSv1_3], 3));
        assert_eq!(left("NORMAL:-VERS-TLS1.0:-VERS-TLS1.1:-3DES-CBC"), left("NORMAL"));
        assert_eq!(left("NORMAL:-AES-256-GCM:-CHACHA20-POLY1305"), (vec![TLSv1_3, TLSv1_2], 3));
        assert_eq!(left("SECURE256"), (vec![TLSv1_3, TLSv1_2], 6));
        assert_eq!(left("SECURE256:+AES-128-GCM"), left("NORMAL"));
    }

    #[test]
    fn what_cannot_be_granted_is_refused_by_name() {
        for (text, named) in [
            ("BOGUS", "'BOGUS' is not known"),
            ("", "'' is not known"),
            ("NORMAL:+ANON-DH", "'+ANON-DH' is not supported"),
            ("NORMAL:+VERS-TLS1.1", "TLS1.1 is not offered"),
            ("NORMAL:%COMPAT", "'%COMPAT' is not known"),
            ("NORMAL:", "'' is not known"),
            ("NORMAL:-VERS-ALL", "nothing is left"),
            ("NORMAL:-AES-128-GCM:-AES-256-GCM:-CHACHA20-POLY1305", "nothing is left"),
        ] {
            let error = parse(Some(text)).err().unwrap();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
