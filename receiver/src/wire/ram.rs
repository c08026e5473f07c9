//! Items of a RAM section's payload.

use std::fmt;

use super::{MappedRamHeader, PageBytes, Reader, WireError, WireFault};

/// The flags of a RAM item, the bits of its first number below the page size
/// (`migration/ram.h`, `RAM_SAVE_FLAG_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RamFlags(pub u64);

impl RamFlags {
    /// A page that is zero now.
    pub const ZERO: Self = Self(0x002);
    /// The list of blocks.
    pub const MEM_SIZE: Self = Self(0x004);
    /// A page with its bytes.
    pub const PAGE: Self = Self(0x008);
    /// The end of the payload.
    pub const EOS: Self = Self(0x010);
    /// Modifier: the block is that of the item before.
    pub const CONTINUE: Self = Self(0x020);
    /// A page as the difference to what it was.
    pub const XBZRLE: Self = Self(0x040);
    /// Something of RDMA's.
    pub const HOOK: Self = Self(0x080);
    /// A page, compressed (9.0 and earlier).
    pub const COMPRESS_PAGE: Self = Self(0x100);
    /// A sync point of multifd (machine types 8.1 and later).
    pub const MULTIFD_FLUSH: Self = Self(0x200);

    /// True if all bits of `other` are set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags without the CONTINUE bit.
    #[inline]
    pub const fn without_continue(self) -> Self {
        Self(self.0 & !Self::CONTINUE.0)
    }

    /// True for the four items that carry a page.
    #[inline]
    pub const fn is_page_item(self) -> bool {
        matches!(
            self.without_continue(),
            Self::ZERO | Self::PAGE | Self::XBZRLE | Self::COMPRESS_PAGE
        )
    }
}

impl fmt::Debug for RamFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The number that begins every RAM item, split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamItem {
    /// What the item is.
    pub flags: RamFlags,
    /// The rest: an offset in a block, or the total of MEM_SIZE, in bytes; a
    /// multiple of the page size.
    pub address: u64,
}

impl RamItem {
    /// Splits the number of an item.
    #[inline]
    pub fn split(number: u64, page: PageBytes) -> Self {
        Self { flags: RamFlags(number & page.mask()), address: number & !page.mask() }
    }

    /// Takes the number off `reader`; exactly one flag must be set beside
    /// CONTINUE, CONTINUE only on page items, and EOS and MULTIFD_FLUSH carry
    /// no address.
    pub fn parse(reader: &mut Reader<'_>, page: PageBytes) -> Result<Self, WireError> {
        let at = reader.at();
        let number = reader.be64("ram item")?;
        let item = Self::split(number, page);
        let fine = match item.flags {
            RamFlags::EOS | RamFlags::MULTIFD_FLUSH => item.address == 0,
            RamFlags::MEM_SIZE | RamFlags::HOOK => true,
            flags => flags.is_page_item(),
        };
        if fine {
            Ok(item)
        } else {
            Err(reader.fault_at("ram item", at, WireFault::Unknown { found: number }))
        }
    }
}

/// One block of the MEM_SIZE list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// The block's name (idstr); printable, 1 to 255 bytes, unique.
    pub name: Box<str>,
    /// Its used length in bytes: not zero, a multiple of the page size.
    pub used_bytes: u64,
    /// The size in bytes of the pages that back it on the source, if it said
    /// so: with postcopy-ram on, and only if that is not the usual size.
    pub page_bytes: Option<u64>,
    /// The block's address in the guest, with x-ignore-shared.
    pub guest_phys_addr: Option<u64>,
    /// Where its pages stand in the file, with mapped-ram; a block that
    /// x-ignore-shared leaves out may have no place.
    pub mapped: Option<MappedRamHeader>,
}

impl BlockInfo {
    /// Takes name and used length off `reader`: the part that every entry has.
    pub fn parse(reader: &mut Reader<'_>, page: PageBytes) -> Result<Self, WireError> {
        let name = reader.cstr("block name")?;
        let at = reader.at();
        let used_bytes = reader.be64("used_length")?;
        if used_bytes == 0 {
            let fault = WireFault::UnderLimit { found: 0, limit: page.as_u64() };
            return Err(reader.fault_at("used_length", at, fault));
        }
        if !page.divides(used_bytes) {
            let fault = WireFault::Unaligned { found: used_bytes, unit: page.as_u64() };
            return Err(reader.fault_at("used_length", at, fault));
        }
        Ok(Self {
            name: name.into(),
            used_bytes,
            page_bytes: None,
            guest_phys_addr: None,
            mapped: None,
        })
    }

