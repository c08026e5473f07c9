//! A synthetic guest and its wire, as chance has them.

use std::path::Path;

use fastrand::Rng;
use landfall_bench::Version;
use landfall_bench::config::{BlockConfig, SourceConfig};
use landfall_bench::encode::compressed::Compression;
use landfall_bench::form::{VmdescForm, ZeroForm};
use uuid::Uuid;

use super::way::Way;
use crate::memory_file;

/// A guest and its wire, as a configuration and as options of `landfall send`.
pub(super) struct Synthetic {
    pub(super) config: SourceConfig,
    pub(super) arguments: Vec<String>,
    pub(super) pace: Option<u64>,
    pub(super) way: Way,
}

impl Synthetic {
    pub(super) fn by_chance(scratch: &Path, random: &mut Rng) -> Result<Self, String> {
        // Without channels there is the most to draw: on main, and to go through.
        let channels = match random.usize(..5) {
            0 | 1 => 0,
            2 => random.choice([1, 2, 4, 8, 16, 32, 64]).unwrap(),
            _ => random.u8(1..=64),
        };
        let way = Way::by_chance(channels, random);
        let mib = if random.u8(..6) == 0 { random.usize(64..=160) } else { random.usize(4..=40) };
        let config = SourceConfig::new(random.u32(..).into(), (mib as u64) << 20, channels);
        let mut source = Self { config, arguments: Vec::new(), pace: None, way };
        source.option("--multifd", &channels);
        let seed = source.config.seed;
        source.option("--seed", &seed);
        let speaks = source.version(random);
        source.guest(mib, scratch, random)?;
        source.wire(random);
        source.encoded(speaks, random);
        source.beside_ram(speaks, random);
        if random.u8(..6) == 0 {
            let pace = random.choice([20_u64, 50, 100]).unwrap() << 20;
            source.option("--pace", &pace);
            source.pace = Some(pace);
        }
        Ok(source)
    }

    /// The QEMU that is imitated, and what its machine says of itself.
    fn version(&mut self, random: &mut Rng) -> Version {
        let (version, machines) = random.choice(VERSIONS).unwrap();
        let family = random.choice(["pc-q35", "pc-i440fx"]).unwrap();
        let machine = format!("{family}-{}", random.choice(machines).unwrap());
        let version = Version::of_machine(version).expect("a version");
        self.config.speak_as(version, &machine).expect("a version");
        self.option("--speak", &version);
        self.option("-M", &machine);
        if self.config.form.configuration && random.u8(..4) == 0 {
            self.config.page_bytes = random.choice([8192, 16384, 32768, 65536]).unwrap();
            self.config.target_page_bits = true;
            let page_bytes = self.config.page_bytes;
            self.option("--page-size", &page_bytes);
        }
        if random.bool() {
            let uuid = Uuid::from_u64_pair(random.u64(..) | 1, random.u64(..));
            self.config.uuid = uuid.into_bytes();
            self.option("--uuid", &uuid);
            self.config.validate_uuid = self.config.form.configuration && random.bool();
            self.flag("--validate-uuid", self.config.validate_uuid);
        }
        version
    }

    fn guest(&mut self, mib: usize, scratch: &Path, random: &mut Rng) -> Result<(), String> {
        let is_image = random.u8(..8) == 0;
        if is_image {
            let image = scratch.join("image");
            let pages = (mib << 20) / memory_file::PAGE_BYTES;
            memory_file::prepare(&image, pages, random.u64(..), |_| false)
                .map_err(|error| format!("{}: {error}", image.display()))?;
            self.config.blocks = vec![BlockConfig::new("pc.ram", (mib as u64) << 20)];
            self.option("--image", &image.display());
            self.config.images = vec![image];
        } else {
            self.option("--ram", &format_args!("{mib}M"));
        }
        let dirty = random.choice([0, 5, 20, 50]).unwrap();
        let zero = random.choice([0, 10, 40, 90]).unwrap();
        self.config.dirty_share = f64::from(dirty) / 100.0;
        self.config.zero_share = f64::from(zero) / 100.0;
        self.option("--dirty", &dirty);
        self.option("--zero", &zero);
        Ok(())
    }

