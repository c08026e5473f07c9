//! TLS on the receiving side: credentials, handshake, records.
//!
//! ```text
//! door: Handshake ▶ TlsStream ▶ main's input and replies, or a reader's feed
//! ```
//!
//! rustls makes the handshake and derives keys; records after it are opened here,
//! in the buffer they were received into (docs/decisions/0008-tls-library.md).

mod authz;
mod credentials;
mod distinguished_name;
mod error;
pub mod feed;
pub(crate) mod fuzzing;
mod handshake;
mod priority;
#[doc(hidden)] // for the bench of records
pub mod record;
mod record_reader;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use rustls::ServerConfig;

pub use authz::{Authz, AuthzRule, Format, Policy};
pub(crate) use credentials::accessible as accessible_credentials;
pub use credentials::{CredentialsError, X509Credentials, X509Options};
pub use error::TlsError;
pub use handshake::{Handshake, Step};
pub use record_reader::{Progress, RecordReader};
pub use stream::{Opened, TlsInfo, TlsStream};

/// The longest record there can be, header included: what a buffer for opening
/// must hold at least.
pub const RECORD_BYTES_MAX: usize = record::RECORD_BYTES_MAX;

/// What every connection of a run is met with.
#[derive(Clone, Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    authz: Option<Authz>,
}

impl TlsServer {
    /// `credentials`, and who may connect with a certificate that they accept.
    pub fn new(credentials: &X509Credentials, authz: Option<Authz>) -> Self {
        Self { config: credentials.config(), authz }
    }
}
