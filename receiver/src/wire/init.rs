//! The first 64 bytes of a multifd channel.

use uuid::Uuid;

use super::{MULTIFD_MAGIC, MULTIFD_VERSION, Reader, WireError};

/// How a multifd channel introduces itself (`migration/multifd.c`,
/// `MultiFDInit_t`).
///
/// That the id is below the channel count and unique, and that the UUID is
/// the same on all channels, is for the caller to check: it sees the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// The source VM's UUID; nil if it was started without `-uuid`.
    pub uuid: Uuid,
    /// The channel's id, from 0.
    pub channel_id: u8,
}

impl Init {
    /// Parses the 64 bytes. The reserved ones are not looked at.
    pub fn parse(bytes: &[u8; INIT_BYTES]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        reader.be32_is("magic", MULTIFD_MAGIC)?;
        reader.be32_is("version", MULTIFD_VERSION)?;
        let uuid = Uuid::from_bytes(*reader.array::<16>("uuid")?);
        let channel_id = reader.byte("channel id")?;
        Ok(Self { uuid, channel_id })
    }
}

/// Length of an [`Init`] on the wire.
pub const INIT_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireFault;

    fn golden() -> [u8; INIT_BYTES] {
        let mut bytes = [0; INIT_BYTES];
        bytes[..25].copy_from_slice(&[
            0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78,
            0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1,
        ]);
        bytes
    }

    #[test]
    fn the_observed_init_parses() {
        let init = Init::parse(&golden()).unwrap();
        assert_eq!(init.channel_id, 1);
        assert_eq!(init.uuid.to_string(), "12345678-1234-5678-1234-56789abcdef0");
    }

    #[test]
    fn magic_and_version_must_match() {
        for bit in 0..64 {
            let mut bytes = golden();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            let error = Init::parse(&bytes).unwrap_err();
            assert!(matches!(error.fault, WireFault::Mismatch { .. }), "bit {bit}");
            assert_eq!(error.at, if bit < 32 { 0 } else { 4 });
        }
    }
}
