//! A TLS connection after its handshake: opens what comes, seals what goes.

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ExtractedSecrets, ProtocolVersion};

use super::error::TlsError;
use super::record::{ContentType, PLAIN_BYTES_MAX, Protection, RecordHeader};
use crate::staging::Lease;

/// What the two sides agreed on, and who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// As `TLS13_AES_256_GCM_SHA384`.
    pub suite: String,
    /// The distinguished name of the client's certificate, if it showed one.
    pub client: Option<String>,
}

/// A connection whose handshake is done. It has no socket of its own but for
/// [`TlsStream::pay`]: whoever drives it brings bytes.
pub struct TlsStream {
    rx: Protection,
    tx: Protection,
    keys: Box<dyn NextKeys>,
    info: TlsInfo,
    tls13: bool,
    /// Records without data since the last with some.
    quiet: u32,
    closed: bool,
    /// Answers to key updates that the socket has not taken.
    owed: Vec<u8>,
    /// For the buffer that its records are opened in.
    buffer: Option<Lease>,
}

/// Where the keys after a key update come from.
pub(super) trait NextKeys: Send {
    /// Those of the peer.
    ///
    /// # Errors
    /// There are no more.
    fn rx(&mut self) -> Result<Protection, TlsError>;

    /// Our own.
    ///
    /// # Errors
    /// There are no more.
    fn tx(&mut self) -> Result<Protection, TlsError>;
}

impl NextKeys for KernelConnection<ServerConnectionData> {
    fn rx(&mut self) -> Result<Protection, TlsError> {
        let (seq, secrets) = self.update_rx_secret().map_err(handshake)?;
        Ok(Protection::new(true, seq, &secrets))
    }

    fn tx(&mut self) -> Result<Protection, TlsError> {
        let (seq, secrets) = self.update_tx_secret().map_err(handshake)?;
        Ok(Protection::new(true, seq, &secrets))
    }
}

/// What stood at the front of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A part of a record; all of it has so many bytes, as far as is known.
    Partial {
        /// More than there are.
        needed: usize,
    },
    /// A record is used up.
    Record {
        /// Where its plaintext is now; empty if it held none.
        plain: Range<usize>,
        /// The record's own bytes, from the front.
        bytes: usize,
    },
    /// The peer said that nothing more comes (close_notify).
    Closed,
}

impl TlsStream {
    /// The keys of a handshake that is done.
    pub(super) fn new(
        secrets: &ExtractedSecrets,
        keys: KernelConnection<ServerConnectionData>,
        client: Option<String>,
    ) -> Self {
        let tls13 = keys.protocol_version() == ProtocolVersion::TLSv1_3;
        let suite = keys.negotiated_cipher_suite().suite();
        let info = TlsInfo {
            version: if tls13 { "TLSv1.3" } else { "TLSv1.2" },
            suite: suite.as_str().map_or_else(|| format!("{suite:?}"), str::to_owned),
            client,
        };
        let rx = Protection::new(tls13, secrets.rx.0, &secrets.rx.1);
        let tx = Protection::new(tls13, secrets.tx.0, &secrets.tx.1);
        Self::with_keys(info, tls13, rx, tx, Box::new(keys))
    }

    /// These keys, and those that follow them.
    pub(super) fn with_keys(
        info: TlsInfo,
        tls13: bool,
        rx: Protection,
        tx: Protection,
        keys: Box<dyn NextKeys>,
    ) -> Self {
        let owed = Vec::new();
        Self { rx, tx, keys, info, tls13, quiet: 0, closed: false, owed, buffer: None }
    }

    /// What the buffer takes that its records are opened in has been lent: given
    /// back with the connection.
    pub(crate) fn have_buffer(&mut self, lease: Lease) {
        self.buffer = Some(lease);
    }

    /// What the two sides agreed on.
    pub fn info(&self) -> &TlsInfo {
        &self.info
    }

