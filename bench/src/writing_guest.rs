//! A guest that writes to its memory: a boot sector, and what it shall write. For a real QEMU's
//! machine of x86.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the guest writes, for ever. Addresses are bytes, and below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// As fast as it can, it increments a word in every 256 bytes up to `end`: 16 words of a page
    /// differ from one walk to the next.
    Words {
        /// The first byte that it leaves alone.
        end: u32,
    },
    /// 18.2 times a second, a word in every page up to `end`. In pages that [`flips`] names it flips
    /// between 0 and 1: they hold zeros and then data and then zeros again, if they began so.
    Pages {
        /// The first byte that it leaves alone.
        end: u32,
    },
    /// [`BURSTS_PER_SECOND`] times a second, a word in each of some pages drawn at random.
    Random {
        /// How many pages they are drawn from.
        pages: u32,
        /// How many are drawn, at least 1; one may be drawn twice.
        writes: u32,
    },
}

/// Writes the disk that it boots from. It writes from the byte `first` on, which should be above
/// the BIOS's own memory: 2 MiB are.
///
/// # Errors
/// The file cannot be written.
pub fn write_disk(path: &Path, first: u32, writing: Writing) -> io::Result<()> {
    let (way, [end, pages, writes], divisor) = match writing {
        Writing::Words { end } => (0, [end, 0, 0], BIOS_DIVISOR),
        Writing::Pages { end } => (1, [end, 0, 0], BIOS_DIVISOR),
        Writing::Random { pages, writes } => {
            assert!(writes > 0, "it cannot draw no page");
            (2, [0, pages, writes], TIMER_HZ.div_ceil(BURSTS_PER_SECOND))
        }
    };
    let mut parameters = [first, end, pages, writes].map(u32::to_le_bytes).concat();
    let divisor = u16::try_from(divisor).expect("the timer counts so far");
    parameters.extend(divisor.to_le_bytes());
    parameters.push(way);
    let mut sector = *BOOT_SECTOR;
    sector[PARAMETERS_AT..][..parameters.len()].copy_from_slice(&parameters);
    fs::write(path, sector)?;
    // A sector alone is too short for the BIOS to boot from an AHCI disk.
    OpenOptions::new().write(true).open(path)?.set_len(1 << 20)
}

/// How often the guest whose memory file this is has been through what it writes. What was in the
/// file before it booted is no count.
///
/// # Errors
/// The file cannot be read.
pub fn walks(memory: &File) -> io::Result<u32> {
    let mut count = [0; 4];
    memory.read_exact_at(&mut count, WALKS_AT)?;
    Ok(u32::from_le_bytes(count))
}

/// Whether [`Writing::Pages`] turns the page of this number from zero to data and back.
pub const fn flips(page: u64) -> bool {
    page.is_multiple_of(4)
}

/// Where in its memory the guest counts its walks: 32 bits, little endian.
pub const WALKS_AT: u64 = 0x7000;
/// How often [`Writing::Random`] draws.
pub const BURSTS_PER_SECOND: u32 = 100;

/// boot_sector.s, assembled.
const BOOT_SECTOR: &[u8; 512] = include_bytes!("writing_guest/boot_sector.bin");
/// Where in the sector its parameters stand.
const PARAMETERS_AT: usize = 400;
/// What the timer counts in a second (Intel 8254, as PCs have it).
const TIMER_HZ: u32 = 1_193_182;
/// 65536: as the BIOS sets the timer.
const BIOS_DIVISOR: u32 = 0;

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    use std::process::Command;

    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_boot_sector_is_what_the_assembler_makes_of_its_source() {
        let directory = tempfile::tempdir().expect("a directory");
        let [object, binary] = ["sector.o", "sector.bin"].map(|name| directory.path().join(name));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/writing_guest/boot_sector.s");
        let assembled = Command::new("as").args(["--32", source, "-o"]).arg(&object).status();
        assert!(assembled.expect("as (package binutils)").success());
        let link = ["-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-o"];
        let linked = Command::new("ld").args(link).arg(&binary).arg(&object).status();
        assert!(linked.expect("ld comes with as").success());
        assert!(fs::read(&binary).expect("it was linked") == BOOT_SECTOR);
    }

    #[test]
    fn the_disk_tells_the_guest_what_to_write() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk");
        for (writing, told) in [
            (Writing::Words { end: 0x120_0000 }, "00002000 00002001 00000000 00000000 0000 00"),
            (Writing::Pages { end: 0x120_0000 }, "00002000 00002001 00000000 00000000 0000 01"),
            (
                Writing::Random { pages: 0x4000, writes: 640 },
                "00002000 00000000 00400000 80020000 9c2e 02",
            ),
        ] {
            write_disk(&path, 2 << 20, writing).expect("written");
            let disk = fs::read(&path).expect("it is there");
            let parameters = &disk[PARAMETERS_AT..510];
            let hex: String = parameters[..19].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, told.replace(' ', ""), "{writing:?}");
            assert!(parameters[19..].iter().all(|&byte| byte == 0), "{writing:?}");
            assert_eq!((&disk[510..512], disk.len()), (&[0x55, 0xaa][..], 1 << 20));
        }
    }
}
