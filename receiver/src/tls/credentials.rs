//! The directory of QEMU's `tls-creds-x509` (`crypto/tlscredsx509.c`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};
use thiserror::Error;

use super::priority;

/// The properties of a server's `tls-creds-x509`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Options {
    /// Where the files are.
    pub dir: PathBuf,
    /// Clients must show a certificate of our CA.
    pub verify_peer: bool,
    /// Our own certificate is checked when it is loaded.
    pub sanity_check: bool,
    /// A GnuTLS priority string; `None` is QEMU's default.
    pub priority: Option<String>,
}

impl X509Options {
    /// The files in `dir`, and QEMU's defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), verify_peer: true, sanity_check: true, priority: None }
    }
}

/// Why credentials cannot be used; in QEMU's words where it has the same check.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CredentialsError(String);

/// Credentials of a server, loaded and checked.
#[derive(Clone)]
pub struct X509Credentials {
    config: Arc<ServerConfig>,
    verify_peer: bool,
}

impl X509Credentials {
    /// Loads `ca-cert.pem`, `ca-crl.pem` if there is one, `server-cert.pem` and
    /// `server-key.pem`. `dh-params.pem` is not needed: keys are exchanged by
    /// elliptic curves.
    ///
    /// # Errors
    /// A file is missing or of no use, or the priority string asks for what is
    /// not offered.
    pub fn load(options: &X509Options) -> Result<Self, CredentialsError> {
        let file = |name: &str| options.dir.join(name);
        let (ca_path, cert_path, key_path) =
            (file("ca-cert.pem"), file("server-cert.pem"), file("server-key.pem"));
        let crl_path = file("ca-crl.pem");
        for path in [&ca_path, &cert_path, &key_path] {
            accessible(path)?;
        }
        let choice = priority::parse(options.priority.as_deref()).map_err(CredentialsError)?;
        let cas = read(&ca_path).and_then(|pem| roots(&pem));
        let roots =
            Arc::new(cas.ok_or_else(|| refused("Unable to import CA certificate list", &ca_path))?);
        let chain =
            read(&cert_path).and_then(|pem| certificates(&pem)).ok_or_else(|| {
                match options.sanity_check {
                    true => not_imported(&cert_path, &"Base64 unexpected header error."),
                    false => unusable_pair(&cert_path, &key_path, &"Base64 decoding error."),
                }
            })?;
        let provider = Arc::new(choice.provider);
        if options.sanity_check {
            check_own(&chain, &roots, &cert_path, &ca_path, &provider)?;
        }
        let key = private_key(&read(&key_path).unwrap_or_default())
            .map_err(|why| unusable_pair(&cert_path, &key_path, &why))?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&choice.versions)
            .map_err(|error| CredentialsError(error.to_string()))?;
        let config = if options.verify_peer {
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if crl_path.exists() {
                verifier = verifier
                    .with_crls(revocation_lists(&crl_path)?)
                    .allow_unknown_revocation_status()
                    .enforce_revocation_expiration();
            }
            let verifier = verifier.build().map_err(|error| CredentialsError(error.to_string()))?;
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        let mut config = config
            .with_single_cert(chain, key)
            .map_err(|error| unusable_pair(&cert_path, &key_path, &in_gnutls_words(&error)))?;
        // A source connects once: nothing is ever resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Ok(Self { config: Arc::new(config), verify_peer: options.verify_peer })
    }

    /// Clients must show a certificate of our CA.
    pub fn verifies_peer(&self) -> bool {
        self.verify_peer
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for X509Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("X509Credentials")
    }
}

fn refused(what: &str, path: &Path) -> CredentialsError {
    CredentialsError(format!("{what} {}", path.display()))
}

fn not_imported(path: &Path, why: &dyn fmt::Display) -> CredentialsError {
    let path = path.display();
    CredentialsError(format!("Unable to import server certificate {path}: {why}"))
}

fn in_gnutls_words(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "The certificate and the given key do not match.".to_owned()
        }
        other => other.to_string(),
    }
}

fn unusable_pair(cert: &Path, key: &Path, why: &dyn fmt::Display) -> CredentialsError {
    let (cert, key) = (cert.display(), key.display());
    CredentialsError(format!("Cannot load certificate '{cert}' & key '{key}': {why}"))
}

/// Whether a file of credentials can be read.
///
/// # Errors
/// QEMU's text.
pub(crate) fn accessible(path: &Path) -> Result<(), CredentialsError> {
    let access = nix::unistd::access(path, nix::unistd::AccessFlags::R_OK);
    access.map_err(|error| {
        CredentialsError(format!(
            "Unable to access credentials {}: {}",
            path.display(),
            error.desc()
        ))
    })
}

/// A file of credentials; it has been [`accessible`].
fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// All certificates of a file; `None` if there are none, or one is damaged.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    Some(read).filter(|certificates| !certificates.is_empty())
}

/// The authorities of a file; `None` as for [`certificates`], or if one is no certificate.
pub(crate) fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).ok()?;
    }
    Some(roots)
}

fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialsError> {
    let lists = fs::read(path).map_err(|error| error.to_string()).and_then(|pem| revocations(&pem));
    lists.map_err(|why| CredentialsError(format!("Cannot load CRL '{}': {why}", path.display())))
}

/// All lists of a file, or what is wrong with it.
pub(crate) fn revocations(
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    // A file without a list would revoke nothing, and nobody would know.
    if lists.is_empty() { Err("Base64 decoding error.".to_owned()) } else { Ok(lists) }
}

/// The first private key of a file, or why there is none, in GnuTLS's words.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if pem.windows(ENCRYPTED.len()).any(|word| word == ENCRYPTED) {
            return "encrypted private keys are not supported: decrypt it".to_owned();
        }
        match error {
            pem::Error::NoItemsFound => "The requested data were not available.".to_owned(),
            other => other.to_string(),
        }
    })
}

/// What QEMU checks of its own certificate. A purpose other than that of a server
/// it only notes.
fn check_own(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    cert_path: &Path,
    ca_path: &Path,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<(), CredentialsError> {
    let (path, ca) = (cert_path.display(), ca_path.display());
    let (own, intermediates) = chain.split_first().expect("a chain has a certificate");
    let algorithms = provider.signature_verification_algorithms.all;
    let checked = ParsedCertificate::try_from(own).and_then(|own| {
        let now = UnixTime::now();
        verify_server_cert_signed_by_trust_anchor(&own, roots, intermediates, now, algorithms)
    });
    let why = match checked {
        Ok(()) => return Ok(()),
        Err(Error::InvalidCertificate(why)) => why,
        Err(other) => return Err(CredentialsError(format!("{path}: {other}"))),
    };
    Err(CredentialsError(match why {
        CertificateError::BadEncoding => return Err(not_imported(cert_path, &why)),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            return Ok(());
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("The certificate {path} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("The certificate {path} is not yet active")
        }
        CertificateError::UnknownIssuer => format!(
            "Our own certificate {path} failed validation against {ca}: The certificate hasn't \
             got a known issuer"
        ),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            format!(
                "The certificate {path} basic constraints show a CA, but we need one for a server"
            )
        }
        other => format!("Our own certificate {path} failed validation against {ca}: {other}"),
    }))
}

/// In the first line of a key that takes a password, or in the second.
const ENCRYPTED: &[u8] = b"ENCRYPTED";