    /// True once the peer has said that nothing more comes.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Opens the record at the front of `bytes` in place, if it is whole.
    ///
    /// # Errors
    /// It is none, or not what the peer sealed, or must not come now.
    #[inline]
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Opened, TlsError> {
        if self.closed {
            return Ok(Opened::Closed);
        }
        let Some(header) = RecordHeader::parse(bytes)? else {
            return Ok(Opened::Partial { needed: bytes.len() + 1 });
        };
        let Some(record) = bytes.get_mut(..header.bytes) else {
            return Ok(Opened::Partial { needed: header.bytes });
        };
        if self.tls13 && header.content != ContentType::DATA {
            return Err(TlsError::UnknownRecord(header.content.0));
        }
        let (content, plain) = self.rx.open(header, record)?;
        if content == ContentType::DATA && !plain.is_empty() {
            self.quiet = 0;
            return Ok(Opened::Record { plain, bytes: header.bytes });
        }
        self.quiet += 1;
        if self.quiet > QUIET_MAX {
            return Err(TlsError::Quiet(self.quiet));
        }
        let plain = &record[plain];
        match content {
            ContentType::DATA => {}
            ContentType::ALERT => self.alert(plain)?,
            ContentType::HANDSHAKE => self.handshake_message(plain)?,
            ContentType(other) => return Err(TlsError::UnknownRecord(other)),
        }
        Ok(match self.closed {
            true => Opened::Closed,
            false => Opened::Record { plain: 0..0, bytes: header.bytes },
        })
    }

    fn alert(&mut self, plain: &[u8]) -> Result<(), TlsError> {
        let &[level, description] = plain else {
            return Err(TlsError::NoContent(plain.len()));
        };
        let description = AlertDescription::from(description);
        match description {
            AlertDescription::CloseNotify => self.closed = true,
            AlertDescription::UserCanceled => {}
            _ if level == WARNING && !self.tls13 => {}
            _ => return Err(TlsError::Alert(format!("{description:?}").into())),
        }
        Ok(())
    }

    /// After the handshake a client may change its keys (RFC 8446 4.6.3); GnuTLS
    /// does so by itself after many records. TLS 1.2 has a renegotiation, which
    /// is declined, as RFC 5246 7.2.2 allows.
    fn handshake_message(&mut self, plain: &[u8]) -> Result<(), TlsError> {
        match (self.tls13, plain) {
            (true, &[KEY_UPDATE, 0, 0, 1, asked @ 0..=1]) => {
                self.rx = self.keys.rx()?;
                if asked == 1 {
                    let answer = [KEY_UPDATE, 0, 0, 1, 0];
                    self.tx.seal(ContentType::HANDSHAKE, &answer, &mut self.owed);
                    self.tx = self.keys.tx()?;
                }
            }
            (false, &[CLIENT_HELLO, ..]) => {
                let no = [WARNING, u8::from(AlertDescription::NoRenegotiation)];
                self.tx.seal(ContentType::ALERT, &no, &mut self.owed);
            }
            (_, plain) => {
                let found = plain.first().copied().unwrap_or_default();
                return Err(TlsError::UnexpectedMessage(found));
            }
        }
        if self.owed.len() > OWED_MAX {
            return Err(TlsError::Unheard(self.owed.len()));
        }
        Ok(())
    }

    /// Bytes that are owed to the peer.
    pub(crate) fn owed_bytes(&self) -> usize {
        self.owed.len()
    }

    /// True if there is something to [pay](TlsStream::pay).
    #[inline]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Sends what TLS itself has to answer, as far as `socket` takes it now.
    /// What it does not take is sent before anything that is sealed later.
    pub fn pay(&mut self, socket: &OwnedFd) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        while self.owes() {
            match send(socket.as_raw_fd(), &self.owed, flags) {
                Ok(sent) => drop(self.owed.drain(..sent)),
                Err(Errno::EINTR) => {}
                // Who reads will notice what is wrong with the connection.
                Err(_) => return,
            }
        }
    }

    /// Appends what is owed and `plain` to `out`, sealed.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.owed);
        for piece in plain.chunks(PLAIN_BYTES_MAX) {
            self.tx.seal(ContentType::DATA, piece, out);
        }
    }

    /// The alert with which this connection is refused.
    pub(super) fn refusal(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let denied = [FATAL, u8::from(AlertDescription::AccessDenied)];
        self.tx.seal(ContentType::ALERT, &denied, &mut out);
        out
    }
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("info", &self.info).finish_non_exhaustive()
    }
}

pub(super) fn handshake(error: rustls::Error) -> TlsError {
    TlsError::Handshake(error.to_string().into())
}

/// Handshake message types (RFC 8446 4).
const CLIENT_HELLO: u8 = 1;
const KEY_UPDATE: u8 = 24;
/// Alert levels (RFC 8446 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
/// Records without data that may follow each other: each costs a derivation of
/// keys at most, and an honest peer sends one now and then.
const QUIET_MAX: u32 = 32;
/// Answers that a peer may leave in our hands: as many as it may ask for.
pub(crate) const OWED_MAX: usize = 32 * 64;
