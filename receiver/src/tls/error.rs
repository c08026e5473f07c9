//! What goes wrong under TLS, and whose fault it is.

use thiserror::Error;

use crate::error::Family;

/// Why a TLS connection cannot go on. Where it happened is the driver's to say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// The first bytes are those of no TLS record.
    #[error(
        "no TLS, its first bytes are {0:02x} {1:02x} {2:02x}: this run is under TLS, set \
         tls-creds on the source"
    )]
    NotTls(u8, u8, u8),
    /// A record's length is beyond what RFC 8446 5.2 and RFC 5246 6.2.3 allow.
    #[error("a TLS record of {found} bytes, limit {limit}")]
    RecordTooLong {
        /// What its header says.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A record of a type that has no business here.
    #[error("a TLS record of type {0} after the handshake")]
    UnknownRecord(u8),
    /// A record too short for its own protection, or padding without content.
    #[error("a TLS record of {0} bytes, which hold no content")]
    NoContent(usize),
    /// A record's tag is wrong: the bytes are not those that the peer sealed.
    #[error("a TLS record that cannot be decrypted")]
    Undecryptable,
    /// So many records without data after each other.
    #[error("{0} TLS records without data, one after the other")]
    Quiet(u32),
    /// The peer lets the answers to its key updates pile up.
    #[error("{0} bytes of answers to TLS key updates, none taken by the peer")]
    Unheard(usize),
    /// A handshake message that must not come after the handshake.
    #[error("a TLS handshake message of type {0} after the handshake")]
    UnexpectedMessage(u8),
    /// The peer said what went wrong on its side.
    #[error("the peer's TLS alert: {0}")]
    Alert(Box<str>),
    /// The handshake failed, in the library's words.
    #[error("TLS handshake: {0}")]
    Handshake(Box<str>),
    /// More bytes of a handshake than any client needs.
    #[error("{found} bytes of a TLS handshake, limit {limit}")]
    HandshakeTooLong {
        /// What has come.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// `tls-authz` does not allow this client (QEMU: `crypto/tlssession.c`).
    #[error("TLS x509 authz check for {0} is denied")]
    Denied(Box<str>),
    /// The connection broke, or ended, in the middle.
    #[error("{0}")]
    Lost(Box<str>),
}

impl TlsError {
    /// Bytes that break the format, or legal bytes of the wrong peer.
    pub fn family(&self) -> Family {
        match self {
            Self::NotTls(..)
            | Self::RecordTooLong { .. }
            | Self::UnknownRecord(_)
            | Self::NoContent(_)
            | Self::Undecryptable => Family::Malformed,
            Self::Quiet(_)
            | Self::Unheard(_)
            | Self::UnexpectedMessage(_)
            | Self::Alert(_)
            | Self::Handshake(_)
            | Self::HandshakeTooLong { .. }
            | Self::Denied(_)
            | Self::Lost(_) => Family::Misbehaved,
        }
    }
}
