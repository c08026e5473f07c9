//! What the synthetic source is told: the guest, its rounds and the wire's shape.

mod check;
mod error;

use std::path::PathBuf;

use crate::encode::compressed::Compression;
use crate::form::{Form, Version, ZeroForm};

pub use self::error::ConfigError;

/// One RAM block of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockConfig {
    /// Its idstr, 1 to 255 bytes without NUL.
    pub name: String,
    /// Its used length in bytes, a multiple of the page size.
    pub bytes: u64,
    /// The page size of the memory behind it, in bytes, when that differs from the target page:
    /// a huge page. On the wire only with [`SourceConfig::postcopy_advise`].
    pub backing_page_bytes: Option<u64>,
    /// The memory behind it is a file that the destination maps too: with
    /// [`SourceConfig::x_ignore_shared`] none of its pages is sent.
    pub shared: bool,
}

impl BlockConfig {
    /// A block on ordinary pages.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: u64) -> Self {
        Self { name: name.into(), bytes, backing_page_bytes: None, shared: false }
    }
}

/// The device state at the end of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// How many invented devices there are beside the fixed ones (`timer`, `apic`, `globalstate`).
    pub devices: u32,
    /// The largest body of an invented device, in bytes; sizes are spread below it.
    pub device_bytes_max: u32,
    /// How many packets of a VFIO device's state travel on the channels, from 10.0 on.
    pub packets: u32,
    /// Half of them come after the last SYNC, as a source may send them.
    pub packets_late: bool,
    /// The largest payload of such a packet, in bytes; sizes are spread below it.
    pub packet_bytes_max: u32,
    /// How many false stream ends (footer, EOF, the head of a vmdesc) stand inside device bodies.
    pub forged_tails: u32,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            devices: 24,
            device_bytes_max: 16 * 1024,
            packets: 0,
            packets_late: true,
            packet_bytes_max: 128 * 1024,
            forged_tails: 0,
        }
    }
}

/// A whole migration, as the source will speak it.
///
/// The wire is a pure function of this value: the same configuration gives the same bytes on every
/// machine.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    /// What all content and all choices are made from.
    pub seed: u64,
    /// The RAM blocks, in the order of the list in ram's START.
    pub blocks: Vec<BlockConfig>,
    /// One file per block, in the same order, whose pages are sent as the block's RAM in place of
    /// content from the seed; empty for none. A page past the end of its file is zero.
    pub images: Vec<PathBuf>,
    /// The target page: a power of two from 4096 to 65536 bytes.
    pub page_bytes: u32,
    /// How many multifd channels; 0 is a migration without multifd.
    pub channels: u8,
    /// How pages on channels are compressed.
    pub compression: Compression,
    /// The capability `compress`, up to 9.0: pages on main are compressed, each for itself. With
    /// `xbzrle` those of the first round only.
    pub compress: bool,
    /// How hard, 0 to [`Compression::level_max`].
    pub level: u32,
    /// The capability `xbzrle`: of a page that was sent in a later round than the first, the next
    /// one that finds it dirty sends what changed. The cache is as large as the guest.
    pub xbzrle: bool,
    /// The share of pages of which a write changes some places only, 0 to 1; the others change as a
    /// whole.
    pub patched_share: f64,
    /// The share of pages that can be made smaller at all, 0 to 1.
    pub compressible_share: f64,
    /// How many times the source goes over the guest: the first round sends every page, each later
    /// one the pages that were dirtied meanwhile. At least 1. The last of several is sent in ram's
    /// END, after the guest stopped.
    pub rounds: u32,
    /// The share of pages that each later round finds dirty, 0 to 1.
    pub dirty_share: f64,
    /// Dirty pages come in aligned runs of this many pages.
    pub dirty_run: u32,
    /// The share of pages that are zero whenever they are sent, 0 to 1.
    pub zero_share: f64,
    /// Zero pages come in aligned runs of this many pages.
    pub zero_run: u32,
    /// A PART section of ram ends after this many pages.
    pub part_pages: u64,
    /// How many rounds share one PART section (several FLUSH in one section). Without effect where
    /// every EOS is a sync point.
    pub rounds_per_part: u32,
    /// The wire's shape.
    pub form: Form,
    /// The VM's UUID in the order in which it is printed; all zero when it has none.
    pub uuid: [u8; 16],
    /// The machine type's full name.
    pub machine: String,
    /// The configuration section names the UUID (`validate-uuid`).
    pub validate_uuid: bool,
    /// The configuration section names the target page's bits, as targets with several page sizes
    /// do.
    pub target_page_bits: bool,
    /// The return path: the source ends only when it was told how the destination fared.
    pub return_path: bool,
    /// The capability `switchover-ack`; needs the return path.
    pub switchover_ack: bool,
    /// `postcopy-ram` is on (and never used): ADVISE, and page sizes in ram's START.
    pub postcopy_advise: bool,
    /// `dirty-bitmaps` is on: a second iterable section beside ram.
    pub dirty_bitmaps: bool,
    /// The capability `block`, up to 9.0: a disk beside ram, in a section before it.
    pub disk: bool,
    /// The capability `x-ignore-shared`: every block is announced with its address, and pages of
    /// [`BlockConfig::shared`] ones are not sent.
    pub x_ignore_shared: bool,
    /// How many virtio-mem devices send an early section.
    pub early_sections: u32,
    /// The stream of `background-snapshot`: no commands, one round, no END of ram.
    pub background_snapshot: bool,
    /// The device state.
    pub devices: DeviceConfig,
}

