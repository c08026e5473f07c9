//! Bodies for fuzzers, and what the in-tree loops need: random numbers, changes to bytes.

use fastrand::Rng;

use super::{
    DEVICE_STATE_HEADER_BYTES, DeviceStateHeader, PACKET_START_BYTES, PacketHeader, PacketKind,
    PacketStart, PageBytes, Reader, Reply,
};

/// Reads `bytes` as a channel does after its Init: packet after packet.
///
/// # Panics
///
/// If a parser panics or lets something through that the checks of docs/wire-format.md
/// forbids.
pub fn packets(bytes: &[u8]) {
    let page = PageBytes::DEFAULT;
    let mut reader = Reader::new(bytes);
    while let Some((first, _)) = reader.rest().split_first_chunk::<PACKET_START_BYTES>() {
        let Ok(start) = PacketStart::parse(first) else { return };
        let whole = reader.clone().bytes("header", start.kind().header_bytes(page));
        let payload_bytes = match start.kind() {
            PacketKind::Ram => {
                let Ok(header) = whole else { return };
                let Ok(packet) = PacketHeader::parse(header, page) else { return };
                check_packet(&packet, header, page);
                packet.payload_bytes()
            }
            PacketKind::DeviceState => {
                let Ok(header) = reader.clone().array::<DEVICE_STATE_HEADER_BYTES>("header") else {
                    return;
                };
                let Ok(packet) = DeviceStateHeader::parse(header) else { return };
                check_device_state(&packet, header);
                packet.payload_bytes
            }
        };
        let taken = start.kind().header_bytes(page);
        if reader.bytes("header", taken).is_err() {
            return;
        }
        let Ok(payload) = usize::try_from(payload_bytes) else { return };
        if reader.bytes("payload", payload).is_err() {
            return;
        }
    }
}

/// Headers to begin from: pages of both kinds and a SYNC, device state.
pub fn packets_seeds() -> Vec<Vec<u8>> {
    let ram = |flags: u8, normal: u8, zero: u8| {
        let mut bytes = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0".to_vec();
        bytes.extend([flags, 0, 0, 0, 128, 0, 0, 0, normal, 0, 0, normal.wrapping_shl(4), 0]);
        bytes.extend(b"\0\0\0\0\0\0\0\x07\0\0\0");
        bytes.push(zero);
        bytes.resize(64, 0);
        bytes.extend(b"mem");
        bytes.resize(320, 0);
        (0..128u64).for_each(|index| bytes.extend(index.wrapping_shl(12).to_be_bytes()));
        bytes.resize(bytes.len().saturating_add(usize::from(normal).wrapping_shl(12)), 0x5a);
        bytes
    };
    let mut device = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0\x40vfio".to_vec();
    device.resize(268, 0);
    device.extend(b"\0\0\0\x01\0\0\0\x02xy");
    vec![[ram(0, 1, 2), ram(1, 0, 0)].concat(), [device, ram(1, 2, 0)].concat(), ram(2, 1, 0)]
}

fn check_device_state(packet: &DeviceStateHeader<'_>, header: &[u8]) {
    assert!(packet.payload_bytes > 0);
    let mut again = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0\x40".to_vec();
    again.extend(packet.idstr.as_bytes());
    assert!(header.starts_with(&again));
    assert!(packet.idstr.len() <= 255 && !packet.idstr.as_bytes().contains(&0));
    let mut end = packet.instance_id.to_be_bytes().to_vec();
    end.extend(packet.payload_bytes.to_be_bytes());
    assert!(header.ends_with(&end));
}

fn check_packet(packet: &PacketHeader<'_>, header: &[u8], page: PageBytes) {
    let pages = packet.normal_count().saturating_add(packet.zero_count());
    assert!(u32::try_from(pages).is_ok_and(|pages| pages <= page.packet_pages()));
    assert!(packet.block_name().len() <= 255 && !packet.block_name().contains(&0));
    assert!(packet.payload_bytes() <= 2 * 512 * 1024);
    assert_eq!(packet.normal_count() == 0, packet.payload_bytes() == 0);
    assert_eq!(header.get(8..12), Some(&packet.flags.0.to_be_bytes()[..]));
    assert_eq!(header.get(24..32), Some(&packet.packet_num.to_be_bytes()[..]));
    let name = header.get(64..319).unwrap_or_default();
    assert!(name.starts_with(packet.block_name()));
    assert!(name.get(packet.block_name().len()).is_none_or(|&after| after == 0));
    // The offsets are those on the wire, one after the other.
    let wire = header.get(320..).unwrap_or_default().as_chunks::<8>().0;
    let wire = wire.iter().map(|bytes| u64::from_be_bytes(*bytes)).take(pages);
    assert!(packet.normal_offsets().chain(packet.zero_offsets()).eq(wire));
    // What check_offsets lets through lies inside, and nothing else does.
    let used_bytes = 0x10_0000;
    let inside = |offset: u64| offset & page.mask() == 0 && offset < used_bytes;
    let expected = packet.normal_offsets().chain(packet.zero_offsets()).all(inside);
    assert_eq!(packet.check_offsets(used_bytes, page).is_ok(), expected);
}