    /// Takes the optional page size off `reader`, which an entry has only
    /// after POSTCOPY_ADVISE with a `summary` of page sizes, and there not
    /// always.
    ///
    /// A QEMU destination knows its own page sizes and so whether the field is
    /// there; we look at what follows. Between two entries that is either a
    /// name's length byte, never 0, or the field's first byte, always 0. After
    /// the last entry it is either an item, below 0x400, or the field, at
    /// least a page.
    pub fn parse_page_bytes(
        &mut self,
        reader: &mut Reader<'_>,
        page: PageBytes,
        summary: u64,
        is_last: bool,
    ) -> Result<(), WireError> {
        if summary == page.as_u64() {
            return Ok(());
        }
        let absent = if is_last {
            reader.clone().be64("ram item")? < ITEM_LIMIT
        } else {
            reader.peek_byte("block name")? != 0
        };
        if absent {
            return Ok(());
        }
        let at = reader.at();
        let found = reader.be64("page_size")?;
        let fault = if !found.is_power_of_two() {
            WireFault::NotPowerOfTwo { found }
        } else if found < page.as_u64() {
            WireFault::UnderLimit { found, limit: page.as_u64() }
        } else if found & summary == 0 {
            WireFault::Unknown { found }
        } else {
            self.page_bytes = Some(found);
            return Ok(());
        };
        Err(reader.fault_at("page_size", at, fault))
    }

    /// Takes the guest address off `reader`, which every entry has with
    /// x-ignore-shared.
    pub fn parse_guest_phys_addr(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        self.guest_phys_addr = Some(reader.be64("guest_phys_addr")?);
        Ok(())
    }
}

/// All item flags are below this, and every page size is above.
const ITEM_LIMIT: u64 = 0x400;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageBytes = PageBytes::DEFAULT;

    fn item(number: u64) -> Result<RamItem, WireError> {
        RamItem::parse(&mut Reader::new(&number.to_be_bytes()), PAGE)
    }

    #[test]
    fn the_observed_items_split_into_flags_and_address() {
        let cases = [
            (0x0309_2004, RamFlags::MEM_SIZE, 0x0309_2000),
            (0x0000_1022, RamFlags(0x22), 0x1000),
            (0x0040_0060, RamFlags(0x60), 0x40_0000),
            (0x0000_0200, RamFlags::MULTIFD_FLUSH, 0),
            (0x0000_0010, RamFlags::EOS, 0),
        ];
        for (number, flags, address) in cases {
            assert_eq!(item(number), Ok(RamItem { flags, address }));
        }
    }

    #[test]
    fn exactly_one_flag_is_allowed_and_continue_only_on_pages() {
        let allowed = [0x02, 0x22, 0x04, 0x08, 0x28, 0x10, 0x40, 0x60, 0x80, 0x100, 0x120, 0x200];
        for flags in 0..0x1000 {
            assert_eq!(item(flags).is_ok(), allowed.contains(&flags), "{flags:#x}");
        }
        assert!(item(0x1010).is_err(), "EOS with an address");
        assert!(item(0x1200).is_err(), "FLUSH with an address");
    }

    #[test]
    fn a_hugetlb_block_has_its_page_size_and_an_ordinary_one_has_not() {
        let entry = b"\x03mem\0\0\0\0\x02\0\0\0\0\0\0\0\0\x20\0\0\x06pc.rom";
        let mut reader = Reader::new(entry);
        let mut block = BlockInfo::parse(&mut reader, PAGE).unwrap();
        block.parse_page_bytes(&mut reader, PAGE, 0x20_1000, false).unwrap();
        assert_eq!((block.used_bytes, block.page_bytes), (0x200_0000, Some(0x20_0000)));
        block.page_bytes = None;
        block.parse_page_bytes(&mut reader, PAGE, 0x20_1000, false).unwrap();
        assert_eq!((block.page_bytes, reader.at()), (None, 20));
    }

    #[test]
    fn after_the_last_block_an_item_is_told_from_a_page_size_by_its_number() {
        for (number, expected) in [(0x10u64, None), (0x200, None), (0x20_0000, Some(0x20_0000))] {
            let bytes = number.to_be_bytes();
            let mut block = BlockInfo {
                name: "mem".into(),
                used_bytes: 4096,
                page_bytes: None,
                guest_phys_addr: None,
                mapped: None,
            };
            let mut reader = Reader::new(&bytes);
            block.parse_page_bytes(&mut reader, PAGE, 0x20_1000, true).unwrap();
            assert_eq!(block.page_bytes, expected);
            assert_eq!(reader.at(), if expected.is_some() { 8 } else { 0 });
        }
    }

    #[test]
    fn page_sizes_outside_the_summary_are_refused() {
        for number in [0x30_0000u64, 0x40_0000, 0x800] {
            let bytes = number.to_be_bytes();
            let mut block = BlockInfo::parse(&mut Reader::new(b"\x01m\0\0\0\0\0\0\x10\0"), PAGE);
            let block = block.as_mut().unwrap();
            let got = block.parse_page_bytes(&mut Reader::new(&bytes), PAGE, 0x20_1000, true);
            assert_eq!(got.unwrap_err().field, "page_size");
        }
    }

    #[test]
    fn lengths_that_are_zero_or_not_whole_pages_are_refused() {
        for used in [0u64, 1, 4095, 4097] {
            let mut bytes = b"\x03mem".to_vec();
            bytes.extend(used.to_be_bytes());
            let error = BlockInfo::parse(&mut Reader::new(&bytes), PAGE).unwrap_err();
            assert_eq!((error.field, error.at), ("used_length", 4));
        }
    }
}
