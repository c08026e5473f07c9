//! The payload of a `ram` section: a list of items, each a be64 of address and flags.
//! (QEMU: migration/ram.c, `RAM_SAVE_FLAG_*`.)

use super::Append;

/// One entry of the list in ram's START.
#[derive(Clone, Copy, Debug)]
pub struct BlockEntry<'a> {
    /// The block's idstr.
    pub name: &'a str,
    /// Its used length in bytes.
    pub bytes: u64,
    /// The page size behind it in bytes, where the wire names it: postcopy advised, and not the
    /// target page.
    pub backing_page_bytes: Option<u64>,
    /// Where the block lies in the guest's memory, where the wire names it: with x-ignore-shared.
    pub guest_phys_addr: Option<u64>,
}

/// MEM_SIZE: the sum of all lengths and the list of blocks.
pub fn mem_size(out: &mut Vec<u8>, blocks: &[BlockEntry<'_>]) {
    total(out, blocks.iter().map(|block| block.bytes).sum());
    for block in blocks {
        block_entry(out, block.name, block.bytes);
        for number in [block.backing_page_bytes, block.guest_phys_addr].into_iter().flatten() {
            out.be64(number);
        }
    }
}

/// The item before the list: the sum of all lengths.
pub fn total(out: &mut Vec<u8>, bytes: u64) {
    out.be64(bytes | MEM_SIZE);
}

/// What every entry of the list begins with.
pub fn block_entry(out: &mut Vec<u8>, name: &str, bytes: u64) {
    out.counted(name);
    out.be64(bytes);
}

/// A page item's head: its address and flags, and the block's name unless it is the block of the
/// item before (`None`); of what is encoded also how long that is. A full page's bytes, a zero
/// page's fill byte, or what is encoded follow.
pub fn page_head(out: &mut Vec<u8>, kind: PageItem, offset: u64, block: Option<&str>) {
    let flag = match kind {
        PageItem::Zero => ZERO,
        PageItem::Full => PAGE,
        PageItem::Xbzrle { .. } => XBZRLE,
        PageItem::CompressPage { .. } => COMPRESS_PAGE,
    };
    match block {
        None => out.be64(offset | flag | CONTINUE),
        Some(name) => {
            out.be64(offset | flag);
            out.counted(name);
        }
    }
    match kind {
        PageItem::Zero | PageItem::Full => {}
        PageItem::Xbzrle { bytes } => {
            out.byte(ENCODING_FLAG_XBZRLE);
            out.be16(bytes);
        }
        PageItem::CompressPage { bytes } => out.be32(bytes),
    }
}

/// A whole ZERO item.
pub fn zero(out: &mut Vec<u8>, offset: u64, block: Option<&str>) {
    page_head(out, PageItem::Zero, offset, block);
    out.byte(0);
}

/// EOS: the end of the payload.
pub fn end(out: &mut Vec<u8>) {
    out.be64(EOS);
}

/// MULTIFD_FLUSH: main's side of a sync point from machine type 8.1.
pub fn flush(out: &mut Vec<u8>) {
    out.be64(MULTIFD_FLUSH);
}

/// What a page item carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageItem {
    /// One fill byte, always 0.
    Zero,
    /// The page's bytes.
    Full,
    /// What changed since the page was last sent ([`super::xbzrle`]).
    Xbzrle {
        /// How long that is.
        bytes: u16,
    },
    /// The page as a zlib stream ([`super::compressed_page`]).
    CompressPage {
        /// How long that is.
        bytes: u32,
    },
}

impl PageItem {
    /// How many bytes the item has without its block's name.
    #[must_use]
    pub fn wire_bytes(self, page_bytes: u32) -> u64 {
        match self {
            Self::Zero => 8 + 1,
            Self::Full => 8 + u64::from(page_bytes),
            Self::Xbzrle { bytes } => 8 + 1 + 2 + u64::from(bytes),
            Self::CompressPage { bytes } => 8 + 4 + u64::from(bytes),
        }
    }

    /// How many bytes of its are encoded from the page's.
    #[must_use]
    pub fn encoded_bytes(self) -> usize {
        match self {
            Self::Zero | Self::Full => 0,
            Self::Xbzrle { bytes } => usize::from(bytes),
            Self::CompressPage { bytes } => bytes as usize,
        }
    }
}

