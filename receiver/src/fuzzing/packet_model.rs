//! A multifd channel as it should be: packets read one after the other, by the
//! table of docs/wire-format.md alone.

use super::memory::{BLOCKS, PAGE};
use super::model::Model;

/// What must come of a channel's bytes, Init not counted.
pub(super) struct Expected {
    pub(super) model: Model,
    pub(super) packets: u64,
    pub(super) syncs: u64,
    pub(super) device_packets: u64,
    pub(super) device_bytes: u64,
    pub(super) end: End,
    /// Where the last packet begins.
    pub(super) last_at: usize,
    staging_left: u64,
}

/// How a channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Between two packets.
    Boundary,
    /// Closed inside a packet, or compressed although that was not agreed.
    Misbehaved,
    Malformed,
    /// No staging memory for device state.
    Environment,
}

impl Expected {
    /// Reads `stream` with that much memory for device state.
    pub(super) fn of(stream: &[u8], staging: u64) -> Self {
        let mut expected = Self {
            model: Model::new(),
            packets: 0,
            syncs: 0,
            device_packets: 0,
            device_bytes: 0,
            end: End::Boundary,
            last_at: 0,
            staging_left: staging,
        };
        let mut at = 0;
        while at < stream.len() {
            expected.last_at = at;
            match expected.packet(&stream[at..]) {
                Ok(bytes) => at += bytes,
                Err(end) => {
                    expected.end = end;
                    break;
                }
            }
        }
        expected
    }

    /// Takes one packet; returns its bytes.
    fn packet(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let start = bytes.get(..12).ok_or(End::Misbehaved)?;
        match start_is_fine(start)? {
            DEVICE_STATE => self.device_state(bytes),
            flags => self.pages(bytes, flags),
        }
    }

    fn device_state(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let header = bytes.get(..DEVICE_HEADER_BYTES).ok_or(End::Misbehaved)?;
        let name = name(&header[12..]);
        let size = be32(header, 272);
        if name.is_empty() || !name.iter().all(|byte| (32..127).contains(byte)) || size == 0 {
            return Err(End::Malformed);
        }
        let whole = DEVICE_HEADER_BYTES as u64 + u64::from(size);
        self.staging_left = self.staging_left.checked_sub(whole).ok_or(End::Environment)?;
        self.packets += 1;
        self.device_packets += 1;
        let there = (bytes.len() - DEVICE_HEADER_BYTES) as u64;
        self.device_bytes += there.min(size.into());
        if there < size.into() { Err(End::Misbehaved) } else { Ok(whole as usize) }
    }

    fn pages(&mut self, bytes: &[u8], flags: u32) -> Result<usize, End> {
        let header = bytes.get(..RAM_HEADER_BYTES).ok_or(End::Misbehaved)?;
        let packet = packet_is_fine(header, flags)?;
        self.packets += 1;
        let block = self.model.block(packet.block);
        let page = |index: usize| be64(header, 320 + 8 * index) as usize / PAGE;
        for index in packet.normal..packet.normal + packet.zero {
            block.make_zero(page(index));
        }
        let whole = RAM_HEADER_BYTES + packet.normal * PAGE;
        let content = &bytes[RAM_HEADER_BYTES..whole.min(bytes.len())];
        for (index, part) in content.chunks(PAGE).enumerate() {
            block.page(page(index))[..part.len()].copy_from_slice(part);
        }
        if bytes.len() < whole {
            return Err(End::Misbehaved);
        }
        for index in 0..packet.normal {
            block.normal(page(index));
        }
        for index in 0..packet.normal {
            block.zero_sent_full += u64::from(block.is_zero(page(index)));
        }
        self.syncs += u64::from(packet.sync);
        Ok(whole)
    }
}

/// A packet of pages that is fine.
struct Packet {
    sync: bool,
    block: usize,
    normal: usize,
    zero: usize,
}

/// The flags, if the first 12 bytes are fine: they are judged by themselves.
fn start_is_fine(start: &[u8]) -> Result<u32, End> {
    let flags = be32(start, 8);
    let known = match flags {
        DEVICE_STATE => true,
        0..0x40 => (flags >> 1).count_ones() <= 1,
        _ => false,
    };
    let fine = be32(start, 0) == 0x1122_3344 && be32(start, 4) == 1 && known;
    if fine { Ok(flags) } else { Err(End::Malformed) }
}

/// What is to be said of a whole header, in the order of the table.
fn packet_is_fine(header: &[u8], flags: u32) -> Result<Packet, End> {
    let [alloc, normal, size, zero] = [12, 16, 20, 32].map(|at| u64::from(be32(header, at)));
    if alloc > 128 || normal > alloc || normal + zero > alloc {
        return Err(End::Malformed);
    }
    let compressed = flags & 0x3e != 0;
    let fine = match (normal, compressed) {
        (0, _) => true,
        (_, false) => size == normal * PAGE as u64,
        (_, true) => (1..=2 * 524_288).contains(&size),
    };
    if !fine {
        return Err(End::Malformed);
    }
    if normal > 0 && compressed {
        return Err(End::Misbehaved);
    }
    let sync = flags & 1 != 0;
    let (normal, zero) = (normal as usize, zero as usize);
    if normal + zero == 0 {
        // Without pages the block and all offsets are stale.
        return Ok(Packet { sync, block: 0, normal, zero });
    }
    let block = Model::find(name(&header[64..])).ok_or(End::Malformed)?;
    let limit = (BLOCKS[block].1 * PAGE) as u64;
    let fits = |index| {
        let offset = be64(header, 320 + 8 * index);
        offset.is_multiple_of(PAGE as u64) && offset < limit
    };
    if !(0..normal + zero).all(fits) {
        return Err(End::Malformed);
    }
    Ok(Packet { sync, block, normal, zero })
}

/// A name in 256 bytes: up to the first NUL, and the last byte is one.
fn name(padded: &[u8]) -> &[u8] {
    padded[..255].split(|&byte| byte == 0).next().unwrap_or_default()
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// The flag of a device-state packet, which stands alone.
pub(super) const DEVICE_STATE: u32 = 0x40;
/// Header of a packet of 4 KiB pages.
pub(super) const RAM_HEADER_BYTES: usize = 1344;
/// Header of a device-state packet.
pub(super) const DEVICE_HEADER_BYTES: usize = 276;