/// A reply of each kind.
pub fn return_path_seeds() -> Vec<Vec<u8>> {
    let observed = b"\0\x02\0\x04\0\0\0\x01\0\x07\0\0\0\x01\0\x04\0\0\0\0";
    vec![observed.to_vec(), observed.repeat(3)]
}

/// Reads `bytes` as a source reads the return path.
///
/// # Panics
///
/// If a parser panics, or a message does not become the same bytes again.
pub fn return_path(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while !reader.rest().is_empty() {
        let (before, at) = (reader.rest(), reader.at());
        let known = REPLIES.iter().find(|(head, _)| before.starts_with(head));
        let kind = before.get(..2);
        let kind_is_known = REPLIES.iter().any(|(head, _)| head.get(..2) == kind);
        match (Reply::parse(&mut reader), known) {
            (Ok(reply), Some((_, bytes))) => {
                let taken = before.get(..reader.at().saturating_sub(at));
                assert_eq!(taken, Some(reply.encode().as_ref()), "{reply:?} is other bytes");
                assert_eq!(taken.map(<[u8]>::len), Some(*bytes));
            }
            (Err(error), known) => {
                let needed = match known {
                    Some((_, bytes)) => *bytes,
                    None if kind_is_known => 4,
                    None => 2,
                };
                assert_eq!(error.is_short(), before.len() < needed, "{error}");
                return;
            }
            (Ok(reply), None) => unreachable!("{reply:?} came of nothing"),
        }
    }
}

/// Random numbers for a body: the same for the same `bytes`.
pub fn random_of(bytes: &[u8]) -> Rng {
    Rng::with_seed(bytes.iter().fold(0, |sum: u64, &byte| {
        sum.wrapping_mul(0x0000_0100_0000_01b3).wrapping_add(u64::from(byte))
    }))
}

/// Changes `bytes` a little: bits, bytes, numbers, lengths, order.
pub fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=random.usize(..3) {
        let at = place(random, bytes);
        let end = at.saturating_add(random.usize(..16)).min(bytes.len());
        match random.usize(..6) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1u8.wrapping_shl(random.u32(..8));
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = place(random, bytes);
                drop(bytes.splice(to..to, again));
            }
            4 => {
                let special = random.choice(SPECIAL).unwrap_or_default();
                drop(bytes.splice(at..at, special.iter().copied()));
            }
            _ => bytes.truncate(at),
        }
    }
}

/// Of one of the bytes; 0 where there is none.
fn place(random: &mut Rng, bytes: &[u8]) -> usize {
    random.usize(..bytes.len().max(1))
}

/// Type and length of each reply, and how many bytes it has in all.
const REPLIES: [(&[u8], usize); 3] =
    [(b"\0\x01\0\x04", 8), (b"\0\x02\0\x04", 8), (b"\0\x07\0\0", 4)];

/// Bytes with a meaning in some place.
const SPECIAL: [&[u8]; 8] = [
    b"\0\0\0\0\0\0\0\x10",
    b"\0\0\0\0\0\0\0\x28",
    b"\xff\xff\xff\xff",
    b"\x7e\0\0\0\x01",
    b"\0\x06\0\0\0\x20{\"",
    b"\x03\0\0\0\x01",
    b"\x08\0\x02\0\x04\0\0\0\x01",
    b"\x03mem",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_packets_never_panic_a_parser() {
        let mut random = landfall_seed::random();
        for _ in 0..3000 {
            let mut bytes = vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 0, 0, 0, 0];
            bytes.extend([0, 0, 0, 128, 0, 0, 0, 1, 0, 0, 0x10, 0]);
            bytes.resize(1344 + 4096, 0);
            bytes[11] = random.choice([0, 1, 2, 4, 0x40]).unwrap();
            bytes[64..67].copy_from_slice(b"mem");
            let again = bytes.clone();
            bytes.extend(again);
            mutate(&mut random, &mut bytes);
            packets(&bytes);
        }
    }

    #[test]
    fn changed_replies_never_panic_a_parser() {
        let mut random = landfall_seed::random();
        for _ in 0..3000 {
            let mut bytes = b"\0\x02\0\x04\0\0\0\x01\0\x07\0\0\0\x01\0\x04\0\0\0\0".to_vec();
            mutate(&mut random, &mut bytes);
            return_path(&bytes);
        }
    }
}
