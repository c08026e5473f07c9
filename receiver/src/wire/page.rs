//! The target's page size, and what follows from it.

use super::{WireError, WireFault};

/// Size of a target page: a power of two from 4 KiB to 64 KiB.
///
/// x86 has 4 KiB always; targets whose page may vary say theirs in the configuration
/// section (`configuration/target-page-bits`), of others it goes by the machine. The flags of a RAM item use the
/// bits below the page size, so smaller pages than 1 KiB could not work at
/// all; targets with 1 KiB or 2 KiB pages do not migrate guests of today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageBytes(u32);

impl PageBytes {
    /// The page of x86, and of everything that says nothing else.
    pub const DEFAULT: Self = Self(4096);
    /// The page of sparc64, alpha and a few more.
    pub(super) const EIGHT_KIB: Self = Self(8192);
    /// The largest page that is accepted, in bytes.
    pub const MAX: u32 = 65536;
    /// The smallest page that is accepted, in bytes.
    pub const MIN: u32 = 4096;

    /// `bytes` if that is a page size we know, else `None`.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::MIN && bytes <= Self::MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// 2 to the power of `bits`, 12 to 16.
    pub(super) fn from_bits(bits: u32, at: usize) -> Result<Self, WireError> {
        let (least, most) = (Self::MIN.trailing_zeros(), Self::MAX.trailing_zeros());
        let found = u64::from(bits);
        let fault = if bits < least {
            WireFault::UnderLimit { found, limit: least.into() }
        } else {
            WireFault::OverLimit { found, limit: most.into() }
        };
        let page = 1u32.checked_shl(bits).and_then(Self::new);
        page.ok_or(WireError { field: "target-page-bits", at, fault })
    }

    /// The size in bytes.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The size in bytes, to count with offsets.
    #[inline]
    pub fn as_u64(self) -> u64 {
        u64::from(self.0)
    }

    /// The size in bytes, to cut slices with.
    #[inline]
    #[allow(clippy::as_conversions, reason = "at most 65536, and usize has 32 bits or more")]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// The bits of an offset below the page, all set.
    #[inline]
    pub fn mask(self) -> u64 {
        self.as_u64().wrapping_sub(1)
    }

    /// True if `offset` is a multiple of the page size.
    #[inline]
    pub fn divides(self, offset: u64) -> bool {
        offset & self.mask() == 0
    }

    /// Pages of a full multifd packet, 8 to 128: `MULTIFD_PACKET_SIZE` in
    /// pages (`migration/multifd.h`).
    #[inline]
    #[allow(clippy::arithmetic_side_effects, reason = "the divisor is at least MIN")]
    pub const fn packet_pages(self) -> u32 {
        PACKET_PAYLOAD_BYTES / self.0
    }

    /// Bytes of a multifd RAM packet's header: the fixed 320 and one offset
    /// for each of [`PageBytes::packet_pages`]. 1344 for 4 KiB pages.
    #[inline]
    #[allow(
        clippy::as_conversions,
        clippy::arithmetic_side_effects,
        reason = "at most 320 + 8 * 128"
    )]
    pub const fn packet_header_bytes(self) -> usize {
        PACKET_FIXED_BYTES + OFFSET_BYTES * self.packet_pages() as usize
    }
}

impl Default for PageBytes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Page bytes in a full packet (`MULTIFD_PACKET_SIZE`), in every version.
pub(super) const PACKET_PAYLOAD_BYTES: u32 = 512 * 1024;

/// A RAM packet's header before its offsets.
pub(super) const PACKET_FIXED_BYTES: usize = 320;

const OFFSET_BYTES: usize = 8;

const _: () = assert!(PageBytes::DEFAULT.packet_header_bytes() == 1344);
const _: () = assert!(PACKET_PAYLOAD_BYTES.is_multiple_of(PageBytes::MAX));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_from_4_to_64_kib_are_pages() {
        for bits in 0..=40 {
            let page = PageBytes::from_bits(bits, 0);
            assert_eq!(page.is_ok(), (12..=16).contains(&bits), "{bits} bits");
        }
        assert_eq!(PageBytes::new(4097), None);
        assert_eq!(PageBytes::new(65536).unwrap().packet_pages(), 8);
        assert_eq!(PageBytes::new(65536).unwrap().packet_header_bytes(), 384);
    }
}
