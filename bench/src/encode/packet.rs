//! The multifd channel's wire: Init, then packets of a constant-size header and pages.
//! (QEMU: migration/multifd.h, `MultiFDInit_t`, `MultiFDPacket_t`.)

use super::Append;

/// The 64 bytes that open a channel.
#[must_use]
pub fn init(uuid: &[u8; 16], channel: u8) -> [u8; INIT_BYTES] {
    let mut out = [0; INIT_BYTES];
    out[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&VERSION.to_be_bytes());
    out[8..24].copy_from_slice(uuid);
    out[24] = channel;
    out
}

/// The fields of a RAM packet's header as they stand on the wire, right or wrong.
#[derive(Clone, Copy, Debug)]
pub struct HeaderFields<'a> {
    /// [`FLAG_SYNC`] and a compression's bit, or nothing.
    pub flags: u32,
    /// How many pages a packet can have; 0 in a SYNC packet from 9.0 on.
    pub pages_alloc: u32,
    /// How many of `offsets` come with bytes: the first ones.
    pub normal: u32,
    /// The bytes that follow the header.
    pub next_packet_size: u32,
    /// The number of the packet, counted over all channels.
    pub packet_num: u64,
    /// How many of `offsets` are zero pages: those after the normal ones.
    pub zero: u32,
    /// The block's name; empty is all NUL.
    pub block: &'a str,
}

/// Appends a header for target pages of `page_bytes`: its fields, then `offsets`, then zeros up to
/// the constant size of [`header_bytes`].
///
/// # Panics
/// When the block's name or the offsets do not fit.
pub fn header(
    out: &mut Vec<u8>,
    page_bytes: u32,
    fields: HeaderFields<'_>,
    offsets: impl IntoIterator<Item = u64>,
) {
    let start = out.len();
    out.be32(MAGIC);
    out.be32(VERSION);
    out.be32(fields.flags);
    out.be32(fields.pages_alloc);
    out.be32(fields.normal);
    out.be32(fields.next_packet_size);
    out.be64(fields.packet_num);
    out.be32(fields.zero);
    out.resize(start + NAME_AT, 0);
    assert!(fields.block.len() < NAME_BYTES, "a block's name ends in NUL within 256 bytes");
    out.extend_from_slice(fields.block.as_bytes());
    out.resize(start + NAME_AT + NAME_BYTES, 0);
    for offset in offsets {
        out.be64(offset);
    }
    let end = start + header_bytes(page_bytes);
    assert!(out.len() <= end, "a packet has at most {} offsets", packet_pages(page_bytes));
    out.resize(end, 0);
}

/// Appends the header of a device-state packet. (QEMU: `MultiFDPacketDeviceState_t`.)
///
/// # Panics
/// When the name does not fit.
pub fn device_state_header(
    out: &mut Vec<u8>,
    idstr: &str,
    instance_id: u32,
    next_packet_size: u32,
) {
    let start = out.len();
    out.be32(MAGIC);
    out.be32(VERSION);
    out.be32(FLAG_DEVICE_STATE);
    assert!(idstr.len() < NAME_BYTES, "a device's name ends in NUL within 256 bytes");
    out.extend_from_slice(idstr.as_bytes());
    out.resize(start + 12 + NAME_BYTES, 0);
    out.be32(instance_id);
    out.be32(next_packet_size);
}

/// The constant size of a header for target pages of `page_bytes`, in bytes.
#[must_use]
pub const fn header_bytes(page_bytes: u32) -> usize {
    let mut bytes = NAME_AT; // fixed fields and reserved space
    bytes += NAME_BYTES; // the block's name
    bytes += 8 * packet_pages(page_bytes) as usize; // the offsets
    bytes
}

/// How many target pages a packet holds at most.
#[must_use]
pub const fn packet_pages(page_bytes: u32) -> u32 {
    PACKET_BYTES_MAX / page_bytes
}

/// Bytes of an Init.
pub const INIT_BYTES: usize = 64;
/// The most page bytes in one packet (QEMU: `MULTIFD_PACKET_SIZE`).
pub const PACKET_BYTES_MAX: u32 = 512 * 1024;
/// The packet ends the channel's part of a round.
pub const FLAG_SYNC: u32 = 1;
/// The packet carries a device's state.
pub const FLAG_DEVICE_STATE: u32 = 0x40;
/// The constant size of a device-state packet's header, in bytes.
pub const DEVICE_STATE_HEADER_BYTES: usize = 276;

const MAGIC: u32 = 0x1122_3344;
const VERSION: u32 = 1;
const NAME_AT: usize = 64;
const NAME_BYTES: usize = 256;
const _: () = assert!(header_bytes(4096) == 1344);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    const DATA: HeaderFields<'_> = HeaderFields {
        flags: 0,
        pages_alloc: 128,
        normal: 64,
        next_packet_size: 64 * 4096,
        packet_num: 2,
        zero: 64,
        block: "mem",
    };

    #[test]
    fn init_is_the_golden_one() {
        let uuid = hex("12345678 1234 5678 1234 56789abcdef0").try_into().expect("16 bytes");
        let golden = "11223344 00000001 12345678 12345678 12345678 9abcdef0 01 00000000000000";
        assert_eq!(init(&uuid, 1)[..32], hex(golden));
        assert_eq!(init(&uuid, 1)[32..], [0; 32]);
    }

    #[test]
    fn a_data_header_is_the_golden_one_of_10_0() {
        let mut out = Vec::new();
        header(&mut out, 4096, DATA, [0x7f000, 0x7e000]);
        let golden = "11223344 00000001 00000000 00000080 00000040 00040000 0000000000000002
            00000040 00000000 000000000000000000000000000000000000000000000000";
        assert_eq!(out[..64], hex(golden));
        assert_eq!(out[64..68], hex("6d 65 6d 00"));
        assert_eq!(out[320..336], hex("000000000007f000 000000000007e000"));
        assert_eq!(out.len(), 1344);
    }

    #[test]
    fn a_data_header_is_the_golden_one_of_7_2() {
        let mut out = Vec::new();
        let fields = HeaderFields {
            normal: 128,
            next_packet_size: 128 * 4096,
            packet_num: 3,
            zero: 0,
            ..DATA
        };
        header(&mut out, 4096, fields, (0..128).map(|page| page * 4096));
        let golden = "11223344 00000001 00000000 00000080 00000080 00080000 0000000000000003";
        assert_eq!(out[..32], hex(golden));
        assert_eq!(out[32..64], [0; 32]);
    }

    #[test]
    fn a_clean_sync_header_is_zero_but_for_its_flag() {
        let mut out = Vec::new();
        let fields = HeaderFields {
            flags: FLAG_SYNC,
            pages_alloc: 0,
            normal: 0,
            next_packet_size: 0,
            packet_num: 0,
            zero: 0,
            block: "",
        };
        header(&mut out, 4096, fields, []);
        assert_eq!(out[..24], hex("11223344 00000001 00000001 00000000 00000000 00000000"));
        assert!(out[24..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn headers_shrink_with_larger_pages() {
        assert_eq!((header_bytes(4096), packet_pages(4096)), (1344, 128));
        assert_eq!((header_bytes(16384), packet_pages(16384)), (576, 32));
        assert_eq!((header_bytes(65536), packet_pages(65536)), (384, 8));
    }
}
