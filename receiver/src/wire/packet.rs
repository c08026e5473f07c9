//! The header of a multifd RAM packet.

use std::fmt;

use super::page::{PACKET_FIXED_BYTES, PACKET_PAYLOAD_BYTES};
use super::{
    DEVICE_STATE_HEADER_BYTES, MULTIFD_MAGIC, MULTIFD_VERSION, PageBytes, Reader, WireError,
    WireFault,
};

/// The flags of a packet (`migration/multifd.h`, `MULTIFD_FLAG_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PacketFlags(pub u32);

impl PacketFlags {
    /// The end of a round on this channel.
    pub const SYNC: Self = Self(0x01);
    /// The payload is compressed with zlib.
    pub const ZLIB: Self = Self(0x02);
    /// The payload is compressed with zstd.
    pub const ZSTD: Self = Self(0x04);
    /// The payload is compressed by Intel QPL (9.1 and later).
    pub const QPL: Self = Self(0x08);
    /// The payload is compressed by UADK (9.1 and later).
    pub const UADK: Self = Self(0x10);
    /// The payload is compressed by QATzip (9.2 and later).
    pub const QATZIP: Self = Self(0x20);
    /// Not RAM, but a device's state (10.0 and later).
    pub const DEVICE_STATE: Self = Self(0x40);

    /// True if all bits of `other` are set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for PacketFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// How a packet's payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the pages themselves, in the order of their offsets.
    None,
    /// A piece of the channel's one zlib stream.
    Zlib,
    /// A piece of the channel's one zstd frame.
    Zstd,
    /// Deflate units of Intel QPL, one a page.
    Qpl,
    /// zlib streams of UADK, one a page.
    Uadk,
    /// One unit of QATzip.
    Qatzip,
}

impl Compression {
    /// Every method that compresses.
    pub const METHODS: [Self; 5] = [Self::Zlib, Self::Zstd, Self::Qpl, Self::Uadk, Self::Qatzip];

    fn of(flags: PacketFlags) -> Option<Self> {
        match PacketFlags(flags.0 & COMPRESSION_BITS) {
            PacketFlags(0) => Some(Self::None),
            PacketFlags::ZLIB => Some(Self::Zlib),
            PacketFlags::ZSTD => Some(Self::Zstd),
            PacketFlags::QPL => Some(Self::Qpl),
            PacketFlags::UADK => Some(Self::Uadk),
            PacketFlags::QATZIP => Some(Self::Qatzip),
            _ => None,
        }
    }

    /// The value of the `multifd-compression` parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
            Self::Qpl => "qpl",
            Self::Uadk => "uadk",
            Self::Qatzip => "qatzip",
        }
    }
}

/// Which of the two headers a packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// RAM: [`PacketHeader`].
    Ram,
    /// A device's state: [`super::DeviceStateHeader`].
    DeviceState,
}

impl PacketKind {
    /// Bytes of the whole header, the first [`PACKET_START_BYTES`] included.
    pub const fn header_bytes(self, page: PageBytes) -> usize {
        match self {
            Self::Ram => page.packet_header_bytes(),
            Self::DeviceState => DEVICE_STATE_HEADER_BYTES,
        }
    }
}

/// The first 12 bytes, the same in both kinds of packet: enough to know how
/// many more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketStart {
    /// The flags; no unknown bit is set, and at most one compression bit.
    pub flags: PacketFlags,
}

impl PacketStart {
    /// Parses magic, version and flags.
    #[inline]
    pub fn parse(bytes: &[u8; PACKET_START_BYTES]) -> Result<Self, WireError> {
        Self::take(&mut Reader::new(bytes))
    }

    /// Which header follows.
    #[inline]
    pub const fn kind(self) -> PacketKind {
        if self.flags.has(PacketFlags::DEVICE_STATE) {
            PacketKind::DeviceState
        } else {
            PacketKind::Ram
        }
    }

    #[inline]
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        reader.be32_is("magic", MULTIFD_MAGIC)?;
        reader.be32_is("version", MULTIFD_VERSION)?;
        let at = reader.at();
        let flags = PacketFlags(reader.be32("flags")?);
        let known = flags.0 & !KNOWN_BITS == 0 && Compression::of(flags).is_some();
        // A device-state packet carries nothing else (migration/multifd-device-state.c).
        let alone = !flags.has(PacketFlags::DEVICE_STATE) || flags == PacketFlags::DEVICE_STATE;
        if !known || !alone {
            let fault = WireFault::Unknown { found: u64::from(flags.0) };
            return Err(reader.fault_at("flags", at, fault));
        }
        Ok(Self { flags })
    }
}

