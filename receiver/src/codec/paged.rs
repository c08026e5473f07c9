//! qpl and uadk: a table of lengths, then every page for itself.
//!
//! The table has a be32 for each page (`migration/multifd-qpl.c`,
//! `migration/multifd-uadk.c`); a page that did not get smaller is stored as it
//! is, and told by its length.

use std::sync::Arc;

use super::CodecError;
use super::deflate_unit::{DEFLATE_UNIT_BYTES, DeflateUnit, UnitFormat};
use crate::place::Places;
use crate::staging::{Lease, Staging};
use crate::wire::PageBytes;

/// Decodes packets of pages that are compressed one by one.
pub(super) struct PagedUnits {
    unit: DeflateUnit,
    page: PageBytes,
    /// The table, as far as it is there.
    table: Vec<u8>,
    table_bytes: usize,
    payload_bytes: u64,
    /// The page that comes next.
    index: usize,
    /// The beginning of a page whose end is in the next piece.
    partial: Vec<u8>,
    _lease: Lease,
}

impl PagedUnits {
    /// Before the channel's first compressed packet.
    pub(super) fn new(
        format: UnitFormat,
        page: PageBytes,
        staging: &Arc<Staging>,
    ) -> Result<Self, CodecError> {
        let table_bytes = LENGTH_BYTES * page.packet_pages() as usize;
        let bytes = DEFLATE_UNIT_BYTES + (table_bytes + page.as_usize()) as u64;
        let lease = staging.lend(bytes)?;
        Ok(Self {
            unit: DeflateUnit::new(format)?,
            page,
            table: Vec::with_capacity(table_bytes),
            table_bytes: 0,
            payload_bytes: 0,
            index: 0,
            partial: Vec::with_capacity(page.as_usize()),
            _lease: lease,
        })
    }

    /// A packet of `pages` pages and `payload_bytes` begins.
    pub(super) fn begin(&mut self, pages: usize, payload_bytes: u64) {
        self.table.clear();
        self.table_bytes = pages * LENGTH_BYTES;
        self.payload_bytes = payload_bytes;
        self.index = 0;
        self.partial.clear();
    }

    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        places: &mut Places<'_>,
    ) -> Result<(), CodecError> {
        let missing = self.table_bytes - self.table.len();
        if missing > 0 {
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.table.extend_from_slice(now);
            bytes = rest;
            if now.len() < missing {
                return Ok(());
            }
            self.check_table()?;
        }
        // The table agrees with the size of the payload: every byte belongs to a page.
        while !bytes.is_empty() {
            let length = self.length(self.index);
            let (now, rest) = bytes.split_at((length - self.partial.len()).min(bytes.len()));
            bytes = rest;
            if now.len() == length {
                self.page(now, places)?;
                continue;
            }
            self.partial.extend_from_slice(now);
            if self.partial.len() == length {
                let mut partial = std::mem::take(&mut self.partial);
                self.page(&partial, places)?;
                partial.clear();
                self.partial = partial;
            }
        }
        Ok(())
    }

    /// The payload is over.
    pub(super) fn end(&self, places: &Places<'_>) -> Result<(), CodecError> {
        match places.missing() {
            0 => Ok(()),
            missing => Err(CodecError::Missing { missing }),
        }
    }

    fn page(&mut self, unit: &[u8], places: &mut Places<'_>) -> Result<(), CodecError> {
        let page = self.index;
        self.index += 1;
        if unit.len() == self.page.as_usize() {
            places.put(unit);
            return Ok(());
        }
        let span = places.next_page(self.page.as_usize());
        if !self.unit.decode(unit, span.into()) {
            return Err(CodecError::Page { page });
        }
        places.fill(self.page.as_u64());
        Ok(())
    }

    fn length(&self, page: usize) -> usize {
        self.length_be32(page) as usize
    }

    fn length_be32(&self, page: usize) -> u32 {
        u32::from_be_bytes(self.table.as_chunks().0[page])
    }

    fn check_table(&self) -> Result<(), CodecError> {
        let limit = self.page.get();
        let mut expected = self.table_bytes as u64;
        for page in 0..self.table_bytes / LENGTH_BYTES {
            let found = self.length_be32(page);
            if found == 0 || found > limit {
                return Err(CodecError::Length { page, found, limit });
            }
            expected += u64::from(found);
        }
        if expected != self.payload_bytes {
            return Err(CodecError::Size { found: self.payload_bytes, expected });
        }
        Ok(())
    }
}

const LENGTH_BYTES: usize = 4;
