//! The handshake of one connection, on a socket that does not block.
//!
//! Reads one record at a time and not a byte more, so that what follows the
//! handshake is still in the socket when it is done.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

use super::TlsServer;
use super::distinguished_name::distinguished_name;
use super::error::TlsError;
use super::record_reader::{Progress, RecordReader};
use super::stream::{TlsStream, handshake};

/// A handshake under way.
pub struct Handshake {
    server: Arc<TlsServer>,
    connection: Option<UnbufferedServerConnection>,
    incoming: RecordReader,
    outgoing: Vec<u8>,
}

/// How a step ended.
#[derive(Debug)]
pub enum Step {
    /// More must come from the peer.
    Read,
    /// The socket must take what is to be sent.
    Write,
    /// It is done.
    Done(Box<TlsStream>),
}

impl Handshake {
    /// A handshake that waits for its client.
    ///
    /// # Errors
    /// The library refuses, which it does not with credentials that were loaded.
    pub fn new(server: Arc<TlsServer>) -> Result<Self, TlsError> {
        let connection =
            UnbufferedServerConnection::new(Arc::clone(&server.config)).map_err(handshake)?;
        Ok(Self {
            server,
            connection: Some(connection),
            incoming: RecordReader::default(),
            outgoing: Vec::new(),
        })
    }

    /// How much has come of it, bytes.
    pub fn received(&self) -> usize {
        self.incoming.received()
    }

    /// Goes as far as `socket` lets it without waiting.
    ///
    /// # Errors
    /// The connection is to be closed; the peer has been told why, as far as
    /// TLS has words for it.
    pub fn step(&mut self, socket: &OwnedFd) -> Result<Step, TlsError> {
        loop {
            self.flush(socket)?;
            if !self.outgoing.is_empty() {
                return Ok(Step::Write);
            }
            if self.connection.as_ref().is_some_and(|connection| !connection.is_handshaking()) {
                return self.finish(socket).map(|stream| Step::Done(Box::new(stream)));
            }
            let found = self.incoming.received();
            if found > HANDSHAKE_BYTES_MAX {
                return Err(TlsError::HandshakeTooLong { found, limit: HANDSHAKE_BYTES_MAX });
            }
            match self.incoming.read(socket)? {
                Progress::Whole => {}
                Progress::Blocked => return Ok(Step::Read),
                Progress::End => {
                    let text = format!("closed after {} bytes of a TLS handshake", self.received());
                    return Err(TlsError::Lost(text.into()));
                }
            }
            if let Err(error) = self.process() {
                // The alert; if the socket does not take it, so be it.
                let _ = self.flush(socket);
                return Err(error);
            }
        }
    }

    /// Gives the library the records that are there, and takes its answers.
    fn process(&mut self) -> Result<(), TlsError> {
        let connection = self.connection.as_mut().expect("it is not done");
        let mut failed = None;
        loop {
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(self.incoming.whole());
            let mut more = true;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let from = self.outgoing.len();
                    let needed = match data.encode(&mut []) {
                        Err(EncodeError::InsufficientSize(size)) => size.required_size,
                        _ => 0,
                    };
                    self.outgoing.resize(from + needed, 0);
                    let encoded = data.encode(&mut self.outgoing[from..]).unwrap_or(0);
                    self.outgoing.truncate(from + encoded);
                }
                // Sent by step(), in the same order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    more = false;
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    failed.get_or_insert(TlsError::Lost("closed in its TLS handshake".into()));
                    more = false;
                }
                // Nothing was read behind the handshake, and early data is not offered.
                Ok(_) => {
                    failed.get_or_insert(TlsError::UnexpectedMessage(0));
                    more = false;
                }
                // The next round has the alert for it, and ends with the same error.
                Err(error) => {
                    more = failed.is_none();
                    failed.get_or_insert(handshake(error));
                }
            }
            self.incoming.use_up(discard);
            if !more {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    fn flush(&mut self, socket: &OwnedFd) -> Result<(), TlsError> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        while !self.outgoing.is_empty() {
            match send(socket.as_raw_fd(), &self.outgoing, flags) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => {
                    return Err(TlsError::Lost(
                        format!("lost in its TLS handshake: {error}").into(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Who is it, may they, and the keys.
    fn finish(&mut self, socket: &OwnedFd) -> Result<TlsStream, TlsError> {
        let connection = self.connection.take().expect("it is done once");
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        let client = certificate.map(|certificate| distinguished_name(certificate)).transpose()?;
        let (secrets, keys) = connection.dangerous_into_kernel_connection().map_err(handshake)?;
        let told = client.as_deref().map(|name| String::from_utf8_lossy(name).into_owned());
        let mut stream = TlsStream::new(&secrets, keys, told.clone());
        if let Some(authz) = &self.server.authz
            && !authz.allows(client.as_deref().unwrap_or_default())
        {
            let denied = TlsError::Denied(told.unwrap_or_default().into());
            self.outgoing = stream.refusal();
            let _ = self.flush(socket);
            return Err(denied);
        }
        Ok(stream)
    }
}

/// What a client may send before its handshake is done: a chain of certificates
/// near the library's own limit of 64 KiB, and the rest.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;
