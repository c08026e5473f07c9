//! What the parts of one simulated receiver share.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use landfall_pagepool::RamBlocks;
use landfall_receiver::{
    channel::{Tally, Terms},
    error::{Family, RunError},
    migration::Placing,
    staging::STAGING_MAX_DEFAULT,
    stats::{BlockCounters, ChannelCounters, ChannelPhase, MainCounters},
    sync::SyncPoints,
    wire::Reply,
};

use super::{broken::Broken, flow::Flow, scenario::Scenario};

/// One run, as its main thread, readers and door see it.
pub(super) struct Shared<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) flow: &'a Flow,
    pub(super) terms: Arc<Terms>,
    /// Guest RAM, once the source has told its blocks.
    pub(super) ram: OnceCell<RamBlocks>,
    /// Where a receiver with [`Broken::LendForgotten`] keeps its channels' bits.
    pub(super) twin: OnceCell<RamBlocks>,
    pub(super) channels: OnceCell<Channels>,
    pub(super) main: MainCounters,
    /// Sync points that main has passed. [`SyncPoints`] knows it too, but does
    /// not let a broken receiver pass.
    pub(super) passed: Cell<u64>,
    pub(super) replies: RefCell<Vec<Reply>>,
    /// The mistake that is made once has been made.
    pub(super) broke: Cell<bool>,
}

/// What exists once the channels are known.
pub(super) struct Channels {
    pub(super) sync: SyncPoints,
    pub(super) counters: Box<[ChannelCounters]>,
    /// By thread; the last is main's.
    blocks: Box<[Box<[BlockCounters]>]>,
}

/// Why a turn could not be taken.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The receiver has found a fault.
    Error(RunError),
    /// The receiver is wrong.
    Wrong(String),
}

impl<E: Into<RunError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl<'a> Shared<'a> {
    /// A run that waits for its source.
    pub(super) fn new(scenario: &'a Scenario, flow: &'a Flow) -> Self {
        Self {
            scenario,
            flow,
            terms: Arc::new(Terms::new(scenario.keep, STAGING_MAX_DEFAULT)),
            ram: OnceCell::new(),
            twin: OnceCell::new(),
            channels: OnceCell::new(),
            main: MainCounters::default(),
            passed: Cell::new(0),
            replies: RefCell::new(Vec::new()),
            broke: Cell::new(false),
        }
    }

    /// The channels are known, and how many there are.
    pub(super) fn set_channels(&self, count: usize) {
        let threads = 0..=self.scenario.readers;
        let of_thread = || (0..self.ram().len()).map(|_| BlockCounters::default()).collect();
        let channels = Channels {
            sync: SyncPoints::new(count),
            counters: (0..count).map(|_| ChannelCounters::default()).collect(),
            blocks: threads.map(|_| of_thread()).collect(),
        };
        assert!(self.channels.set(channels).is_ok(), "channels come once");
    }

    pub(super) fn ram(&self) -> &RamBlocks {
        self.ram.get().expect("RAM is known before pages")
    }

    pub(super) fn channels(&self) -> &Channels {
        self.channels.get().expect("channels are known")
    }

    /// The barrier, once the channels are known.
    pub(super) fn sync(&self) -> Option<&SyncPoints> {
        self.channels.get().map(|channels| &channels.sync)
    }

    /// What driving channel `id` adds to.
    pub(super) fn tally(&self, id: usize) -> Tally<'_> {
        let Channels { counters, blocks, .. } = self.channels();
        Tally { channel: &counters[id], blocks: &blocks[id % self.scenario.readers] }
    }

    /// Where main's pages go.
    pub(super) fn placing(&self) -> Placing<'_> {
        let blocks = &self.channels().blocks[self.scenario.readers];
        Placing { ram: self.ram(), main: &self.main, blocks }
    }

    /// What all threads have counted in a block of the source. A fault in the
    /// list of blocks can leave the receiver with fewer of them.
    pub(super) fn sum(&self, count: impl Fn(&BlockCounters) -> u64, block: usize) -> u64 {
        let threads = self.channels.get().map_or(&[][..], |all| &all.blocks);
        threads.iter().filter_map(|blocks| blocks.get(block)).map(count).sum()
    }

    /// True if the source has closed the channel between packets.
    pub(super) fn has_ended(&self, channel: usize) -> bool {
        let phase = self.channels().counters[channel].phase.get();
        ChannelPhase::of_number(phase) == ChannelPhase::Ended
    }

    /// Says something on the return path.
    pub(super) fn say(&self, reply: Reply) {
        self.replies.borrow_mut().push(reply);
    }

    /// True once the source has been told that it may switch over.
    pub(super) fn is_acked(&self) -> bool {
        self.replies.borrow().contains(&Reply::SwitchoverAck)
    }

    /// True if the receiver has this mistake.
    pub(super) fn is(&self, broken: Broken) -> bool {
        self.scenario.broken == Some(broken)
    }

    /// True if it has this mistake and is to make it now, the only time.
    pub(super) fn breaks_once(&self, broken: Broken) -> bool {
        self.is(broken) && !self.broke.replace(true)
    }
}

/// The error of a source that does something at a wrong moment.
pub(super) fn misbehaved(text: impl Into<String>) -> RunError {
    RunError::new(Family::Misbehaved, text)
}
