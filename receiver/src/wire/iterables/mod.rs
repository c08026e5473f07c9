//! Sections other than RAM that can come before its end: how to get past them.
//!
//! Their content is of no use without the device, but they have no length, so
//! they must be walked. A [`Walk`] takes bytes in whatever pieces they come.

mod block;
mod dirty_bitmap;
mod s390_attributes;
mod spapr_htab;
mod vfio;
mod virtio_mem;

use super::{Reader, WireError, WireFault};

/// A section's payload that is being walked.
#[derive(Clone, Debug)]
pub struct Walk {
    iterable: Iterable,
    /// Bytes to pass over before the next item.
    skip: u64,
    ends_after_skip: bool,
    inside_htab: bool,
}

/// The sections that can be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Iterable {
    /// `dirty-bitmap`.
    DirtyBitmap,
    /// `block`: disks (capability `block`, up to 9.0).
    Block,
    /// `…/vfio`.
    Vfio,
    /// `spapr/htab`.
    SpaprHtab,
    /// `s390-storage_attributes`.
    S390Attributes,
    /// `…/virtio-mem-device-early`, which is no iterable but comes early.
    VirtioMemEarly,
}

/// How far a [`Walk`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Bytes of the input that it is past. 0 and no end: more are needed.
    pub taken: usize,
    /// True if the payload ended.
    pub ended: bool,
}

/// What an item's own bytes say about those after it.
enum Item {
    /// So many bytes belong to it.
    Skip(u64),
    /// So many bytes belong to it, and it is the last.
    SkipAndEnd(u64),
    /// It is the last.
    End,
}

impl Iterable {
    /// The iterable that has this idstr in START, PART and END.
    pub fn of(idstr: &str) -> Option<Self> {
        match idstr {
            "dirty-bitmap" => Some(Self::DirtyBitmap),
            "block" => Some(Self::Block),
            "spapr/htab" => Some(Self::SpaprHtab),
            "s390-storage_attributes" => Some(Self::S390Attributes),
            _ if idstr.ends_with("/vfio") => Some(Self::Vfio),
            _ => None,
        }
    }

    /// The early section that has this idstr in FULL.
    pub fn of_early(idstr: &str) -> Option<Self> {
        idstr.ends_with("virtio-mem-device-early").then_some(Self::VirtioMemEarly)
    }
}

impl Walk {
    /// At the first byte of a payload.
    pub const fn new(iterable: Iterable) -> Self {
        Self { iterable, skip: 0, ends_after_skip: false, inside_htab: false }
    }

    /// Goes as far into `input` as whole items reach. Never needs more than
    /// [`ITEM_BYTES_MAX`] bytes at once. The position in an error counts from
    /// the start of `input`.
    pub fn step(&mut self, input: &[u8]) -> Result<Walked, WireError> {
        let mut reader = Reader::new(input);
        loop {
            if self.skip > 0 {
                let there = reader.rest().len();
                let count = usize::try_from(self.skip).map_or(there, |skip| skip.min(there));
                reader.bytes("item", count)?;
                self.skip = self.skip.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            }
            if self.skip > 0 {
                return Ok(Walked { taken: reader.at(), ended: false });
            }
            if self.ends_after_skip {
                return Ok(Walked { taken: reader.at(), ended: true });
            }
            // An item is taken whole or not at all.
            let mut ahead = reader.clone();
            match self.item(&mut ahead) {
                Ok(Item::Skip(count)) => self.skip = count,
                Ok(Item::SkipAndEnd(count)) => (self.skip, self.ends_after_skip) = (count, true),
                Ok(Item::End) => self.ends_after_skip = true,
                Err(error) if error.is_short() => {
                    return Ok(Walked { taken: reader.at(), ended: false });
                }
                Err(error) => return Err(error),
            }
            reader = ahead;
        }
    }

    fn item(&mut self, reader: &mut Reader<'_>) -> Result<Item, WireError> {
        match self.iterable {
            Iterable::DirtyBitmap => dirty_bitmap::item(reader),
            Iterable::Block => block::item(reader),
            Iterable::Vfio => vfio::item(reader),
            Iterable::SpaprHtab => spapr_htab::item(reader, &mut self.inside_htab),
            Iterable::S390Attributes => s390_attributes::item(reader),
            Iterable::VirtioMemEarly => virtio_mem::item(reader),
        }
    }
}

/// Checks the length of a variable part against the longest that makes sense.
fn bounded(
    reader: &Reader<'_>,
    field: &'static str,
    found: u64,
    limit: u64,
) -> Result<u64, WireError> {
    if found <= limit {
        Ok(found)
    } else {
        Err(reader.fault(field, WireFault::OverLimit { found, limit }))
    }
}

/// The most bytes that a [`Walk`] wants to see at once: the flags, two names
/// and numbers of a dirty bitmap's item.
pub const ITEM_BYTES_MAX: usize = 4 + 2 * 256 + 20;

#[cfg(test)]
mod tests;
