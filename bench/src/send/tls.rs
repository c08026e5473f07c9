//! TLS of the source: a client with QEMU's directory of credentials.
//!
//! One record for each write, as GnuTLS makes them for QEMU: a header is one, and every page one.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::sys::socket::{Shutdown, shutdown};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version,
};

use crate::message::Message;

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What a source needs for TLS.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    hostname: ServerName<'static>,
}

impl ClientTls {
    /// Reads `ca-cert.pem` in `dir`, and `client-cert.pem` with `client-key.pem` if they are there.
    /// The destination's certificate must be for `hostname`. Only one version of TLS is offered if
    /// `only` names it.
    ///
    /// # Errors
    /// Which file is missing or wrong, or that the name is none.
    pub fn load(dir: &Path, hostname: &str, only: Option<TlsVersion>) -> Result<Self, String> {
        let file = |name: &str| dir.join(name);
        let certificates = |name: &str| {
            CertificateDer::pem_file_iter(file(name))
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| format!("{}: {error}", file(name).display()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca-cert.pem")? {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        let versions: Vec<_> = [&version::TLS13, &version::TLS12]
            .into_iter()
            .filter(|one| {
                only.is_none_or(|only| {
                    (only == TlsVersion::V1_2) == (one.version == ProtocolVersion::TLSv1_2)
                })
            })
            .collect();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = if file("client-cert.pem").exists() {
            let key = PrivateKeyDer::from_pem_file(file("client-key.pem"))
                .map_err(|error| format!("{}: {error}", file("client-key.pem").display()))?;
            config
                .with_client_auth_cert(certificates("client-cert.pem")?, key)
                .map_err(|error| error.to_string())?
        } else {
            config.with_no_client_auth()
        };
        let hostname = match hostname.parse::<IpAddr>() {
            Ok(ip) => ServerName::IpAddress(ip.into()),
            Err(_) => ServerName::try_from(hostname.to_owned())
                .map_err(|_| format!("'{hostname}' is no host name"))?,
        };
        Ok(Self { config: Arc::new(config), hostname })
    }

    /// Makes the handshake on a new connection; blocks until it is done.
    pub(super) fn connect(&self, fd: &OwnedFd) -> io::Result<Tls> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.hostname.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        connection.set_buffer_limit(None);
        let mut socket = File::from(fd.try_clone()?);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Tls(Arc::new(Mutex::new(connection))))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// A connection's TLS, shared by its writer and the reader of the other direction.
#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<Mutex<ClientConnection>>);

impl Tls {
    fn connection(&self) -> MutexGuard<'_, ClientConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message: what stands before a packet's payload as one record, the payload in
    /// records of `page` bytes.
    pub(super) fn write(
        &self,
        fd: BorrowedFd<'_>,
        message: &Message,
        page: usize,
    ) -> io::Result<()> {
        let mut connection = self.connection();
        let [head, payload] = message.parts();
        // Pieces of main are no records: it is written as one.
        let head = head.collect::<Vec<_>>().concat();
        let pages = payload.flat_map(|piece| piece.chunks(page.clamp(1, RECORD_BYTES_MAX)));
        for record in head.chunks(RECORD_BYTES_MAX).chain(pages) {
            connection.writer().write_all(record)?;
        }
        flush(&mut connection, fd)
    }

    /// Says close_notify and no more.
    pub(super) fn say_goodbye(&self, fd: BorrowedFd<'_>) {
        let mut connection = self.connection();
        connection.send_close_notify();
        // A destination that has gone need not hear it.
        let _ = flush(&mut connection, fd);
    }

    /// Bytes that have come are opened; appends the plaintext.
    pub(super) fn open(
        &self,
        fd: BorrowedFd<'_>,
        mut came: &[u8],
        into: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut connection = self.connection();
        while !came.is_empty() {
            connection.read_tls(&mut came)?;
            let state = connection.process_new_packets().map_err(io::Error::other);
            let Ok(state) = state else {
                // Nobody can go on here: the writer notices too.
                let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
                return state.map(drop);
            };
            let have = into.len();
            into.resize(have + state.plaintext_bytes_to_read(), 0);
            connection.reader().read_exact(&mut into[have..])?;
        }
        flush(&mut connection, fd)
    }
}

fn flush(connection: &mut ClientConnection, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut socket = File::from(fd.try_clone_to_owned()?);
    while connection.wants_write() {
        connection.write_tls(&mut socket)?;
    }
    Ok(())
}

/// Plaintext of one record.
const RECORD_BYTES_MAX: usize = 1 << 14;
