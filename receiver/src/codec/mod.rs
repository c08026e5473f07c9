//! Compressed payloads of multifd packets: from staging memory into guest RAM.
//!
//! A [`Decoder`] belongs to one channel. It takes a packet's payload in any
//! pieces and writes the pages where [`Places`] says, never more than they are:
//! what a payload may unfold to is bounded by where it can go. [`PageInflate`] decodes
//! what the main stream has compressed.

mod compressed_page;
#[allow(unsafe_code, reason = "libdeflate writes guest RAM: docs/unsafe.md#codec")]
mod deflate_unit;
mod error;
pub mod fuzzing;
#[allow(unsafe_code, reason = "zlib-rs writes guest RAM: docs/unsafe.md#codec")]
mod inflate;
mod output;
mod paged;
mod qatzip;
mod stream;
mod zlib;
mod zstd;
#[allow(unsafe_code, reason = "zstd reads headers: docs/unsafe.md#codec")]
mod zstd_header;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use compressed_page::{InflateError, PageInflate};
pub use error::CodecError;

use crate::place::Places;
use crate::staging::Staging;
use crate::wire::{Compression, PageBytes};
use deflate_unit::UnitFormat;
use paged::PagedUnits;
use qatzip::GzipMembers;
use zlib::ZlibStream;
use zstd::ZstdStream;

/// What decodes the payloads of one channel; it lives as long as the channel,
/// since with zlib and zstd all payloads are one stream.
pub struct Decoder {
    compression: Compression,
    method: Method,
}

enum Method {
    Zlib(ZlibStream),
    Zstd(ZstdStream),
    Paged(PagedUnits),
    Gzip(GzipMembers),
}

impl Decoder {
    /// A decoder for a channel that has begun to be compressed.
    ///
    /// # Errors
    /// The budget, or the host, has no memory for it.
    ///
    /// # Panics
    /// If `compression` is none: our own bug.
    pub fn new(
        compression: Compression,
        page: PageBytes,
        staging: &Arc<Staging>,
    ) -> Result<Self, CodecError> {
        let method = match compression {
            Compression::None => panic!("nothing to decode"),
            Compression::Zlib => Method::Zlib(ZlibStream::new(staging)?),
            Compression::Zstd => Method::Zstd(ZstdStream::new(staging)),
            Compression::Qpl => Method::Paged(PagedUnits::new(UnitFormat::Raw, page, staging)?),
            Compression::Uadk => Method::Paged(PagedUnits::new(UnitFormat::Zlib, page, staging)?),
            Compression::Qatzip => Method::Gzip(GzipMembers::new(staging)?),
        };
        Ok(Self { compression, method })
    }

    /// The method that it decodes.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// A packet with `pages` normal pages in `payload_bytes` of payload begins.
    pub fn begin(&mut self, pages: usize, payload_bytes: u64) {
        match &mut self.method {
            Method::Zlib(_) | Method::Zstd(_) | Method::Gzip(_) => {}
            Method::Paged(units) => units.begin(pages, payload_bytes),
        }
    }

    /// Takes a piece of the payload; all pieces together are `payload_bytes`.
    ///
    /// # Errors
    /// The payload is not what it must be, or there is no memory. The channel is
    /// of no use then; pages of the packet may be half written.
    pub fn take(&mut self, bytes: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
        match &mut self.method {
            Method::Zlib(stream) => stream.take(bytes, places),
            Method::Zstd(stream) => stream.take(bytes, places),
            Method::Paged(units) => units.take(bytes, places),
            Method::Gzip(members) => members.take(bytes, places),
        }
    }

    /// The payload has been taken: its pages must be whole.
    ///
    /// # Errors
    /// They are not, or more would have come.
    pub fn end(&mut self, places: &mut Places<'_>) -> Result<(), CodecError> {
        match &mut self.method {
            Method::Zlib(stream) => stream.end(places),
            Method::Zstd(stream) => stream.end(places),
            Method::Paged(units) => units.end(places),
            Method::Gzip(members) => members.end(places),
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({})", self.compression.as_str())
    }
}
