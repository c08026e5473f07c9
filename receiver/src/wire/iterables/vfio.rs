//! Sections `…/vfio` (`hw/vfio/migration.c`).

use super::{Item, bounded};
use crate::wire::{Reader, WireError, WireFault};

/// One tag, and what it announces.
pub(super) fn item(reader: &mut Reader<'_>) -> Result<Item, WireError> {
    let at = reader.at();
    match reader.be64("vfio tag")? {
        END_OF_STATE | INIT_DATA_SENT => Ok(Item::End),
        SETUP_STATE => Ok(Item::Skip(0)),
        DATA_STATE => {
            let size = reader.be64("vfio data size")?;
            bounded(reader, "vfio data size", size, DATA_BYTES_MAX).map(Item::Skip)
        }
        // The tag of a device's configuration is followed by state without a
        // length, and comes in SECTION_FULL only, which nobody walks.
        found => Err(reader.fault_at("vfio tag", at, WireFault::Unknown { found })),
    }
}

const END_OF_STATE: u64 = 0xffff_ffff_ef10_0001;
const SETUP_STATE: u64 = 0xffff_ffff_ef10_0003;
const DATA_STATE: u64 = 0xffff_ffff_ef10_0004;
const INIT_DATA_SENT: u64 = 0xffff_ffff_ef10_0005;

/// One piece of a device's memory; QEMU sends at most 1 MiB at a time.
const DATA_BYTES_MAX: u64 = 1024 * 1024 * 1024;
