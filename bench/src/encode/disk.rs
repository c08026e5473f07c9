//! The `block` section: a disk beside ram, from sources up to 9.0 with the capability `block`.
//! (QEMU: migration/block.c.)

use super::Append;

/// A piece of the disk with its bytes; `at` is where it begins, in bytes.
///
/// # Panics
/// When it has not [`PIECE_BYTES`], or begins inside a sector.
pub fn piece(out: &mut Vec<u8>, at: u64, disk: &str, bytes: &[u8]) {
    assert_eq!(bytes.len(), PIECE_BYTES, "pieces are sent whole");
    head(out, at, DEVICE_BLOCK, disk);
    out.extend_from_slice(bytes);
}

/// A piece of zeros (capability `zero-blocks`).
///
/// # Panics
/// When it begins inside a sector.
pub fn zero_piece(out: &mut Vec<u8>, at: u64, disk: &str) {
    head(out, at, DEVICE_BLOCK | ZERO_BLOCK, disk);
}

/// How much of the disks has been sent, in percent.
pub fn progress(out: &mut Vec<u8>, percent: u64) {
    out.be64(percent << SECTOR_BITS | PROGRESS);
}

/// The end of the payload.
pub fn end(out: &mut Vec<u8>) {
    out.be64(EOS);
}

fn head(out: &mut Vec<u8>, at: u64, flags: u64, disk: &str) {
    assert!(at.is_multiple_of(1 << SECTOR_BITS), "pieces begin at sectors");
    out.be64(at | flags);
    out.counted(disk);
}

/// What is sent of a disk at once.
pub const PIECE_BYTES: usize = 1 << 20;
const SECTOR_BITS: u32 = 9;
const DEVICE_BLOCK: u64 = 0x01;
const EOS: u64 = 0x02;
const PROGRESS: u64 = 0x04;
const ZERO_BLOCK: u64 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    /// As QEMU 7.2 sends a disk of 3 MiB.
    #[test]
    fn a_disk_is_sent_as_observed() {
        let mut out = Vec::new();
        piece(&mut out, 0x20_0000, "disk0", &[7; PIECE_BYTES]);
        assert_eq!(out[..14], hex("0000000000200001 05 6469736b30"));
        assert_eq!(out.len(), 14 + PIECE_BYTES);
        out.clear();
        progress(&mut out, 100);
        end(&mut out);
        assert_eq!(out, hex("000000000000c804 0000000000000002"));
        out.clear();
        zero_piece(&mut out, 0, "disk0");
        assert_eq!(out, hex("0000000000000009 05 6469736b30"));
    }
}
