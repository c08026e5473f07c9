//! One step of the source, described rather than encoded: pages are named, not copied.

use crate::{
    encode::{
        Append,
        packet::{DEVICE_STATE_HEADER_BYTES, device_state_header},
        ram::PageItem,
    },
    guest::PageRef,
    hash::Sequence,
};

/// A connection of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// The first connection, which carries everything that is no multifd packet.
    Main,
    /// A multifd channel, by its id.
    Channel(u8),
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Main => f.write_str("main"),
            Self::Channel(id) => write!(f, "channel {id}"),
        }
    }
}

/// What the source does next. The order is the one in which a source issues its steps; the network
/// may deliver steps of different streams in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The channel connects and introduces itself.
    Init {
        /// Its id.
        channel: u8,
    },
    /// Nothing more happens until every channel is connected.
    AwaitChannels,
    /// Bytes on main as they are.
    Main(Vec<u8>),
    /// Page items on main.
    MainPages(MainPages),
    /// A packet on a channel.
    Packet(Packet),
    /// A device's state on a channel.
    DevicePacket(DevicePacket),
    /// Nothing more happens until the destination sent SWITCHOVER_ACK.
    AwaitSwitchoverAck,
    /// The stream is complete; the destination's SHUT decides.
    AwaitShut,
}

/// Consecutive page items on main, all of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MainPages {
    /// The block, as an index into the configuration's blocks.
    pub block: u16,
    /// The item before on main was of the same block, so that no name is needed.
    pub continues: bool,
    /// The items in order.
    pub items: Vec<(PageItem, PageRef)>,
    /// The bytes of those that are encoded, one behind the other.
    pub encoded: Vec<u8>,
}

/// A multifd packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The channel it travels on.
    pub channel: u8,
    /// Its number over all channels.
    pub num: u64,
    /// It ends the channel's part of a round.
    pub sync: bool,
    /// The block of its pages, as an index into the configuration's blocks.
    pub block: u16,
    /// Its pages: first those that come with bytes, then those announced as zero.
    pub pages: Vec<PageRef>,
    /// How many pages come with bytes.
    pub normal: usize,
    /// What an old source left in the header from the channel's packet before.
    pub stale: Option<Box<Stale>>,
}

/// A multifd packet with a part of a VFIO device's state (10.0 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePacket {
    /// The channel it travels on.
    pub channel: u8,
    /// Which of the device's packets, from 0.
    pub index: u32,
    /// It is the device's last one.
    pub last: bool,
    /// How many bytes follow the header, at least 12.
    pub bytes: u32,
    /// What its content is made from.
    pub seed: u64,
}

impl DevicePacket {
    /// Appends header and payload: version 0, index, flags (1: configuration, the last), data.
    /// (QEMU: hw/vfio/migration-multifd.c, `VFIODeviceStatePacket`.)
    pub fn encode(&self, out: &mut Vec<u8>) {
        device_state_header(out, DEVICE, 0, self.bytes);
        let end = out.len() + self.bytes as usize;
        out.be32(0);
        out.be32(self.index);
        out.be32(u32::from(self.last));
        let mut words = Sequence::new(&[self.seed, u64::from(self.index)]);
        while out.len() < end {
            out.be64(words.word());
        }
        out.truncate(end);
    }

    /// How many bytes [`DevicePacket::encode`] appends.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        (DEVICE_STATE_HEADER_BYTES as u64) + u64::from(self.bytes)
    }
}

impl Packet {
    /// The pages that come with bytes.
    #[must_use]
    pub fn normal_pages(&self) -> &[PageRef] {
        &self.pages[..self.normal]
    }

    /// The pages announced as zero.
    #[must_use]
    pub fn zero_pages(&self) -> &[PageRef] {
        &self.pages[self.normal..]
    }
}

/// Header fields left over from an earlier packet of the channel. Where the new packet has pages,
/// only the offsets behind its own show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The block.
    pub block: u16,
    /// The payload's size in bytes.
    pub next_packet_size: u32,
    /// The offsets in bytes.
    pub offsets: Vec<u64>,
}

/// The device whose state is sent.
const DEVICE: &str = "0000:00:05.0/vfio";
