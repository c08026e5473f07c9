//! Sums over all threads of a run.

use crate::run::Run;
use crate::stats::BlockCounters;

/// What arrived, of one RAM block or of all, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageTotals {
    /// With their data, XBZRLE included; a page sent twice counts twice.
    pub normal: u64,
    /// Announced as zero; a page announced twice counts twice.
    pub zero: u64,
    /// Received for the first time in this run.
    pub unique: u64,
    /// Zero pages for which memory had to be cleared.
    pub zero_written: u64,
    /// Sent with their data although all of it was zero.
    pub zero_sent_full: u64,
}

impl PageTotals {
    /// All arrivals.
    pub fn arrived(self) -> u64 {
        self.normal + self.zero
    }

    /// Arrivals of pages that had come before.
    pub fn resent(self) -> u64 {
        self.arrived().saturating_sub(self.unique)
    }

    /// Zero pages that were zero already: a bit was set, no memory touched.
    pub fn zero_skipped(self) -> u64 {
        self.zero.saturating_sub(self.zero_written)
    }

    /// Adds what one thread put into one block.
    fn add(&mut self, counters: &BlockCounters) {
        // While a run goes on a packet may be in one of these and not yet in
        // another; hence the saturating differences.
        self.normal += counters.normal.get();
        self.zero += counters.zero.get();
        self.unique += counters.unique.get();
        self.zero_written += counters.zero_written.get();
        self.zero_sent_full += counters.zero_sent_full.get();
    }

    fn plus(mut self, other: Self) -> Self {
        self.normal += other.normal;
        self.zero += other.zero;
        self.unique += other.unique;
        self.zero_written += other.zero_written;
        self.zero_sent_full += other.zero_sent_full;
        self
    }
}

/// What arrived in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of all RAM blocks.
    pub ram_bytes: u64,
    /// The target's page size; 0 while no RAM block is known.
    pub page_bytes: u32,
    /// One for each RAM block, in the source's order.
    pub blocks: Vec<PageTotals>,
    /// Pages decoded from XBZRLE, part of `normal`.
    pub xbzrle: u64,
    /// Bytes read from main's socket, device state included.
    pub main_wire_bytes: u64,
    /// Bytes of device state among them.
    pub device_state_bytes: u64,
    /// Bytes read from the channels' sockets.
    pub channel_wire_bytes: u64,
    /// Bytes of device state among them, packet headers not counted.
    pub device_packet_bytes: u64,
    /// Packets taken on all channels, SYNC packets included.
    pub packets: u64,
    /// SYNC packets among them.
    pub syncs: u64,
    /// Sync points passed.
    pub sync_points: u64,
}

impl Totals {
    /// The sums as of now.
    pub fn of(run: &Run) -> Self {
        let ram = run.ram();
        let mut totals = Self {
            ram_bytes: ram.map_or(0, |ram| ram.total_bytes()),
            page_bytes: ram.map_or(0, |ram| ram.page_bytes()),
            blocks: vec![PageTotals::default(); ram.map_or(0, |ram| ram.len())],
            xbzrle: run.main.xbzrle.get(),
            main_wire_bytes: run.main.wire_bytes.get(),
            device_state_bytes: run.main.device_state_bytes.get(),
            sync_points: run.main.sync_points.get(),
            ..Self::default()
        };
        for thread in run.blocks() {
            for (sum, counters) in totals.blocks.iter_mut().zip(thread) {
                sum.add(counters);
            }
        }
        for channel in run.channels() {
            totals.channel_wire_bytes += channel.counters.wire_bytes.get();
            totals.device_packet_bytes += channel.counters.device_bytes.get();
            totals.packets += channel.counters.packets.get();
            totals.syncs += channel.counters.syncs.get();
        }
        totals
    }

    /// Pages of all blocks together.
    pub fn pages(&self) -> PageTotals {
        self.blocks.iter().fold(PageTotals::default(), |sum, block| sum.plus(*block))
    }

    /// Bytes from all sockets.
    pub fn wire_bytes(&self) -> u64 {
        self.main_wire_bytes + self.channel_wire_bytes
    }
}