    fn wire(&mut self, random: &mut Rng) {
        let is_snapshot = self.config.channels == 0 && random.u8(..4) == 0;
        self.config.rounds = if is_snapshot { 1 } else { random.u32(1..=6) };
        let rounds = self.config.rounds;
        self.option("--rounds", &rounds);
        self.config.rounds_per_part = random.u32(1..=3);
        let rounds_per_part = self.config.rounds_per_part;
        self.option("--rounds-per-section", &rounds_per_part);
        if random.u8(..3) == 0 {
            let (name, zero) = random
                .choice([
                    ("multifd", ZeroForm::InPackets),
                    ("legacy", ZeroForm::OnMain),
                    ("none", ZeroForm::FullPages),
                ])
                .unwrap();
            self.config.form.zero = zero;
            self.option("--zero-page-detection", &name);
        }
        let early = if random.u8(..4) == 0 { random.u32(1..=3) } else { 0 };
        self.config.early_sections = early;
        self.option("--early-sections", &early);
        let forged = if random.u8(..3) == 0 { random.u32(1..=4) } else { 0 };
        self.config.devices.forged_tails = forged;
        self.option("--forged-tails", &forged);
        if random.u8(..12) == 0 {
            self.config.form.footers = false;
            self.flag("--no-footers", true);
        }
        if random.u8(..12) == 0 {
            self.config.form.vmdesc = VmdescForm::Absent;
            self.flag("--no-vmdesc", true);
        }
        if is_snapshot {
            self.config.background_snapshot = true;
            self.config.return_path = false;
            return self.flag("--background-snapshot", true);
        }
        self.config.postcopy_advise = random.u8(..8) == 0;
        self.flag("--postcopy-ram", self.config.postcopy_advise);
        // Only a source that closes says where a stream without a description ends.
        let is_silent = self.config.form.vmdesc == VmdescForm::Absent
            || !self.way.is_connection()
            || random.u8(..4) == 0;
        self.config.return_path = !is_silent;
        self.flag("--no-return-path", is_silent);
        self.config.switchover_ack = !is_silent && random.u8(..4) == 0;
        self.flag("--switchover-ack", self.config.switchover_ack);
    }

    /// How pages are encoded, and which are left out.
    fn encoded(&mut self, speaks: Version, random: &mut Rng) {
        let is_image = !self.config.images.is_empty();
        if self.config.channels > 0 {
            let (name, method) = random.choice(COMPRESSIONS).unwrap();
            self.config.compression = method;
            self.option("--compression", &name);
        } else if !self.config.background_snapshot {
            self.config.compress = speaks <= LAST_WITH_BLOCK_AND_COMPRESS && random.bool();
            self.flag("--compress", self.config.compress);
            let is_small = self.config.page_bytes <= XBZRLE_PAGE_BYTES_MAX;
            self.config.xbzrle = is_small && !is_image && random.bool();
            self.flag("--xbzrle", self.config.xbzrle);
            self.config.patched_share = if self.config.xbzrle { PATCHED_SHARE } else { 0.0 };
        }
        if self.config.compress || self.config.compression != Compression::None {
            self.config.level = random.u32(1..=3);
            let level = self.config.level;
            self.option("--level", &level);
            let compressible = random.choice([0, 50, 90]).unwrap();
            self.config.compressible_share = f64::from(compressible) / 100.0;
            self.option("--compressible", &compressible);
        }
        let has_addresses = self.config.form.configuration && !self.config.postcopy_advise;
        self.config.x_ignore_shared = has_addresses && !is_image && random.u8(..6) == 0;
        self.config.blocks[0].shared = self.config.x_ignore_shared;
        self.flag("--x-ignore-shared", self.config.x_ignore_shared);
    }

    /// Sections beside ram that are no device's.
    fn beside_ram(&mut self, speaks: Version, random: &mut Rng) {
        if self.config.background_snapshot {
            return;
        }
        self.config.dirty_bitmaps = random.u8(..4) == 0;
        self.flag("--dirty-bitmaps", self.config.dirty_bitmaps);
        self.config.disk = speaks <= LAST_WITH_BLOCK_AND_COMPRESS && random.u8(..4) == 0;
        self.flag("--block", self.config.disk);
    }

    fn option(&mut self, name: &str, value: &dyn std::fmt::Display) {
        self.arguments.extend([name.to_owned(), value.to_string()]);
    }

    fn flag(&mut self, name: &str, is_set: bool) {
        self.arguments.extend(is_set.then(|| name.to_owned()));
    }
}

/// QEMUs, and machine types that each of them has.
const VERSIONS: [(&str, &[&str]); 7] = [
    ("7.2", &["2.2", "2.3", "2.4", "6.2", "7.2"]),
    ("8.0", &["6.2", "7.2", "8.0"]),
    ("8.2", &["8.0", "8.1", "8.2"]),
    ("9.0", &["8.0", "8.2", "9.0"]),
    ("10.0", &["8.0", "8.2", "9.2", "10.0"]),
    ("11.0", &["9.2", "10.0", "11.0"]),
    ("11.1", &["8.0", "9.2", "11.0", "11.1"]),
];
/// Methods of channels; half of the runs have none.
const COMPRESSIONS: [(&str, Compression); 10] = [
    ("none", Compression::None),
    ("none", Compression::None),
    ("none", Compression::None),
    ("none", Compression::None),
    ("none", Compression::None),
    ("zlib", Compression::Zlib),
    ("zstd", Compression::Zstd),
    ("qpl", Compression::Qpl),
    ("uadk", Compression::Uadk),
    ("qatzip", Compression::Qatzip),
];
/// Capabilities that are gone since.
const LAST_WITH_BLOCK_AND_COMPRESS: Version = Version::new(9, 0);
/// What a run of XBZRLE can be of at most is half of such a page.
const XBZRLE_PAGE_BYTES_MAX: u32 = 16384;
/// Of what share of pages `landfall send` changes some places only, with `--xbzrle`.
const PATCHED_SHARE: f64 = 0.75;
