//! Section `s390-storage_attributes` (`hw/s390x/s390-stattrib.c`).

use super::{Item, bounded};
use crate::wire::{Reader, WireError, WireFault};

/// One number, an address and flags, and what the flags announce.
pub(super) fn item(reader: &mut Reader<'_>) -> Result<Item, WireError> {
    let at = reader.at();
    let number = reader.be64("storage attributes item")?;
    match number & FLAGS {
        EOS => Ok(Item::End),
        DONE => Ok(Item::Skip(0)),
        MORE => {
            let count = reader.be64("storage attributes count")?;
            bounded(reader, "storage attributes count", count, COUNT_MAX).map(Item::Skip)
        }
        found => Err(reader.fault_at("storage attributes flags", at, WireFault::Unknown { found })),
    }
}

const FLAGS: u64 = 0xfff;
const EOS: u64 = 0x01;
const MORE: u64 = 0x02;
const DONE: u64 = 0x08;

/// Bytes of one piece, a byte for each guest page; QEMU sends 512 KiB.
const COUNT_MAX: u64 = 64 * 1024 * 1024;
