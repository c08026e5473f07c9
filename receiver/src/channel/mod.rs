//! One multifd channel: what comes next, and what to do with what came.
//!
//! No sockets, rings, clocks or threads: whoever drives a [`Channel`] asks it
//! what it [wants](Channel::want), brings that, and says so. The ring, the
//! simulation and the fuzzer drive the same code.

mod error;
mod packet;
mod payload;
mod terms;

use std::fmt;
use std::sync::Arc;

use landfall_pagepool::RamBlocks;

pub use error::ChannelError;
pub use terms::{RunMethod, Terms};

use crate::codec::Decoder;
use crate::device_packets::ArrivingPacket;
use crate::place::{self, Filled, Places, Run};
use crate::stats::{BlockCounters, ChannelCounters, ChannelPhase};
use crate::wire::{INIT_BYTES, PACKET_START_BYTES, PacketKind, PageBytes};
use error::Fault;

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
        /// Never more than what is left of a RAM packet's header; of a device-state
        /// packet it may take bytes behind the header too.
        missing: usize,
    },
    /// All bytes of [`Channel::runs`] in [`Channel::block`].
    Pages {
        /// Bytes left; the sum of the runs.
        missing: u64,
        /// What follows may be read right behind the pages. Not behind a packet
        /// with SYNC: what follows belongs to the next round.
        then_header: bool,
    },
    /// Bytes of a payload that are not pages yet: compressed pages, or device
    /// state. For staging memory, in pieces of any size.
    Payload {
        /// Bytes left.
        missing: u64,
        /// A header may be read right behind the payload, as behind pages.
        then_header: bool,
    },
    /// Main must pass this sync point (from 1) first.
    SyncPoint(u64),
}

impl Want {
    /// How many bytes must come before the channel can say that it has what it
    /// wants, at least: a source that is alive sends them.
    pub fn surely(self) -> u64 {
        match self {
            Self::Pages { missing, .. } | Self::Payload { missing, .. } => missing,
            Self::Header { .. } | Self::SyncPoint(_) => 0,
        }
    }
}

