//! The main stream under TLS: ciphertext from the socket, plaintext to the input.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use nix::unistd;

use crate::error::{Family, RunError};
use crate::staging::Staging;
use crate::tls::{Opened, RECORD_BYTES_MAX, TlsError, TlsStream};

/// The main connection's TLS, which reading and answering share: both are the
/// main thread's.
pub(super) type SharedTls = Rc<RefCell<TlsStream>>;

/// What has been received of a TLS connection and not been opened.
pub(super) struct Ciphertext {
    stream: SharedTls,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Ciphertext {
    /// Nothing yet. Its buffer has been [lent](lend).
    pub(super) fn new(stream: SharedTls) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { stream, buffer, start: 0, end: 0 }
    }

    /// Reads from `fd` what there is room for.
    pub(super) fn read(&mut self, fd: &OwnedFd) -> nix::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = unistd::read(fd, &mut self.buffer[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// True if a record has begun and is not whole.
    pub(super) fn is_inside(&self) -> bool {
        self.end > self.start
    }

    /// Opens records as long as `into` has room for any plaintext; returns how
    /// much came, and sends `fd` what TLS itself has to answer.
    ///
    /// # Errors
    /// See [`TlsStream::open`].
    pub(super) fn open(&mut self, fd: &OwnedFd, into: &mut [u8]) -> Result<usize, TlsError> {
        let mut stream = self.stream.borrow_mut();
        let mut have = 0;
        while into.len() - have >= RECORD_BYTES_MAX {
            let front = &mut self.buffer[self.start..self.end];
            let Opened::Record { plain, bytes } = stream.open(front)? else { break };
            into[have..have + plain.len()].copy_from_slice(&front[plain.clone()]);
            have += plain.len();
            self.start += bytes;
        }
        if stream.owes() {
            stream.pay(fd);
        }
        Ok(have)
    }

    /// True if the source has said that nothing more comes.
    pub(super) fn is_closed(&self) -> bool {
        self.stream.borrow().is_closed()
    }
}

/// Has `staging` lend what the buffer of `stream` takes, before there is any.
///
/// # Errors
/// Environment: there is no room in the budget.
pub(super) fn lend(stream: &mut TlsStream, staging: &Arc<Staging>) -> Result<(), RunError> {
    let lease = staging.lend(BUFFER_BYTES as u64).map_err(|full| {
        RunError::new(Family::Environment, format!("main stream under TLS: {full}"))
    })?;
    stream.have_buffer(lease);
    Ok(())
}

/// As much as the input in the clear reads at once.
const BUFFER_BYTES: usize = 256 * 1024;

const _: () = assert!(BUFFER_BYTES >= 2 * RECORD_BYTES_MAX);
