//! Section `spapr/htab`: a POWER guest's hash table (`hw/ppc/spapr.c`).

use super::Item;
use crate::wire::{Reader, WireError};

/// The section's header or, `inside`, one run of entries.
pub(super) fn item(reader: &mut Reader<'_>, inside: &mut bool) -> Result<Item, WireError> {
    if !*inside {
        // A shift, or that there is no table: nothing follows either.
        let header = reader.be32("htab header")?;
        *inside = header == 0;
        return Ok(if *inside { Item::Skip(0) } else { Item::End });
    }
    let index = reader.be32("htab index")?;
    let valid = reader.be16("htab valid entries")?;
    let invalid = reader.be16("htab invalid entries")?;
    if (index, valid, invalid) == (0, 0, 0) {
        return Ok(Item::End);
    }
    Ok(Item::Skip(u64::from(valid).saturating_mul(ENTRY_BYTES)))
}

const ENTRY_BYTES: u64 = 16;
