//! The guest that dirties memory, assembled from `guest.s` when a test needs it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::memory_file::PAGE_BYTES;

/// First byte of the range the guest dirties: above the BIOS's own memory.
const FIRST: usize = 2 << 20;
/// First byte after it.
const END: usize = 18 << 20;
/// Where the guest counts its walks (32 bits, little endian).
pub(crate) const WALKS_AT: u64 = 0x7000;
/// A sector alone is too short for the BIOS to boot from an AHCI disk.
const DISK_BYTES: u64 = 1 << 20;

/// Writes a disk image that boots the guest; scratch files go beside it.
pub(crate) fn write_disk(path: &Path) -> Result<(), String> {
    let object = path.with_extension("o");
    let mut assembler = Command::new("as")
        .args(["--32", "--defsym", &format!("FIRST={FIRST}"), "--defsym", &format!("END={END}")])
        .arg("-o")
        .arg(&object)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run as (package binutils): {error}"))?;
    let mut source = assembler.stdin.take().expect("its standard input is piped");
    source.write_all(include_bytes!("guest.s")).map_err(|error| format!("as: {error}"))?;
    drop(source);
    let assembled = assembler.wait().map_err(|error| format!("as: {error}"))?;
    let linked = Command::new("ld")
        .args(["-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-o"])
        .arg(path)
        .arg(&object)
        .status()
        .map_err(|error| format!("cannot run ld (package binutils): {error}"))?;
    if !assembled.success() || !linked.success() {
        return Err("the boot sector could not be assembled".to_owned());
    }
    let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes != 512 {
        return Err(format!("the boot sector is {bytes} bytes, a sector has 512"));
    }
    let disk = OpenOptions::new().write(true).open(path).map_err(|error| error.to_string())?;
    disk.set_len(DISK_BYTES).map_err(|error| error.to_string())
}

/// Pages of the prepared memory that the guest turns from zero to data and back:
/// they must start as zeros.
pub(crate) fn flips(page: usize) -> bool {
    let byte = page * PAGE_BYTES;
    (FIRST..END).contains(&byte) && page.is_multiple_of(4)
}
