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