/// A checked header of a RAM packet (`MultiFDPacket_t`), still over its bytes.
///
/// All versions from 7.2 to 11.1 have the same layout; what older ones leave
/// in fields without meaning is ignored: without normal pages there is no
/// payload, whatever `next_packet_size` says, and offsets after the last zero
/// page are stale.
#[derive(Clone, Copy)]
pub struct PacketHeader<'a> {
    /// The flags, of [`PacketStart`].
    pub flags: PacketFlags,
    /// The source's global packet number; not dense on one channel, for
    /// messages only.
    pub packet_num: u64,
    payload_bytes: u32,
    compression: Compression,
    block: &'a [u8],
    normal: &'a [[u8; 8]],
    zero: &'a [[u8; 8]],
}

impl<'a> PacketHeader<'a> {
    /// Parses and checks a whole header.
    ///
    /// `bytes` must be [`PageBytes::packet_header_bytes`] long. The offsets
    /// are not looked at: [`PacketHeader::check_offsets`] does that, once the
    /// caller knows the block.
    pub fn parse(bytes: &'a [u8], page: PageBytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let flags = PacketStart::take(&mut reader)?.flags;
        if flags.has(PacketFlags::DEVICE_STATE) {
            let fault = WireFault::Unknown { found: u64::from(flags.0) };
            return Err(reader.fault_at("flags", FLAGS_AT, fault));
        }
        let alloc = at_most(&mut reader, "pages_alloc", page.packet_pages())?;
        let normal = at_most(&mut reader, "normal_pages", alloc)?;
        let size_at = reader.at();
        let next_packet_size = reader.be32("next_packet_size")?;
        let packet_num = reader.be64("packet_num")?;
        let zero = at_most(&mut reader, "zero_pages", alloc.saturating_sub(normal))?;
        reader.bytes("reserved", RESERVED_BYTES)?;
        let block = reader.array::<NAME_BYTES>("ramblock")?;
        let (offsets, partial) = reader.rest().as_chunks::<8>();
        let size = |fault| reader.fault_at("next_packet_size", size_at, fault);

        // Total: it is Some for every flags that PacketStart lets through.
        let compression = Compression::of(flags).unwrap_or(Compression::None);
        let payload_bytes = match (normal, compression) {
            (0, _) => 0,
            (_, Compression::None) => {
                let expected = u64::from(normal).saturating_mul(page.as_u64());
                let found = u64::from(next_packet_size);
                if found != expected {
                    return Err(size(WireFault::Mismatch { found, expected }));
                }
                next_packet_size
            }
            (_, _) => match next_packet_size {
                0 => return Err(size(WireFault::UnderLimit { found: 0, limit: 1 })),
                1..=COMPRESSED_BYTES_MAX => next_packet_size,
                _ => {
                    let (found, limit) = (next_packet_size.into(), COMPRESSED_BYTES_MAX.into());
                    return Err(size(WireFault::OverLimit { found, limit }));
                }
            },
        };
        let missing = page.packet_header_bytes().saturating_sub(bytes.len());
        if missing > 0 {
            return Err(reader.fault("offsets", WireFault::Short { missing }));
        }
        let extra = bytes.len().saturating_sub(page.packet_header_bytes());
        if extra > 0 || !partial.is_empty() {
            return Err(reader.fault("offsets", WireFault::Trailing { extra }));
        }
        // Both splits succeed: normal + zero <= alloc <= the offsets there are.
        let (normal, rest) = offsets.split_at_checked(count(normal)).unwrap_or_default();
        let (zero, _stale) = rest.split_at_checked(count(zero)).unwrap_or_default();
        Ok(Self { flags, packet_num, payload_bytes, compression, block: name(block), normal, zero })
    }

    /// True if this packet ends a round on its channel (after its pages, if
    /// it has any).
    #[inline]
    pub const fn is_sync(&self) -> bool {
        self.flags.has(PacketFlags::SYNC)
    }

    /// How the payload is compressed; says nothing without normal pages.
    #[inline]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// Bytes that follow the header: 0 without normal pages; uncompressed,
    /// exactly the normal pages; compressed, 1 byte to 1 MiB.
    #[inline]
    pub const fn payload_bytes(&self) -> u32 {
        self.payload_bytes
    }