const ZERO: u64 = 0x002;
const MEM_SIZE: u64 = 0x004;
const PAGE: u64 = 0x008;
const EOS: u64 = 0x010;
const CONTINUE: u64 = 0x020;
const XBZRLE: u64 = 0x040;
const COMPRESS_PAGE: u64 = 0x100;
const MULTIFD_FLUSH: u64 = 0x200;
/// The only encoding that an XBZRLE item can name.
const ENCODING_FLAG_XBZRLE: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    #[test]
    fn the_block_list_is_the_golden_one() {
        let blocks = [
            ("mem", 0x200_0000),
            ("0000:00:01.0/vga.vram", 0x100_0000),
            ("/rom@etc/acpi/tables", 0x2_0000),
            ("pc.bios", 0x4_0000),
            ("pc.rom", 0x2_0000),
            ("0000:00:01.0/vga.rom", 0x1_0000),
            ("/rom@etc/table-loader", 0x1000),
            ("/rom@etc/acpi/rsdp", 0x1000),
        ];
        let blocks = blocks.map(|(name, bytes)| BlockEntry {
            name,
            bytes,
            backing_page_bytes: None,
            guest_phys_addr: None,
        });
        let mut out = Vec::new();
        mem_size(&mut out, &blocks);
        end(&mut out);
        let golden = "00 00 00 00 03 09 20 04
            03 6d 65 6d 00 00 00 00 02 00 00 00
            15 30 30 30 30 3a 30 30 3a 30 31 2e 30 2f 76 67 61 2e 76 72 61 6d 00 00 00 00 01 00 00 00
            14 2f 72 6f 6d 40 65 74 63 2f 61 63 70 69 2f 74 61 62 6c 65 73 00 00 00 00 00 02 00 00
            07 70 63 2e 62 69 6f 73 00 00 00 00 00 04 00 00   06 70 63 2e 72 6f 6d 00 00 00 00 00 02 00 00
            14 30 30 30 30 3a 30 30 3a 30 31 2e 30 2f 76 67 61 2e 72 6f 6d 00 00 00 00 00 01 00 00
            15 2f 72 6f 6d 40 65 74 63 2f 74 61 62 6c 65 2d 6c 6f 61 64 65 72 00 00 00 00 00 00 10 00
            12 2f 72 6f 6d 40 65 74 63 2f 61 63 70 69 2f 72 73 64 70 00 00 00 00 00 00 10 00
            00 00 00 00 00 00 00 10";
        assert_eq!(out, hex(golden));
    }

    #[test]
    fn page_items_are_golden() {
        let mut out = Vec::new();
        zero(&mut out, 0, Some("mem"));
        zero(&mut out, 0x1000, None);
        page_head(&mut out, PageItem::Full, 0x2000, None);
        assert_eq!(
            out,
            hex("0000000000000002 03 6d656d 00  0000000000001022 00  0000000000002028")
        );
    }

    #[test]
    fn a_huge_block_names_its_page_size() {
        let mut out = Vec::new();
        let block = BlockEntry {
            name: "mem",
            bytes: 0x200_0000,
            backing_page_bytes: Some(0x20_0000),
            guest_phys_addr: None,
        };
        mem_size(&mut out, &[block]);
        assert_eq!(out[8..], hex("03 6d656d 0000000002000000 0000000000200000"));
    }

    #[test]
    fn with_x_ignore_shared_a_block_names_its_address_behind_its_page_size() {
        let mut out = Vec::new();
        let block = BlockEntry {
            name: "mem",
            bytes: 0x4_0000,
            backing_page_bytes: None,
            guest_phys_addr: Some(0xfffc_0000),
        };
        mem_size(&mut out, &[block]);
        assert_eq!(out[8..], hex("03 6d656d 0000000000040000 00000000fffc0000"));
    }

    #[test]
    fn encoded_items_say_their_length() {
        let mut out = Vec::new();
        page_head(&mut out, PageItem::Xbzrle { bytes: 7 }, 0x40_0000, None);
        assert_eq!(out, hex("0000000000400060 01 0007"));
        out.clear();
        page_head(&mut out, PageItem::CompressPage { bytes: 4110 }, 0x1000, Some("mem"));
        assert_eq!(out, hex("0000000000001100 03 6d656d 0000100e"));
        let item = PageItem::CompressPage { bytes: 4110 };
        assert_eq!((item.wire_bytes(4096), item.encoded_bytes()), (8 + 4 + 4110, 4110));
    }
}
