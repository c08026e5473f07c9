//! The header of a multifd device-state packet.

use super::packet::{NAME_BYTES, name};
use super::reader::printable;
use super::{PacketFlags, PacketStart, Reader, WireError, WireFault};

/// Header of a packet with a part of a device's state
/// (`MultiFDPacketDeviceState_t`, 10.0 and later; VFIO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceStateHeader<'a> {
    /// Which device; printable.
    pub idstr: &'a str,
    /// Tells devices of the same idstr apart.
    pub instance_id: u32,
    /// Bytes that follow, at least 1; any number up to 4 GiB, so not to be
    /// allocated at once.
    pub payload_bytes: u32,
}

impl<'a> DeviceStateHeader<'a> {
    /// Parses a whole header.
    pub fn parse(bytes: &'a [u8; DEVICE_STATE_HEADER_BYTES]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let at = 8;
        let flags = PacketStart::take(&mut reader)?.flags;
        if flags != PacketFlags::DEVICE_STATE {
            let (found, expected) = (flags.0.into(), PacketFlags::DEVICE_STATE.0.into());
            return Err(reader.fault_at("flags", at, WireFault::Mismatch { found, expected }));
        }
        let at = reader.at();
        let idstr = name(reader.array::<NAME_BYTES>("idstr")?);
        let idstr = printable(idstr).map_err(|fault| reader.fault_at("idstr", at, fault))?;
        let instance_id = reader.be32("instance_id")?;
        let at = reader.at();
        let payload_bytes = reader.be32("next_packet_size")?;
        if payload_bytes == 0 {
            let fault = WireFault::UnderLimit { found: 0, limit: 1 };
            return Err(reader.fault_at("next_packet_size", at, fault));
        }
        Ok(Self { idstr, instance_id, payload_bytes })
    }
}

/// What a VFIO device's payload begins with (`hw/vfio/migration-multifd.c`,
/// `VFIODeviceStatePacket`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VfioPacket {
    /// The how manieth of its device it is, from 0.
    pub index: u32,
    /// It has the device's configuration: none has a higher index.
    pub is_last: bool,
}

impl VfioPacket {
    /// `None`: another version, or something else altogether.
    #[must_use]
    pub fn parse(bytes: &[u8; VFIO_PACKET_BYTES]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.be32("version").ok()?;
        let index = reader.be32("idx").ok()?;
        let flags = reader.be32("flags").ok()?;
        let is_known = version == 0 && index != u32::MAX && flags & !CONFIG_STATE == 0;
        is_known.then_some(Self { index, is_last: flags == CONFIG_STATE })
    }
}

/// `VFIO_DEVICE_STATE_CONFIG_STATE`
const CONFIG_STATE: u32 = 1;

/// Length of a [`VfioPacket`].
pub const VFIO_PACKET_BYTES: usize = 12;

/// Length of a [`DeviceStateHeader`] on the wire.
pub const DEVICE_STATE_HEADER_BYTES: usize = 276;

const _: () = assert!(12 + NAME_BYTES + 4 + 4 == DEVICE_STATE_HEADER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; DEVICE_STATE_HEADER_BYTES] {
        let mut bytes = [0; DEVICE_STATE_HEADER_BYTES];
        bytes[..12].copy_from_slice(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 0, 0, 0, 0x40]);
        bytes[12..29].copy_from_slice(b"0000:00:05.0/vfio");
        bytes[271] = 7;
        bytes[274] = 2;
        bytes
    }

    #[test]
    fn name_instance_and_length_are_read() {
        let bytes = sample();
        let header = DeviceStateHeader::parse(&bytes).unwrap();
        assert_eq!(header.idstr, "0000:00:05.0/vfio");
        assert_eq!((header.instance_id, header.payload_bytes), (7, 512));
    }

    #[test]
    fn of_a_vfio_payload_the_index_and_whether_it_is_the_last_are_read() {
        let parse = |words: [u32; 3]| {
            let bytes = words.map(u32::to_be_bytes).concat();
            VfioPacket::parse(bytes.first_chunk().unwrap())
        };
        assert_eq!(parse([0, 7, 0]), Some(VfioPacket { index: 7, is_last: false }));
        assert_eq!(parse([0, 8, 1]), Some(VfioPacket { index: 8, is_last: true }));
        for other in [[1, 7, 0], [0, u32::MAX, 0], [0, 7, 2]] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn an_empty_payload_a_missing_name_and_a_sync_flag_are_refused() {
        for (at, value, field) in
            [(274, 0, "next_packet_size"), (12, 0, "idstr"), (11, 0x41, "flags")]
        {
            let mut bytes = sample();
            bytes[at] = value;
            assert_eq!(DeviceStateHeader::parse(&bytes).unwrap_err().field, field);
        }
    }
}
