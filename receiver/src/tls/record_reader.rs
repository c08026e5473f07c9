//! Reads records from a socket, not a byte beyond the one that is asked for.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd;

use super::error::TlsError;
use super::record::{HEADER_BYTES, RecordHeader};

/// Records that have been read and not been used up; behind the whole ones there
/// may be a part of the next.
#[derive(Debug, Default)]
pub struct RecordReader {
    bytes: Vec<u8>,
    /// Where the whole records end.
    whole: usize,
    received: usize,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// One more record is whole.
    Whole,
    /// The socket has no more bytes now.
    Blocked,
    /// The peer has closed.
    End,
}

impl RecordReader {
    /// Bytes that have come through it.
    pub fn received(&self) -> usize {
        self.received
    }

    /// True if a record has begun and is not whole.
    pub fn is_inside(&self) -> bool {
        self.bytes.len() > self.whole
    }

    /// The whole records.
    pub fn whole(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.whole]
    }

    /// The first `bytes` of them are used up.
    pub fn use_up(&mut self, bytes: usize) {
        assert!(bytes <= self.whole, "used more than there was");
        self.bytes.drain(..bytes);
        self.whole -= bytes;
    }

    /// Reads until one more record is whole, or `socket`, which does not block,
    /// has no more.
    ///
    /// # Errors
    /// No record of TLS, or the connection is lost.
    pub fn read(&mut self, socket: &OwnedFd) -> Result<Progress, TlsError> {
        loop {
            let record = &self.bytes[self.whole..];
            let wanted = match RecordHeader::parse(record)? {
                None => HEADER_BYTES,
                Some(header) if record.len() == header.bytes => {
                    self.whole += header.bytes;
                    return Ok(Progress::Whole);
                }
                Some(header) => header.bytes,
            };
            let have = self.bytes.len();
            self.bytes.resize(self.whole + wanted, 0);
            let read = unistd::read(socket, &mut self.bytes[have..]);
            self.bytes.truncate(have + read.unwrap_or(0));
            match read {
                Ok(0) => return Ok(Progress::End),
                Ok(bytes) => self.received += bytes,
                Err(Errno::EAGAIN) => return Ok(Progress::Blocked),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(TlsError::Lost(format!("lost: {error}").into())),
            }
        }
    }
}
