//! One multifd channel: what comes next, and what to do with what came.
//!
//! No sockets, rings, clocks or threads: whoever drives a [`Channel`] asks it
//! what it [wants](Channel::want), brings that, and says so. The ring, the
//! simulation and the fuzzer drive the same code.

use std::fmt;

use landfall_pagepool::{RamBlocks, ZeroOutcome};

use crate::error::{Family, RunError};
use crate::place::{self, Run};
use crate::stats::{BlockCounters, ChannelCounters, ChannelPhase};
use crate::wire::{
    Compression, INIT_BYTES, PACKET_START_BYTES, PacketHeader, PacketKind, PacketStart, PageBytes,
    WireError,
};

/// The id by which a channel introduced itself: 0 to 254.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u8);

impl ChannelId {
    /// The id as an index into lists of channels.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a channel needs before it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// At most `missing` bytes of a header; fewer will do.
    Header {
        /// Never more than what is left of this header.
        missing: usize,
    },
    /// All bytes of [`Channel::runs`] in [`Channel::block`].
    Pages {
        /// Bytes left; the sum of the runs.
        missing: u64,
        /// A header may be read right behind the pages. Not behind a packet
        /// with SYNC: what follows belongs to the next round.
        then_header: bool,
    },
    /// Main must pass this sync point (from 1) first.
    SyncPoint(u64),
}

/// The state of one channel.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    page: PageBytes,
    keep: bool,
    phase: Phase,
    header: Box<[u8; HEADER_BYTES_MAX]>,
    header_have: usize,
    /// Of the packet whose pages are on their way.
    block: usize,
    pages: Vec<u64>,
    runs: Vec<Run>,
    missing: u64,
    sync: bool,
    /// SYNC packets applied.
    syncs: u64,
    packets: u64,
    /// Bytes of the channel that have been taken, Init included.
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Header,
    Pages,
    Held,
}

/// The numbers that driving a channel adds to. One writer each.
#[derive(Clone, Copy, Debug)]
pub struct Tally<'a> {
    /// Of the channel.
    pub channel: &'a ChannelCounters,
    /// Of the driving thread, one for each RAM block.
    pub blocks: &'a [BlockCounters],
}

impl Channel {
    /// A channel whose Init has been taken. All memory it ever needs is
    /// allocated here. Without `keep` its pages are counted but do not get to
    /// guest RAM (`--sink discard`).
    pub fn new(id: ChannelId, page: PageBytes, keep: bool) -> Self {
        let pages = page.packet_pages() as usize;
        Self {
            id,
            page,
            keep,
            phase: Phase::Header,
            header: Box::new([0; HEADER_BYTES_MAX]),
            header_have: 0,
            block: 0,
            pages: Vec::with_capacity(pages),
            runs: Vec::with_capacity(pages),
            missing: 0,
            sync: false,
            syncs: 0,
            packets: 0,
            at: INIT_BYTES as u64,
        }
    }

    /// The channel's id.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// SYNC packets applied so far.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// What comes next.
    #[inline]
    pub fn want(&self) -> Want {
        match self.phase {
            Phase::Header => Want::Header { missing: self.header_missing() },
            Phase::Pages => Want::Pages { missing: self.missing, then_header: !self.sync },
            Phase::Held => Want::SyncPoint(self.syncs),
        }
    }

    /// The length of a whole RAM packet's header: what to ask for behind pages.
    pub fn header_bytes(&self) -> usize {
        self.page.packet_header_bytes()
    }

    /// The block of the pages on their way.
    #[inline]
    pub fn block(&self) -> usize {
        self.block
    }

    /// Where the pages on their way go, in the order of the wire.
    #[inline]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// For the watchdog.
    pub fn phase(&self) -> ChannelPhase {
        match self.phase {
            Phase::Header if self.header_have == 0 => ChannelPhase::Boundary,
            Phase::Header | Phase::Pages => ChannelPhase::Inside,
            Phase::Held => ChannelPhase::Held,
        }
    }

    /// Takes bytes of a header; at most as many as were wanted.
    ///
    /// When the header is whole it is checked, zero pages are made zero, and
    /// the slots of normal pages are lent.
    #[inline]
    pub fn take_header(
        &mut self,
        bytes: &[u8],
        ram: &RamBlocks,
        tally: Tally<'_>,
    ) -> Result<(), ChannelError> {
        assert!(self.phase == Phase::Header, "a header while in {:?}", self.phase);
        assert!(bytes.len() <= self.header_missing(), "more than the header");
        self.header[self.header_have..][..bytes.len()].copy_from_slice(bytes);
        self.header_have += bytes.len();
        tally.channel.wire_bytes.add(bytes.len() as u64);
        if let Some(start) = self.header[..self.header_have].first_chunk::<PACKET_START_BYTES>() {
            // As early as its bytes are there: a wrong one may never be followed
            // by the rest of a header.
            let start = PacketStart::parse(start).map_err(|error| self.malformed(error))?;
            if start.kind() == PacketKind::DeviceState {
                return Err(self.error(Fault::DeviceState));
            }
        }
        if self.header_have == self.header_bytes() {
            self.take_packet(ram, tally)?;
        }
        Ok(())
    }

