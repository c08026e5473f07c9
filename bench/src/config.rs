//! What the synthetic source is told: the guest, its rounds and the wire's shape.

use std::path::PathBuf;

use crate::encode::compressed::Compression;
use crate::form::{Form, Version, ZeroForm};

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
}

impl BlockConfig {
    /// A block on ordinary pages.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: u64) -> Self {
        Self { name: name.into(), bytes, backing_page_bytes: None }
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
    /// How hard, 0 to [`Compression::level_max`].
    pub level: u32,
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
            level: 1,
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

    /// How zero pages travel in the end: in packets only where there are packets.
    #[must_use]
    pub fn zero_form(&self) -> ZeroForm {
        match self.form.zero {
            ZeroForm::InPackets if self.channels == 0 => ZeroForm::OnMain,
            form => form,
        }
    }

    /// Says whether this is a migration that a source could make.
    ///
    /// # Errors
    /// The first thing that no source could do, see [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.page_bytes.is_power_of_two()
            || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&self.page_bytes)
        {
            return Err(ConfigError::PageBytes { found: self.page_bytes });
        }
        self.check_blocks()?;
        for (what, share) in [
            ("dirty share", self.dirty_share),
            ("zero share", self.zero_share),
            ("compressible share", self.compressible_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError::Share { what, found: share });
            }
        }
        for (what, count) in [
            ("rounds", u64::from(self.rounds)),
            ("dirty run", u64::from(self.dirty_run)),
            ("zero run", u64::from(self.zero_run)),
            ("pages per section", self.part_pages),
            ("rounds per section", u64::from(self.rounds_per_part)),
        ] {
            if count == 0 {
                return Err(ConfigError::Zero { what });
            }
        }
        if self.machine.is_empty() || self.machine.len() > NAME_BYTES_MAX {
            return Err(ConfigError::Machine { name: self.machine.clone() });
        }
        if self.level > self.compression.level_max() {
            let limit = self.compression.level_max();
            return Err(ConfigError::Level { found: self.level, limit });
        }
        if self.channels == 0 {
            for (what, on) in [
                ("compression", self.compression != Compression::None),
                ("device packets", self.devices.packets > 0),
            ] {
                if on {
                    return Err(ConfigError::Together { what, with: "no multifd channels" });
                }
            }
        }
        if self.switchover_ack && !self.return_path {
            return Err(ConfigError::Together { what: "switchover-ack", with: "no return path" });
        }
        if self.background_snapshot {
            for (excluded, on) in [
                ("multifd", self.channels > 0),
                ("return-path", self.return_path),
                ("several rounds", self.rounds > 1),
                ("postcopy-ram", self.postcopy_advise),
                ("dirty-bitmaps", self.dirty_bitmaps),
            ] {
                if on {
                    return Err(ConfigError::Together {
                        what: "background-snapshot",
                        with: excluded,
                    });
                }
            }
        }
        Ok(())
    }

    fn check_blocks(&self) -> Result<(), ConfigError> {
        if self.blocks.is_empty() || self.blocks.len() > BLOCKS_MAX {
            return Err(ConfigError::BlockCount { found: self.blocks.len() });
        }
        if !self.images.is_empty() && self.images.len() != self.blocks.len() {
            return Err(ConfigError::ImageCount {
                found: self.images.len(),
                blocks: self.blocks.len(),
            });
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let name = &block.name;
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
                return Err(ConfigError::BlockName { index });
            }
            if self.blocks[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(ConfigError::BlockTwice { name: name.clone() });
            }
            if block.bytes == 0 || !block.bytes.is_multiple_of(u64::from(self.page_bytes)) {
                return Err(ConfigError::BlockBytes {
                    name: name.clone(),
                    found: block.bytes,
                    page_bytes: self.page_bytes,
                });
            }
            if block
                .backing_page_bytes
                .is_some_and(|bytes| !bytes.is_power_of_two() || bytes < u64::from(self.page_bytes))
            {
                return Err(ConfigError::BackingPage { name: name.clone() });
            }
        }
        Ok(())
    }
}

