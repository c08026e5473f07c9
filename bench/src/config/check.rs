//! What no source could do.

use super::{ConfigError, PAGE_BYTES_MAX, PAGE_BYTES_MIN, SourceConfig};
use crate::encode::compressed::Compression;

impl SourceConfig {
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
            ("patched share", self.patched_share),
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
        self.check_together()?;
        if self.xbzrle && self.page_bytes > XBZRLE_PAGE_BYTES_MAX {
            return Err(ConfigError::XbzrlePage { found: self.page_bytes });
        }
        Ok(())
    }

    /// What no QEMU lets be on together (`migrate_caps_check`), and what has no meaning together.
    fn check_together(&self) -> Result<(), ConfigError> {
        let multifd = self.channels > 0;
        let snapshot = self.background_snapshot;
        for (what, is_on, excluded) in [
            (
                "no multifd channels",
                !multifd,
                &[
                    ("compression", self.compression != Compression::None),
                    ("device packets", self.devices.packets > 0),
                ][..],
            ),
            // Older sources take both, and then send no XBZRLE.
            ("multifd", multifd, &[("xbzrle", self.xbzrle), ("compress", self.compress)]),
            ("no return path", !self.return_path, &[("switchover-ack", self.switchover_ack)]),
            ("postcopy-ram", self.postcopy_advise, &[("x-ignore-shared", self.x_ignore_shared)]),
            // The section names the capability: nobody could know that there are addresses.
            (
                "a machine type up to 2.3",
                !self.form.configuration,
                &[("x-ignore-shared", self.x_ignore_shared)],
            ),
            (
                "background-snapshot",
                snapshot,
                &[
                    ("multifd", multifd),
                    ("return-path", self.return_path),
                    ("more rounds than one", self.rounds > 1),
                    ("postcopy-ram", self.postcopy_advise),
                    ("dirty-bitmaps", self.dirty_bitmaps),
                    ("block", self.disk),
                    ("xbzrle", self.xbzrle),
                    ("compress", self.compress),
                ],
            ),
        ] {
            let found = excluded.iter().find(|(_, also)| is_on && *also);
            if let Some(&(with, _)) = found {
                return Err(ConfigError::Together { what, with });
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

pub(super) const NAME_BYTES_MAX: usize = 255; // one length byte
pub(super) const BLOCKS_MAX: usize = 4096;
/// The longest run that XBZRLE can name has 16383 bytes: half of a larger page may be one.
const XBZRLE_PAGE_BYTES_MAX: u32 = 16384;

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
        assert!(refused(|c| c.patched_share = 1.5).contains("patched share is 1.5"));
        assert_eq!(refused(|c| c.xbzrle = true), "multifd excludes xbzrle");
        assert_eq!(refused(|c| c.compress = true), "multifd excludes compress");
        let large = |c: &mut SourceConfig| {
            (c.channels, c.xbzrle, c.page_bytes) = (0, true, 32768);
        };
        assert!(refused(large).contains("32768"));
        let ignored = |c: &mut SourceConfig| (c.x_ignore_shared, c.postcopy_advise) = (true, true);
        assert_eq!(refused(ignored), "postcopy-ram excludes x-ignore-shared");
    }
}