    /// Takes `bytes` more of the pages, which already are in their place.
    ///
    /// With the last of them the pages count as received.
    #[inline]
    pub fn take_pages(&mut self, bytes: u64, ram: &RamBlocks, tally: Tally<'_>) {
        assert!(self.phase == Phase::Pages && bytes <= self.missing, "pages that nobody wanted");
        self.missing -= bytes;
        self.at += bytes;
        tally.channel.wire_bytes.add(bytes);
        if self.missing > 0 {
            place::advance(&mut self.runs, bytes);
            return;
        }
        let block = &ram[self.block];
        let unique = block.mark_received(self.pages.iter().copied());
        let is_zero = |page: &&u64| self.keep && block.is_zero(**page);
        let zero_sent_full = self.pages.iter().filter(is_zero).count();
        let blocks = &tally.blocks[self.block];
        blocks.unique.add(unique);
        blocks.normal.add(self.pages.len() as u64);
        blocks.zero_sent_full.add(zero_sent_full as u64);
        tally.channel.normal.add(self.pages.len() as u64);
        self.end_packet(tally);
    }

    /// Main has passed `sync_point`; true if that lets this channel go on.
    pub fn release(&mut self, sync_point: u64) -> bool {
        let free = self.phase == Phase::Held && self.syncs <= sync_point;
        if free {
            self.phase = Phase::Header;
        }
        free
    }

    /// The source closed the channel: legal at a packet boundary only.
    pub fn end(&self) -> Result<(), ChannelError> {
        match self.phase {
            Phase::Header if self.header_have == 0 => Ok(()),
            Phase::Header => Err(self.error(Fault::CutHeader { have: self.header_have })),
            Phase::Pages => Err(self.error(Fault::CutPages { missing: self.missing })),
            Phase::Held => Ok(()),
        }
    }

    fn header_missing(&self) -> usize {
        self.header_bytes() - self.header_have
    }

    fn take_packet(&mut self, ram: &RamBlocks, tally: Tally<'_>) -> Result<(), ChannelError> {
        let header = PacketHeader::parse(&self.header[..self.header_have], self.page)
            .map_err(|error| self.malformed(error))?;
        let (normal, zero) = (header.normal_count(), header.zero_count());
        if normal + zero > 0 {
            if normal > 0 && header.compression() != Compression::None {
                return Err(self.error(Fault::Compressed(header.compression())));
            }
            let Some(index) = ram.find(header.block_name()) else {
                return Err(self.error(Fault::UnknownBlock));
            };
            let block = &ram[index];
            header
                .check_offsets(block.bytes(), self.page)
                .map_err(|error| self.malformed(error))?;
            let page_shift = self.page.get().trailing_zeros();
            if zero > 0 {
                let mut written = 0;
                for offset in header.zero_offsets() {
                    let outcome = block.announce_zero(offset >> page_shift);
                    written += u64::from(outcome == ZeroOutcome::Cleared);
                }
                let pages = header.zero_offsets().map(|offset| offset >> page_shift);
                let unique = block.mark_received(pages);
                tally.blocks[index].unique.add(unique);
                tally.blocks[index].zero.add(zero as u64);
                tally.blocks[index].zero_written.add(written);
                tally.channel.zero.add(zero as u64);
            }
            self.pages.clear();
            self.pages.extend(header.normal_offsets().map(|offset| offset >> page_shift));
            place::merge(header.normal_offsets(), self.page.as_u64(), &mut self.runs);
            for run in self.runs.iter().filter(|_| self.keep) {
                block.lend(run.offset >> page_shift..(run.offset + run.bytes) >> page_shift);
            }
            self.block = index;
        }
        self.sync = header.is_sync();
        self.missing = u64::from(header.payload_bytes());
        self.at += self.header_have as u64;
        self.header_have = 0;
        self.packets += 1;
        tally.channel.packets.add(1);
        if self.missing > 0 {
            self.phase = Phase::Pages;
        } else {
            self.end_packet(tally);
        }
        Ok(())
    }

    fn end_packet(&mut self, tally: Tally<'_>) {
        self.phase = Phase::Header;
        if self.sync {
            self.sync = false;
            self.syncs += 1;
            tally.channel.syncs.add(1);
            self.phase = Phase::Held;
        }
    }

    fn malformed(&self, error: WireError) -> ChannelError {
        self.error(Fault::Malformed(error))
    }

    fn error(&self, fault: Fault) -> ChannelError {
        ChannelError { id: self.id, packet: self.packets, at: self.at, fault }
    }
}

/// What a channel did wrong, and where. `Copy`: the text is made at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelError {
    id: ChannelId,
    /// Packets before this one.
    packet: u64,
    /// Byte of the channel where the packet begins.
    at: u64,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Malformed(WireError),
    UnknownBlock,
    Compressed(Compression),
    DeviceState,
    CutHeader { have: usize },
    CutPages { missing: u64 },
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
            Fault::Compressed(method) => (
                Family::Unsupported,
                at + FLAGS_AT,
                format!(
                    "pages are compressed with {0}, only none is supported: set \
                     multifd-compression to none on the source",
                    method.as_str()
                ),
            ),
            Fault::DeviceState => (
                Family::Unsupported,
                at + FLAGS_AT,
                "device state on a multifd channel is not supported: turn \
                 x-migration-multifd-transfer off on the source's VFIO devices"
                    .to_owned(),
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
        };
        RunError::new(family, format!("channel {id}, packet {packet}, byte {at}: {what}"))
    }
}

/// The header of a packet of 4 KiB pages, the longest there is.
pub const HEADER_BYTES_MAX: usize = PageBytes::DEFAULT.packet_header_bytes();

const _: () = assert!(PageBytes::DEFAULT.get() == PageBytes::MIN);

/// Offsets in a packet header, for messages.
const FLAGS_AT: u64 = 8;
const BLOCK_NAME_AT: u64 = 64;
