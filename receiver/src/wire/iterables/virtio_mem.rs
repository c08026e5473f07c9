//! Early section `…/virtio-mem-device-early` (`hw/virtio/virtio-mem.c`):
//! which parts of the device's memory are plugged.

use super::{Item, bounded};
use crate::wire::{Reader, WireError, WireFault};

/// The whole body: numbers, then a bitmap in 64-bit words.
pub(super) fn item(reader: &mut Reader<'_>) -> Result<Item, WireError> {
    reader.be64("virtio-mem addr")?;
    let region_bytes = reader.be64("virtio-mem region_size")?;
    let at = reader.at();
    let block_bytes = reader.be64("virtio-mem block_size")?;
    let Some(bits) = region_bytes.checked_div(block_bytes) else {
        let fault = WireFault::UnderLimit { found: 0, limit: 1 };
        return Err(reader.fault_at("virtio-mem block_size", at, fault));
    };
    reader.be32("virtio-mem node")?;
    reader.be64("virtio-mem size")?;
    let bytes = bits.div_ceil(64).saturating_mul(8);
    bounded(reader, "virtio-mem bitmap", bytes, BITMAP_BYTES_MAX).map(Item::SkipAndEnd)
}

/// A bit for each 2 MiB block of a 16 TiB device is 1 MiB.
const BITMAP_BYTES_MAX: u64 = 64 * 1024 * 1024;
