//! Bytes to types and back: the formats of a QEMU migration, pure.
//!
//! Nothing here does I/O, reads a clock or keeps a thread. [`Reader`] is the
//! only thing that touches bytes; numbers that a peer chose leave this module
//! inside types that cannot be wrong. Values we do not know are kept and shown
//! (newtypes with named values), not guessed.
//!
//! Sources of the formats: `migration/savevm.c`, `migration/ram.c`,
//! `migration/multifd.c` and `migration/vmstate.c` of QEMU 7.2 to 11.1,
//! restated in `docs/wire-format.md`.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod command;
mod configuration;
mod device_packet;
mod error;
pub mod fuzzing;
mod init;
pub mod iterables;
mod mapped_ram;
mod packet;
mod page;
mod ram;
mod reader;
mod return_path;
mod section;
pub mod vmdesc;
pub mod xbzrle;

pub use command::{Command, CommandId, PostcopyAdvise};
pub use configuration::{Capabilities, Configuration};
pub use device_packet::{
    DEVICE_STATE_HEADER_BYTES, DeviceStateHeader, VFIO_PACKET_BYTES, VfioPacket,
};
pub use error::{WireError, WireFault};
pub use init::{INIT_BYTES, Init};
pub use mapped_ram::{FileExtent, MAPPED_RAM_HEADER_BYTES, MappedRamHeader, bitmap_bytes};
pub use packet::{
    COMPRESSED_BYTES_MAX, Compression, PACKET_START_BYTES, PacketFlags, PacketHeader, PacketKind,
    PacketStart,
};
pub use page::PageBytes;
pub use ram::{BlockInfo, RamFlags, RamItem};
pub use reader::Reader;
pub use return_path::{Encoded, REPLY_BYTES_MAX, Reply};
pub use section::{FOOTER_BYTES, Footers, SectionHeader, SectionType, footer};

/// First four bytes of the main stream, "QEVM" (`migration/qemu-file.h`,
/// `QEMU_VM_FILE_MAGIC`).
pub const MAIN_MAGIC: u32 = 0x5145_564d;

/// The version that follows [`MAIN_MAGIC`] (`QEMU_VM_FILE_VERSION`).
pub const MAIN_VERSION: u32 = 3;

/// First four bytes of every multifd channel and of every packet on it
/// (`migration/multifd.h`, `MULTIFD_MAGIC`).
pub const MULTIFD_MAGIC: u32 = 0x1122_3344;

/// The version that follows [`MULTIFD_MAGIC`] (`MULTIFD_VERSION`).
pub const MULTIFD_VERSION: u32 = 1;