/// Why a [`SourceConfig`] cannot be sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The target page has no size that a target has.
    #[error(
        "page size is {found} bytes, allowed is a power of two from {PAGE_BYTES_MIN} to {PAGE_BYTES_MAX}"
    )]
    PageBytes {
        /// The size asked for.
        found: u32,
    },
    /// Too few or too many RAM blocks.
    #[error("{found} RAM blocks, allowed are 1 to {BLOCKS_MAX}")]
    BlockCount {
        /// The number asked for.
        found: usize,
    },
    /// Images were given, but not one for each block.
    #[error("{found} images for {blocks} RAM blocks, one for each is needed")]
    ImageCount {
        /// How many images.
        found: usize,
        /// How many blocks.
        blocks: usize,
    },
    /// A block's name does not fit the wire.
    #[error("the name of RAM block {index} must have 1 to {NAME_BYTES_MAX} bytes and no NUL")]
    BlockName {
        /// The block, from 0.
        index: usize,
    },
    /// Two blocks have one name.
    #[error("RAM block {name:?} is there twice")]
    BlockTwice {
        /// The name.
        name: String,
    },
    /// A block's length is no number of whole pages.
    #[error(
        "RAM block {name:?} has {found} bytes, which is not a positive multiple of the {page_bytes}-byte page"
    )]
    BlockBytes {
        /// The block.
        name: String,
        /// Its length in bytes.
        found: u64,
        /// The page size in bytes.
        page_bytes: u32,
    },
    /// The memory behind a block has pages that no memory has.
    #[error(
        "the memory behind RAM block {name:?} must have pages of a power of two bytes, at least the target page"
    )]
    BackingPage {
        /// The block.
        name: String,
    },
    /// A share outside 0 to 1.
    #[error("{what} is {found}, allowed is 0 to 1")]
    Share {
        /// Which share.
        what: &'static str,
        /// Its value.
        found: f64,
    },
    /// A level that the compression does not have.
    #[error("compression level is {found}, allowed is 0 to {limit}")]
    Level {
        /// The level.
        found: u32,
        /// The highest.
        limit: u32,
    },
    /// A count that must be at least 1.
    #[error("{what} must be at least 1")]
    Zero {
        /// Which count.
        what: &'static str,
    },
    /// The machine type's name is empty, too long, or has no version where one is needed.
    #[error(
        "machine type {name:?} must have 1 to {NAME_BYTES_MAX} bytes and end in a version, as pc-q35-10.0"
    )]
    Machine {
        /// The name.
        name: String,
    },
    /// Two settings that exclude each other.
    #[error("{what} excludes {with}")]
    Together {
        /// The one.
        what: &'static str,
        /// The other.
        with: &'static str,
    },
    /// An image cannot be read.
    #[error("image {path}: {reason}")]
    Image {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// The smallest target page there is, in bytes.
pub const PAGE_BYTES_MIN: u32 = 4096;
/// The largest target page there is, in bytes.
pub const PAGE_BYTES_MAX: u32 = 65536;
const NAME_BYTES_MAX: usize = 255; // one length byte
const BLOCKS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SourceConfig {
        SourceConfig::new(1, 64 << 20, 4)
    }

    #[test]
    fn the_plain_configuration_is_possible() {
        config().check().expect("possible");
    }

    #[test]
    fn what_no_source_could_do_is_refused_by_name() {
        let refused = |change: fn(&mut SourceConfig)| {
            let mut config = config();
            change(&mut config);
            config.check().expect_err("refused").to_string()
        };
        assert!(refused(|c| c.page_bytes = 2048).contains("2048"));
        assert!(refused(|c| c.blocks.clear()).contains("0 RAM blocks"));
        assert!(refused(|c| c.blocks[0].bytes += 1).contains("pc.ram"));
        assert!(refused(|c| c.blocks[1].name = "pc.ram".into()).contains("twice"));
        assert!(refused(|c| c.blocks[1].name = "a\0b".into()).contains("block 1"));
        assert!(refused(|c| c.zero_share = f64::NAN).contains("zero share"));
        assert!(refused(|c| c.rounds = 0).contains("rounds"));
        assert!(refused(|c| c.background_snapshot = true).contains("multifd"));
        assert!(
            refused(|c| (c.return_path, c.switchover_ack) = (false, true)).contains("return path")
        );
        assert!(refused(|c| c.images = vec!["a".into()]).contains("1 images"));
    }

    #[test]
    fn zero_pages_are_in_packets_only_where_there_are_packets() {
        let mut config = config();
        assert_eq!(config.zero_form(), ZeroForm::InPackets);
        config.channels = 0;
        assert_eq!(config.zero_form(), ZeroForm::OnMain);
    }
}