    /// The block's name, without the NULs after it; stale, and to be ignored,
    /// in a packet without pages. Any bytes: look it up, do not print it.
    #[inline]
    pub const fn block_name(&self) -> &'a [u8] {
        self.block
    }

    /// How many pages have their data in the payload.
    #[inline]
    pub const fn normal_count(&self) -> usize {
        self.normal.len()
    }

    /// How many pages are only said to be zero.
    #[inline]
    pub const fn zero_count(&self) -> usize {
        self.zero.len()
    }

    /// Offsets in the block, in bytes, of the pages in the payload, in the
    /// payload's order.
    #[inline]
    pub fn normal_offsets(&self) -> impl ExactSizeIterator<Item = u64> + Clone + use<'a> {
        self.normal.iter().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// Offsets in the block, in bytes, of the pages that are zero.
    #[inline]
    pub fn zero_offsets(&self) -> impl ExactSizeIterator<Item = u64> + Clone + use<'a> {
        self.zero.iter().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// Checks that every page of the packet lies in a block of `used_bytes`
    /// and on a page boundary. The same page twice is allowed.
    pub fn check_offsets(&self, used_bytes: u64, page: PageBytes) -> Result<(), WireError> {
        let limit = used_bytes.checked_sub(page.as_u64());
        let fits = |offset: u64| page.divides(offset) && limit.is_some_and(|limit| offset <= limit);
        let mut all = self.normal_offsets().chain(self.zero_offsets());
        // One pass without a branch per page; the second pass finds the culprit.
        if all.clone().fold(true, |fine, offset| fine & fits(offset)) {
            return Ok(());
        }
        match all.position(|offset| !fits(offset)) {
            None => Ok(()),
            Some(index) => {
                let found = self.offset(index);
                let fault = if page.divides(found) {
                    WireFault::OverLimit { found, limit: limit.unwrap_or(0) }
                } else {
                    WireFault::Unaligned { found, unit: page.as_u64() }
                };
                let at = index.saturating_mul(8).saturating_add(PACKET_FIXED_BYTES);
                Err(WireError { field: "offset", at, fault })
            }
        }
    }

    fn offset(&self, index: usize) -> u64 {
        self.normal_offsets().chain(self.zero_offsets()).nth(index).unwrap_or(0)
    }
}

impl fmt::Debug for PacketHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketHeader")
            .field("flags", &self.flags)
            .field("packet_num", &self.packet_num)
            .field("payload_bytes", &self.payload_bytes)
            .field("block", &self.block.escape_ascii().to_string())
            .field("normal", &self.normal.len())
            .field("zero", &self.zero.len())
            .finish()
    }
}

fn at_most(reader: &mut Reader<'_>, field: &'static str, limit: u32) -> Result<u32, WireError> {
    let at = reader.at();
    match reader.be32(field)? {
        found if found <= limit => Ok(found),
        found => {
            let fault = WireFault::OverLimit { found: found.into(), limit: limit.into() };
            Err(reader.fault_at(field, at, fault))
        }
    }
}

/// Cuts a NUL padded name; its last byte counts as NUL whatever it is.
pub(super) fn name(padded: &[u8; NAME_BYTES]) -> &[u8] {
    let (body, _last) = padded.split_at_checked(NAME_BYTES_MAX).unwrap_or_default();
    body.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn count(pages: u32) -> usize {
    usize::try_from(pages).unwrap_or(usize::MAX)
}

/// Bytes that tell which header a packet has.
pub const PACKET_START_BYTES: usize = 12;

/// Space for a name in both headers.
pub(super) const NAME_BYTES: usize = 256;

const NAME_BYTES_MAX: usize = 255;

const FLAGS_AT: usize = 8;

/// Between `zero_pages` and the block's name.
const RESERVED_BYTES: usize = 28;

const COMPRESSION_BITS: u32 = 0x3e;
const KNOWN_BITS: u32 = 0x7f;

/// A packet's compressed payload: twice its pages, as in QEMU's zlib and zstd
/// methods (`migration/multifd-zlib.c`).
pub const COMPRESSED_BYTES_MAX: u32 = 2 * PACKET_PAYLOAD_BYTES;

const _: () = assert!(36 + RESERVED_BYTES + NAME_BYTES == PACKET_FIXED_BYTES);

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
