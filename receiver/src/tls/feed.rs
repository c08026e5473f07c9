//! A multifd channel under TLS: from received ciphertext to what the channel
//! wants.
//!
//! Ciphertext is received into a buffer, as much as there is. Records are opened
//! in it one by one, and their plaintext is given to the channel in the pieces
//! that it wants: one copy, into guest RAM or into a decoder. What stands behind a
//! SYNC packet belongs to the next round: it stays where it is until the release.
//!
//! No sockets, rings or clocks: whoever drives a feed receives where it says.

use std::ops::Range;

use landfall_pagepool::RamBlocks;

use super::RECORD_BYTES_MAX;
use super::error::TlsError;
use super::stream::{Opened, TlsStream};
use crate::channel::{Channel, ChannelId, Tally, Want};
use crate::error::{Family, RunError};

/// A channel's TLS, and where in its buffer is what.
///
/// ```text
/// 0 .. plain .. start .. end .. buffer's length
///      opened   not yet  free
/// ```
#[derive(Debug)]
pub struct Feed {
    stream: Box<TlsStream>,
    /// Opened, and not yet taken by the channel.
    plain: Range<usize>,
    /// Received and not opened.
    start: usize,
    end: usize,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Receive any number of bytes into the buffer from here on.
    Receive {
        /// There is room for more than one record.
        from: usize,
        /// How many bytes must come yet for what the channel wants, at least.
        surely: u64,
    },
    /// The channel has come to a sync point.
    Held,
    /// The source has said that nothing more comes (close_notify).
    Closed,
}

/// What a feed goes on to, told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From here on it opens a record.
    Opening,
    /// From here on the channel takes what the record held.
    Opened,
    /// The channel has taken the last of a packet with a payload.
    Packet,
}

impl Feed {
    /// A feed of `stream`, of which `first` has come behind the Init, in the
    /// clear; it is put into `buffer`, which has [`BUFFER_BYTES`].
    pub fn new(stream: Box<TlsStream>, first: &[u8], buffer: &mut [u8]) -> Self {
        assert!(buffer.len() == BUFFER_BYTES && first.len() <= RECORD_BYTES_MAX);
        buffer[..first.len()].copy_from_slice(first);
        Self { stream, plain: 0..first.len(), start: first.len(), end: first.len() }
    }

    /// The connection's TLS.
    pub fn stream(&mut self) -> &mut TlsStream {
        &mut self.stream
    }

    /// `bytes` more have been received where [`Fed::Receive`] said.
    pub fn received(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// True if a record has begun and is not whole.
    pub fn is_inside(&self) -> bool {
        self.end > self.start
    }

    /// Gives `channel` what it wants, as long as there is something. `told` is
    /// called at every step.
    ///
    /// # Errors
    /// What came is no record, or no packet.
    pub fn run(
        &mut self,
        buffer: &mut [u8],
        channel: &mut Channel,
        ram: &RamBlocks,
        tally: Tally<'_>,
        told: &mut dyn FnMut(Step),
    ) -> Result<Fed, RunError> {
        loop {
            let wanted = channel.want();
            if matches!(wanted, Want::SyncPoint(_)) {
                return Ok(Fed::Held);
            }
            if self.plain.is_empty() {
                told(Step::Opening);
                match self.stream.open(&mut buffer[self.start..self.end]) {
                    Ok(Opened::Record { plain, bytes }) => {
                        told(Step::Opened);
                        tally.channel.wire_bytes.add((bytes - plain.len()) as u64);
                        self.plain = self.start + plain.start..self.start + plain.end;
                        self.start += bytes;
                    }
                    Ok(Opened::Partial { .. }) => {
                        buffer.copy_within(self.start..self.end, 0);
                        (self.start, self.end) = (0, self.end - self.start);
                        // Ciphertext is never shorter than its plaintext.
                        let surely = wanted.surely().saturating_sub(self.end as u64);
                        return Ok(Fed::Receive { from: self.end, surely });
                    }
                    Ok(Opened::Closed) => return Ok(Fed::Closed),
                    Err(error) => {
                        return Err(wrong(channel.id(), tally.channel.wire_bytes.get(), &error));
                    }
                }
                continue;
            }
            let there = &buffer[self.plain.clone()];
            let mut packet = || told(Step::Packet);
            self.plain.start += channel.take(there, ram, tally, &mut packet)?;
        }
    }

    /// The source closed without close_notify, as those before 10.0 do: legal
    /// between packets only (docs/operating.md#tls).
    ///
    /// # Errors
    /// It was inside a record, or a packet.
    pub fn end(&self, channel: &Channel, wire_bytes: u64) -> Result<(), RunError> {
        if self.is_inside() && !self.stream.is_closed() {
            let error = TlsError::Lost("closed by the source inside a TLS record".into());
            return Err(wrong(channel.id(), wire_bytes, &error));
        }
        Ok(channel.end()?)
    }
}

fn wrong(id: ChannelId, wire_bytes: u64, error: &TlsError) -> RunError {
    let family: Family = error.family();
    RunError::new(family, format!("channel {id}, byte {wire_bytes} of TLS: {error}"))
}

/// What a feed's buffer holds: large enough to make receives rare, small enough
/// that what was just received is still in the L2 cache when it is opened.
pub const BUFFER_BYTES: usize = 128 * 1024;

const _: () = assert!(BUFFER_BYTES >= 2 * RECORD_BYTES_MAX);
