//! Section `dirty-bitmap` (`migration/block-dirty-bitmap.c`).

use super::{Item, bounded};
use crate::wire::{Reader, WireError, WireFault};

/// One chunk: flags, names that changed, and what the flags announce.
pub(super) fn item(reader: &mut Reader<'_>) -> Result<Item, WireError> {
    let at = reader.at();
    let flags = flags(reader)?;
    let what = flags & (EOS | START | COMPLETE | BITS);
    if flags & !KNOWN != 0 || what.count_ones() != 1 {
        let fault = WireFault::Unknown { found: flags.into() };
        return Err(reader.fault_at("dirty bitmap flags", at, fault));
    }
    if what == EOS {
        return Ok(Item::End);
    }
    // Nobody reads these names here, and a bitmap's is whatever a person called it.
    if flags & DEVICE_NAME != 0 {
        reader.skip_cstr("node alias")?;
    }
    if flags & BITMAP_NAME != 0 {
        reader.skip_cstr("bitmap alias")?;
    }
    match what {
        START => {
            reader.be32("granularity")?;
            reader.byte("bitmap flags")?;
            Ok(Item::Skip(0))
        }
        BITS => {
            reader.be64("first sector")?;
            reader.be32("sectors")?;
            if flags & ZEROES != 0 {
                return Ok(Item::Skip(0));
            }
            let size = reader.be64("bits size")?;
            bounded(reader, "bits size", size, BITS_BYTES_MAX).map(Item::Skip)
        }
        _ => Ok(Item::Skip(0)),
    }
}

/// One, two or four bytes; the top bit of the first and of the second says
/// that more follow.
fn flags(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    let first = reader.peek_byte("dirty bitmap flags")?;
    if first & EXTRA == 0 {
        return reader.byte("dirty bitmap flags").map(u32::from);
    }
    let mut ahead = reader.clone();
    let two = ahead.be16("dirty bitmap flags")?;
    if two.to_be_bytes()[1] & EXTRA == 0 {
        *reader = ahead;
        return Ok(u32::from(two));
    }
    reader.be32("dirty bitmap flags")
}

const EOS: u32 = 0x01;
const ZEROES: u32 = 0x02;
const BITMAP_NAME: u32 = 0x04;
const DEVICE_NAME: u32 = 0x08;
const START: u32 = 0x10;
const COMPLETE: u32 = 0x20;
const BITS: u32 = 0x40;
const KNOWN: u32 = 0x7f;
const EXTRA: u8 = 0x80;

/// One chunk of bits; QEMU sends 1 KiB at a time, or less for a coarse bitmap.
const BITS_BYTES_MAX: u64 = 64 * 1024 * 1024;
