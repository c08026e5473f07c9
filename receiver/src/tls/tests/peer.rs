//! A client at the other end of a socket pair.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use super::certificates::Authority;
use crate::tls::record::{ContentType, Protection};
use crate::tls::{
    Authz, Handshake, Step, TlsError, TlsServer, TlsStream, X509Credentials, X509Options,
};

/// A directory with the credentials of both sides.
pub(super) static CREDS: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    Authority::new("tests").write_all(dir.path());
    dir
});

/// A server with the credentials in `dir`.
pub(super) fn server(dir: &Path, priority: Option<&str>, authz: Option<Authz>) -> Arc<TlsServer> {
    let priority = priority.map(str::to_owned);
    let options = X509Options { priority, ..X509Options::new(dir) };
    Arc::new(TlsServer::new(&X509Credentials::load(&options).unwrap(), authz))
}

/// A client with what is in `dir`.
pub(super) fn client(dir: &Path, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let pems = |name: &str| CertificateDer::pem_file_iter(dir.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pems("ca-cert.pem").next().unwrap().unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if dir.join("client-cert.pem").exists() {
        let chain = pems("client-cert.pem").collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("client-key.pem")).unwrap();
        config.with_client_auth_cert(chain, key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    config.enable_secret_extraction = true;
    config
}

/// Both ends of a connection, before its handshake.
pub(super) struct Pair {
    pub(super) ours: OwnedFd,
    pub(super) theirs: UnixStream,
    pub(super) handshake: Handshake,
    pub(super) client: ClientConnection,
}

impl Pair {
    pub(super) fn new(server: &Arc<TlsServer>, client: ClientConfig) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let name = "localhost".try_into().unwrap();
        let client = ClientConnection::new(Arc::new(client), name).unwrap();
        let handshake = Handshake::new(Arc::clone(server)).unwrap();
        Self { ours: ours.into(), theirs, handshake, client }
    }

    /// The handshake to its end; what the client made of it is second.
    pub(super) fn shake(&mut self) -> (Result<Box<TlsStream>, TlsError>, io::Result<()>) {
        let mut told = Ok(());
        for _ in 0..100 {
            let theirs = self.go_on();
            told = told.and(theirs);
            match self.handshake.step(&self.ours) {
                Ok(Step::Done(stream)) => return (Ok(stream), told.and(self.go_on())),
                Ok(Step::Read | Step::Write) => {}
                Err(error) => return (Err(error), told.and(self.go_on())),
            }
        }
        panic!("the handshake does not end: {told:?}");
    }

    /// The client reads and writes what it can.
    pub(super) fn go_on(&mut self) -> io::Result<()> {
        loop {
            match self.client.complete_io(&mut self.theirs) {
                Ok(_) if self.client.is_handshaking() || self.client.wants_write() => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Our end, and the keys with which the other seals what it likes.
pub(super) fn sealed_pair(
    version: &'static SupportedProtocolVersion,
) -> (Box<TlsStream>, Protection) {
    let (stream, _, seals) = pair_with_answers(version);
    (stream, seals)
}

/// The same with the keys that open our answers: first those, then what seals.
pub(super) fn pair_with_answers(
    version: &'static SupportedProtocolVersion,
) -> (Box<TlsStream>, Protection, Protection) {
    let mut pair = Pair::new(&server(CREDS.path(), None, None), client(CREDS.path(), &[version]));
    let stream = pair.shake().0.unwrap();
    let tls13 = stream.info().version == "TLSv1.3";
    let secrets = pair.client.dangerous_extract_secrets().unwrap();
    let opens = Protection::new(tls13, secrets.rx.0, &secrets.rx.1);
    (stream, opens, Protection::new(tls13, secrets.tx.0, &secrets.tx.1))
}

/// One record.
pub(super) fn record(seals: &mut Protection, content: ContentType, plain: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    seals.seal(content, plain, &mut record);
    record
}
