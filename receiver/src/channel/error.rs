//! What a channel can do wrong.

use super::ChannelId;
use super::terms::WrongMethod;
use crate::codec::CodecError;
use crate::error::{Family, RunError};
use crate::staging::StagingFull;
use crate::wire::{Compression, WireError};

/// What a channel did wrong, and where. `Copy`: the text is made at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelError {
    pub(super) id: ChannelId,
    /// Packets before this one.
    pub(super) packet: u64,
    /// Byte of the channel where the packet, or the piece of its payload, begins.
    pub(super) at: u64,
    pub(super) fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed(WireError),
    UnknownBlock,
    Method(WrongMethod),
    Payload(Compression, CodecError),
    DeviceState(StagingFull),
    CutHeader { have: usize },
    CutPages { missing: u64 },
    CutPayload { missing: u64 },
}

impl From<ChannelError> for RunError {
    fn from(error: ChannelError) -> Self {
        let ChannelError { id, packet, at, fault } = error;
        let (family, at, what) = match fault {
            Fault::Malformed(wire) => (Family::Malformed, at + wire.at as u64, wire.to_string()),
            Fault::UnknownBlock => (
                Family::Malformed,
                at + BLOCK_NAME_AT,
                "ramblock names no RAM block of this migration".to_owned(),
            ),
            Fault::Method(wrong) => (Family::Misbehaved, at + FLAGS_AT, wrong.to_string()),
            Fault::Payload(method, error) => {
                (error.family(), at, format!("{}: {error}", method.as_str()))
            }
            Fault::DeviceState(full) => (
                Family::Environment,
                at,
                format!("device state: {full}, or drop it with --device-packets drop"),
            ),
            Fault::CutHeader { have } => (
                Family::Misbehaved,
                at + have as u64,
                format!("closed by the source after {have} bytes of a packet header"),
            ),
            Fault::CutPages { missing } => (
                Family::Misbehaved,
                at,
                format!("closed by the source inside a packet, {missing} bytes of pages missing"),
            ),
            Fault::CutPayload { missing } => (
                Family::Misbehaved,
                at,
                format!("closed by the source inside a packet, {missing} bytes of payload missing"),
            ),
        };
        RunError::new(family, format!("channel {id}, packet {packet}, byte {at}: {what}"))
    }
}

/// Offsets in a packet header, for messages.
const FLAGS_AT: u64 = 8;
const BLOCK_NAME_AT: u64 = 64;
