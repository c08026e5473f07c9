//! Section `block`: disks in the stream (`migration/block.c`, up to 9.0).

use super::Item;
use crate::wire::{Reader, WireError, WireFault};

/// One number, a sector and flags, and what the flags announce.
pub(super) fn item(reader: &mut Reader<'_>) -> Result<Item, WireError> {
    let at = reader.at();
    let number = reader.be64("block item")?;
    match number & FLAGS {
        EOS => Ok(Item::End),
        PROGRESS => Ok(Item::Skip(0)),
        flags @ (DEVICE_BLOCK | ZERO_DEVICE_BLOCK) => {
            reader.cstr("device name")?;
            Ok(Item::Skip(if flags == DEVICE_BLOCK { BLOCK_BYTES } else { 0 }))
        }
        found => Err(reader.fault_at("block item flags", at, WireFault::Unknown { found })),
    }
}

const FLAGS: u64 = 0x1ff;
const DEVICE_BLOCK: u64 = 0x01;
const EOS: u64 = 0x02;
const PROGRESS: u64 = 0x04;
const ZERO_DEVICE_BLOCK: u64 = 0x01 | 0x08;
const BLOCK_BYTES: u64 = 1024 * 1024;
