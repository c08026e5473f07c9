//! The `dirty-bitmap` section: a second iterable beside ram, for a receiver to walk past.
//! (QEMU: migration/block-dirty-bitmap.c.)

use super::Append;

/// The payload of START: one bitmap announced, then the end.
pub fn start(out: &mut Vec<u8>, node: &str, bitmap: &str) {
    out.byte(DEVICE_NAME | BITMAP_NAME | START);
    out.counted(node);
    out.counted(bitmap);
    out.be32(65536); // granularity in bytes
    out.byte(1); // enabled
    out.byte(EOS);
}

/// The payload of a PART: nothing new.
pub fn part(out: &mut Vec<u8>) {
    out.byte(EOS);
}

/// The payload of END: a piece of zeros, a piece of `bits`, the bitmap complete, the end.
pub fn finish(out: &mut Vec<u8>, bits: &[u8]) {
    let sectors = u32::try_from(bits.len()).expect("a small bitmap") * 8 * 128;
    out.byte(BITS | ZEROES);
    out.be64(0); // first sector
    out.be32(sectors);
    out.byte(BITS);
    out.be64(u64::from(sectors));
    out.be32(sectors);
    out.be64(bits.len() as u64);
    out.extend_from_slice(bits);
    out.byte(COMPLETE);
    out.byte(EOS);
}

const EOS: u8 = 0x01;
const ZEROES: u8 = 0x02;
const BITMAP_NAME: u8 = 0x04;
const DEVICE_NAME: u8 = 0x08;
const START: u8 = 0x10;
const COMPLETE: u8 = 0x20;
const BITS: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_those_observed() {
        let mut out = Vec::new();
        start(&mut out, "d0", "b0");
        assert_eq!((out[0], out[out.len() - 1]), (0x1c, 0x01));
        out.clear();
        part(&mut out);
        assert_eq!(out, [0x01]);
        finish(&mut out, &[0xff; 8]);
        assert_eq!(
            (out[1], out[14], out[out.len() - 2..].to_vec()),
            (0x42, 0x40, vec![0x20, 0x01])
        );
    }
}