impl SourceConfig {
    /// A guest of `ram_bytes` as QEMU 10.0 sends a q35 machine over `channels` multifd channels:
    /// main memory and the small blocks that come with it, three rounds, a quarter of the pages
    /// zero, a tenth dirtied per round.
    #[must_use]
    pub fn new(seed: u64, ram_bytes: u64, channels: u8) -> Self {
        Self {
            seed,
            blocks: vec![
                BlockConfig::new("pc.ram", ram_bytes),
                BlockConfig::new("0000:00:01.0/vga.vram", 16 << 20),
                BlockConfig::new("/rom@etc/acpi/tables", 128 << 10),
                BlockConfig::new("pc.bios", 256 << 10),
                BlockConfig::new("pc.rom", 128 << 10),
            ],
            images: Vec::new(),
            page_bytes: 4096,
            channels,
            compression: Compression::None,
            compress: false,
            level: 1,
            xbzrle: false,
            patched_share: 0.0,
            compressible_share: 0.0,
            rounds: 3,
            dirty_share: 0.1,
            dirty_run: 4,
            zero_share: 0.25,
            zero_run: 16,
            part_pages: 16 * 1024,
            rounds_per_part: 1,
            form: Form::qemu(Version::new(10, 0), Version::new(10, 0)),
            uuid: [0; 16],
            machine: "pc-q35-10.0".to_owned(),
            validate_uuid: false,
            target_page_bits: false,
            return_path: true,
            switchover_ack: false,
            postcopy_advise: false,
            dirty_bitmaps: false,
            disk: false,
            x_ignore_shared: false,
            early_sections: 0,
            background_snapshot: false,
            devices: DeviceConfig::default(),
        }
    }

    /// Takes the form of a QEMU `binary` running the versioned machine type `machine`.
    ///
    /// # Errors
    /// [`ConfigError::Machine`] when the name does not end in a version.
    pub fn speak_as(&mut self, binary: Version, machine: &str) -> Result<(), ConfigError> {
        let version = Version::of_machine(machine)
            .ok_or_else(|| ConfigError::Machine { name: machine.to_owned() })?;
        self.form = Form::qemu(binary, version);
        machine.clone_into(&mut self.machine);
        Ok(())
    }

    /// The guest's RAM in bytes, over all blocks.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes).sum()
    }

    /// Whether pages of a block, by its index, are sent at all.
    #[must_use]
    pub fn sends(&self, block: usize) -> bool {
        !(self.x_ignore_shared && self.blocks[block].shared)
    }

    /// How zero pages travel in the end: in packets only where there are packets.
    #[must_use]
    pub fn zero_form(&self) -> ZeroForm {
        match self.form.zero {
            ZeroForm::InPackets if self.channels == 0 => ZeroForm::OnMain,
            form => form,
        }
    }
}

/// The smallest target page there is, in bytes.
pub const PAGE_BYTES_MIN: u32 = 4096;
/// The largest target page there is, in bytes.
pub const PAGE_BYTES_MAX: u32 = 65536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_pages_are_in_packets_only_where_there_are_packets() {
        let mut config = SourceConfig::new(1, 64 << 20, 4);
        assert_eq!(config.zero_form(), ZeroForm::InPackets);
        config.channels = 0;
        assert_eq!(config.zero_form(), ZeroForm::OnMain);
    }
}
