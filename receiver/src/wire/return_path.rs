//! What a destination says to the source, on the main stream's socket.

use super::{Reader, WireError, WireFault};

/// A message on the return path (`migration/migration.h`, `MIG_RP_MSG_*`).
///
/// Nothing may be written before the source's OPEN_RETURN_PATH. The messages
/// of postcopy are not spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The end. 0: the destination keeps what it received and the guest stays
    /// stopped on the source; never to be sent early. Anything else: failed,
    /// and the guest resumes on the source.
    Shut(u32),
    /// The answer to PING, with its value.
    Pong(u32),
    /// The destination is ready for the switchover (8.1 and later, only with
    /// that capability).
    SwitchoverAck,
}

impl Reply {
    /// The message on the wire.
    pub fn encode(self) -> Encoded {
        let (kind, value) = match self {
            Self::Shut(value) => (SHUT, Some(value)),
            Self::Pong(value) => (PONG, Some(value)),
            Self::SwitchoverAck => (SWITCHOVER_ACK, None),
        };
        let [kind_high, kind_low] = kind.to_be_bytes();
        let [a, b, c, d] = value.unwrap_or(0).to_be_bytes();
        let payload_bytes = if value.is_some() { VALUE_BYTES } else { 0 };
        Encoded {
            bytes: [kind_high, kind_low, 0, payload_bytes, a, b, c, d],
            len: if value.is_some() { REPLY_BYTES_MAX } else { EMPTY_BYTES },
        }
    }

    /// Takes one message off `reader`, as a source does.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let at = reader.at();
        let kind = reader.be16("reply type")?;
        let expected = match kind {
            SHUT | PONG => VALUE_BYTES.into(),
            SWITCHOVER_ACK => 0,
            _ => {
                let fault = WireFault::Unknown { found: kind.into() };
                return Err(reader.fault_at("reply type", at, fault));
            }
        };
        let at = reader.at();
        let length = reader.be16("reply length")?;
        if length != expected {
            let fault = WireFault::Mismatch { found: length.into(), expected: expected.into() };
            return Err(reader.fault_at("reply length", at, fault));
        }
        match kind {
            SHUT => reader.be32("shut value").map(Self::Shut),
            PONG => reader.be32("pong value").map(Self::Pong),
            _ => Ok(Self::SwitchoverAck),
        }
    }
}

/// A [`Reply`] as bytes, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; REPLY_BYTES_MAX],
    len: usize,
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The longest [`Reply`] on the wire.
pub const REPLY_BYTES_MAX: usize = 8;

const EMPTY_BYTES: usize = 4;
const VALUE_BYTES: u8 = 4;

const SHUT: u16 = 1;
const PONG: u16 = 2;
const SWITCHOVER_ACK: u16 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: [(Reply, &[u8]); 3] = [
        (Reply::Pong(1), &[0, 2, 0, 4, 0, 0, 0, 1]),
        (Reply::Shut(0), &[0, 1, 0, 4, 0, 0, 0, 0]),
        (Reply::SwitchoverAck, &[0, 7, 0, 0]),
    ];

    #[test]
    fn replies_are_the_observed_bytes_both_ways() {
        for (reply, bytes) in GOLDEN {
            assert_eq!(reply.encode().as_ref(), bytes);
            assert_eq!(Reply::parse(&mut Reader::new(bytes)), Ok(reply));
            for cut in 0..bytes.len() {
                let error = Reply::parse(&mut Reader::new(&bytes[..cut])).unwrap_err();
                assert!(error.is_short(), "{reply:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn unknown_types_and_wrong_lengths_are_refused() {
        for bytes in [[0, 0, 0, 0], [0, 9, 0, 0], [0, 1, 0, 0], [0, 2, 0, 5], [0, 7, 0, 4]] {
            assert!(!Reply::parse(&mut Reader::new(&bytes)).unwrap_err().is_short());
        }
    }
}