/// The state of one channel.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    page: PageBytes,
    terms: Arc<Terms>,
    phase: Phase,
    header: Box<[u8; HEADER_BYTES_MAX]>,
    header_have: usize,
    /// Of the packet whose header is coming, once its first bytes have told.
    kind: PacketKind,
    /// Of the packet whose pages are on their way.
    block: usize,
    pages: Vec<u64>,
    runs: Vec<Run>,
    /// How far a decoder has filled the runs.
    filled: Filled,
    missing: u64,
    /// Of the last packet.
    payload_bytes: u64,
    /// From the first compressed packet on.
    decoder: Option<Decoder>,
    /// A device-state packet on its way.
    device_state: Option<ArrivingPacket>,
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
    /// Compressed pages, or device state.
    Payload,
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
    /// A channel whose Init has been taken, of a run under `terms`. All memory it
    /// ever needs is allocated here, but for a decoder at its first compressed
    /// packet, and device state.
    pub fn new(id: ChannelId, page: PageBytes, terms: Arc<Terms>) -> Self {
        let pages = page.packet_pages() as usize;
        Self {
            id,
            page,
            terms,
            phase: Phase::Header,
            header: Box::new([0; HEADER_BYTES_MAX]),
            header_have: 0,
            kind: PacketKind::Ram,
            block: 0,
            pages: Vec::with_capacity(pages),
            runs: Vec::with_capacity(pages),
            filled: Filled::default(),
            missing: 0,
            payload_bytes: 0,
            decoder: None,
            device_state: None,
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
            Phase::Payload => Want::Payload { missing: self.missing, then_header: !self.sync },
            Phase::Held => Want::SyncPoint(self.syncs),
        }
    }

    /// How many bytes the next whole packet probably has, as many as the last: what may be
    /// waited for behind what is wanted. 0 where nobody can tell.
    #[inline]
    pub fn likely_packet(&self) -> u64 {
        let likely = self.packets > 0 && self.header_have == 0 && !self.sync;
        if likely { self.header_bytes() as u64 + self.payload_bytes } else { 0 }
    }

    /// How many bytes to ask for where a header is next, or behind pages and payloads: a
    /// RAM packet's header, so that what follows it gets to its place; or, behind packets
    /// with little or no payload, whatever has come.
    #[inline]
    pub fn headers_at_once(&self) -> usize {
        if self.packets > 0 && self.payload_bytes <= COPIED_BYTES_MAX {
            return usize::MAX;
        }
        self.page.packet_header_bytes() - self.header_have
    }

    /// The length of a whole RAM packet's header.
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
            Phase::Header | Phase::Pages | Phase::Payload => ChannelPhase::Inside,
            Phase::Held => ChannelPhase::Held,
        }
    }

    /// Takes bytes of a header; at most as many as were wanted.
    ///
    /// When the header is whole it is checked, zero pages are made zero, and
    /// the slots of normal pages are lent. A device-state packet's header is
    /// shorter than a RAM packet's: what came behind it is its payload, and may go
    /// on with the next packet.
    #[inline]
    pub fn take_header(
        &mut self,
        bytes: &[u8],
        ram: &RamBlocks,
        tally: Tally<'_>,
    ) -> Result<(), ChannelError> {
        assert!(self.phase == Phase::Header, "a header while in {:?}", self.phase);
        assert!(bytes.len() <= self.header_missing(), "more than the header");
        tally.channel.wire_bytes.add(bytes.len() as u64);
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = match self.phase {
                Phase::Payload => self.missing.min(rest.len() as u64) as usize,
                Phase::Header if self.header_have < PACKET_START_BYTES => {
                    PACKET_START_BYTES - self.header_have
                }
                Phase::Header => self.header_missing(),
                // A RAM packet's header is at least as long as what was wanted: it comes last.
                phase => unreachable!("bytes behind a header, in {phase:?}"),
            };
            let (now, later) = rest.split_at(most.min(rest.len()));
            rest = later;
            match self.phase {
                Phase::Payload => self.take_device_state(now, tally),
                _ => self.take_header_part(now, ram, tally)?,
            }
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
        self.pages_are_whole(ram, tally);
    }

    /// Takes bytes of whatever is wanted, and of what follows it, and copies pages to their
    /// place; `packet` is called where one with a payload ends. Returns how many bytes it
    /// took: all, unless there is a sync point to be passed first.
    ///
    /// # Errors
    /// A header, a payload, or the packet's method is not right.
    pub fn take(
        &mut self,
        bytes: &[u8],
        ram: &RamBlocks,
        tally: Tally<'_>,
        packet: &mut dyn FnMut(),
    ) -> Result<usize, ChannelError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let missing = match self.want() {
                Want::Header { missing } => missing as u64,
                Want::Pages { missing, .. } | Want::Payload { missing, .. } => missing,
                Want::SyncPoint(_) => break,
            };
            let (now, later) = rest.split_at(missing.min(rest.len() as u64) as usize);
            rest = later;
            match self.phase {
                Phase::Header => {
                    self.take_header(now, ram, tally)?;
                    continue;
                }
                Phase::Pages => self.take_page_bytes(now, ram, tally),
                _ if self.terms.keep => self.take_payload(now, ram, tally)?,
                _ => self.drop_payload(now.len() as u64, ram, tally),
            }
            if missing == now.len() as u64 {
                packet();
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Takes bytes of the pages and copies them to their place, for whoever has
    /// them in memory of its own.
    pub fn take_page_bytes(&mut self, bytes: &[u8], ram: &RamBlocks, tally: Tally<'_>) {
        assert!(
            self.phase == Phase::Pages && bytes.len() as u64 <= self.missing,
            "pages that nobody wanted"
        );
        if self.terms.keep {
            let mut filled = Filled::default();
            Places::new(&ram[self.block], &self.runs, &mut filled).put(bytes);
        }
        self.take_pages(bytes.len() as u64, ram, tally);
    }

    /// The normal pages of a packet have got to their place.
    fn pages_are_whole(&mut self, ram: &RamBlocks, tally: Tally<'_>) {
        let block = &ram[self.block];
        let unique = block.mark_received(self.pages.iter().copied());
        let is_zero = |page: &&u64| self.terms.keep && block.is_zero(**page);
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
            Phase::Payload => Err(self.error(Fault::CutPayload { missing: self.missing })),
            Phase::Held => Ok(()),
        }
    }

    fn header_missing(&self) -> usize {
        self.kind.header_bytes(self.page) - self.header_have
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

    fn error(&self, fault: Fault) -> ChannelError {
        ChannelError { id: self.id, packet: self.packets, at: self.at, fault }
    }
}

/// The header of a packet of 4 KiB pages, the longest there is.
pub const HEADER_BYTES_MAX: usize = PageBytes::DEFAULT.packet_header_bytes();

const _: () = assert!(PageBytes::DEFAULT.get() == PageBytes::MIN);

/// So much payload is cheaper copied than received by itself.
const COPIED_BYTES_MAX: u64 = 8 * 1024;
