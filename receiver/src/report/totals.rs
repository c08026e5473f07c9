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
    /// What was found of zeros; `None` where pages are dropped, and nobody looks.
    pub zeros: Option<ZeroTotals>,
}

/// What was found by looking at pages and at memory, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroTotals {
    /// Zero pages for which memory had to be cleared.
    pub written: u64,
    /// Sent with their data although all of it was zero.
    pub sent_full: u64,
}

impl PageTotals {
    /// Nothing has arrived, in a run that keeps its pages, or does not.
    fn nothing(keep: bool) -> Self {
        Self { zeros: keep.then(ZeroTotals::default), ..Self::default() }
    }

    /// All arrivals.
    pub fn arrived(self) -> u64 {
        self.normal + self.zero
    }

    /// Arrivals of pages that had come before.
    pub fn resent(self) -> u64 {
        self.arrived().saturating_sub(self.unique)
    }

    /// Zero pages that were zero already: a bit was set, no memory touched.
    pub fn zero_skipped(self) -> Option<u64> {
        Some(self.zero.saturating_sub(self.zeros?.written))
    }

    /// Adds what one thread put into one block.
    fn add(&mut self, counters: &BlockCounters) {
        // While a run goes on a packet may be in one of these and not yet in
        // another; hence the saturating differences.
        self.normal += counters.normal.get();
        self.zero += counters.zero.get();
        self.unique += counters.unique.get();
        if let Some(zeros) = &mut self.zeros {
            zeros.written += counters.zero_written.get();
            zeros.sent_full += counters.zero_sent_full.get();
        }
    }

    fn plus(mut self, other: Self) -> Self {
        self.normal += other.normal;
        self.zero += other.zero;
        self.unique += other.unique;
        self.zeros = self.zeros.zip(other.zeros).map(|(one, other)| ZeroTotals {
            written: one.written + other.written,
            sent_full: one.sent_full + other.sent_full,
        });
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
    /// Of all RAM blocks.
    pub pages: PageTotals,
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
        let nothing = PageTotals::nothing(run.terms.keep);
        let mut totals = Self {
            ram_bytes: ram.map_or(0, |ram| ram.total_bytes()),
            page_bytes: ram.map_or(0, |ram| ram.page_bytes()),
            blocks: vec![nothing; ram.map_or(0, |ram| ram.len())],
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
        totals.pages = totals.blocks.iter().fold(nothing, |sum, block| sum.plus(*block));
        for channel in run.channels() {
            totals.channel_wire_bytes += channel.counters.wire_bytes.get();
            totals.device_packet_bytes += channel.counters.device_bytes.get();
            totals.packets += channel.counters.packets.get();
            totals.syncs += channel.counters.syncs.get();
        }
        totals
    }

    /// Bytes from all sockets.
    pub fn wire_bytes(&self) -> u64 {
        self.main_wire_bytes + self.channel_wire_bytes
    }
}
