//! What a page, a packet and a pass cost.

/// Costs of one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// CPU of the destination.
    pub receiver: ReceiverCosts,
    /// How fast pages come where nothing else is the limit.
    pub pace: Pace,
    /// The source looks for written pages: seconds for each TiB of its RAM, at every sync.
    pub sync_s_per_tib: f64,
    /// From stopping the guest to the first byte of the last pass, seconds.
    pub stop_s: f64,
    /// From the last page to the end of the device state, seconds.
    pub device_state_s: f64,
    /// From there to the source's learning that all is well, seconds.
    pub answer_s: f64,
    /// Bytes of each channel that are in sockets when the guest stops, where the link is the limit.
    pub in_flight_bytes: f64,
    /// A rest, seconds: under `max-bandwidth` pages come at once, and then none until 100 ms are over.
    /// So much CPU of the destination does each such stretch take beyond its pages, and so much
    /// longer a pause that begins then: everybody is woken, and the caches have forgotten.
    pub rest_s: f64,
    /// CPU seconds to map and touch a GiB of memory.
    pub prefault_s_per_gib: f64,
}

/// CPU of the destination's threads, the kernel's work for them included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReceiverCosts {
    /// Seconds for a GiB of pages with their data.
    pub s_per_gib: f64,
    /// For each packet with pages, ns.
    pub ns_per_packet: f64,
    /// For each run of pages with data that zero pages cut off, ns. A zero page itself costs nothing.
    pub ns_per_run: f64,
    /// For each SYNC packet, and what a sync point takes beside, ns.
    pub ns_per_sync_packet: f64,
    /// More for each page that has come before, ns: such pages lie apart, and come in short rounds.
    pub ns_per_resent_page: f64,
}

/// What comes in a stretch of the migration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// GiB of pages with their data.
    pub normal_gib: f64,
    /// Packets with pages.
    pub packets: f64,
    /// Runs of pages with data that zero pages cut off: each has a zero page before it.
    pub runs: f64,
    /// SYNC packets.
    pub sync_packets: f64,
    /// Pages of both kinds that have come before.
    pub resent_pages: f64,
}

/// Wall time of a page in a migration that neither `max-bandwidth` nor the link holds back: the
/// slowest of the source's threads, both network stacks and the destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// A page with its data, ns.
    pub ns_per_normal_page: f64,
    /// A zero page, ns.
    pub ns_per_zero_page: f64,
}

impl Costs {
    /// The cheap end of what is assumed without a calibration: figures of docs/scaling.md, measured
    /// on loopback, which has no driver, no interrupts and no frames; and a source as fast as its
    /// one thread that looks for pages has been seen to be.
    #[must_use]
    pub fn assumed_low(channels: u8) -> Self {
        Self {
            receiver: ReceiverCosts::LOOPBACK,
            pace: Pace::of_threads(channels, SEND_NS_LOW, FEED_NS_LOW),
            sync_s_per_tib: SYNC_S_LOW,
            stop_s: 0.001,
            device_state_s: 0.001,
            answer_s: 0.0001,
            in_flight_bytes: 0.0,
            rest_s: rest_s(channels),
            prefault_s_per_gib: 0.1,
        }
    }

    /// The dear end: a card with its driver, interrupts and small frames, and a slow source.
    #[must_use]
    pub fn assumed_high(channels: u8) -> Self {
        Self {
            receiver: ReceiverCosts::LOOPBACK.times(NETWORK_FACTOR),
            pace: Pace::of_threads(channels, SEND_NS_HIGH, FEED_NS_HIGH),
            sync_s_per_tib: SYNC_S_HIGH,
            stop_s: 0.01,
            device_state_s: 0.05,
            answer_s: 0.005,
            in_flight_bytes: SEND_BUFFER_BYTES,
            rest_s: rest_s(channels) * NETWORK_FACTOR,
            prefault_s_per_gib: 0.4,
        }
    }
}

impl ReceiverCosts {
    /// As measured on loopback: docs/scaling.md, "What a page costs".
    pub const LOOPBACK: Self = Self {
        s_per_gib: 0.167,
        ns_per_packet: 2650.0,
        ns_per_run: 298.0,
        ns_per_sync_packet: 4600.0,
        ns_per_resent_page: 710.0,
    };

    /// CPU seconds of a stretch of the migration.
    #[must_use]
    pub fn cpu_s(&self, work: &Work) -> f64 {
        let ns = self.ns_per_packet * work.packets
            + self.ns_per_run * work.runs
            + self.ns_per_sync_packet * work.sync_packets
            + self.ns_per_resent_page * work.resent_pages;
        self.s_per_gib * work.normal_gib + ns / 1e9
    }

    /// From seconds, in the order of [`Work::amounts`].
    pub(super) fn of([gib, packet, run, sync_packet, resent_page]: [f64; 5]) -> Self {
        Self {
            s_per_gib: gib,
            ns_per_packet: packet * 1e9,
            ns_per_run: run * 1e9,
            ns_per_sync_packet: sync_packet * 1e9,
            ns_per_resent_page: resent_page * 1e9,
        }
    }

    /// All of them, so many times.
    pub(super) fn times(self, factor: f64) -> Self {
        Self {
            s_per_gib: self.s_per_gib * factor,
            ns_per_packet: self.ns_per_packet * factor,
            ns_per_run: self.ns_per_run * factor,
            ns_per_sync_packet: self.ns_per_sync_packet * factor,
            ns_per_resent_page: self.ns_per_resent_page * factor,
        }
    }
}

impl Work {
    /// Those among `pages` of which `zero_pages` are zero and lie anywhere: so many zero pages have one
    /// with data behind them.
    pub(super) fn runs(pages: f64, zero_pages: f64) -> f64 {
        if pages > 0.0 { zero_pages * (1.0 - zero_pages / pages) } else { 0.0 }
    }

    /// One for each cost.
    pub(super) fn amounts(&self) -> [f64; 5] {
        let Self { normal_gib, packets, runs, sync_packets, resent_pages } = *self;
        [normal_gib, packets, runs, sync_packets, resent_pages]
    }
}

impl Pace {
    /// A source: `channels` threads that look at a page and send it, and one that feeds them.
    fn of_threads(channels: u8, send_ns: f64, feed_ns: f64) -> Self {
        let channels = f64::from(channels);
        Self { ns_per_normal_page: (send_ns / channels).max(feed_ns), ns_per_zero_page: feed_ns }
    }
}

/// A sending thread's time for a page: 1 GiB/s to 6 GiB/s a thread.
const SEND_NS_HIGH: f64 = 4000.0;
const SEND_NS_LOW: f64 = 640.0;
/// The time of the thread that finds pages and hands them to the channels, for one.
const FEED_NS_HIGH: f64 = 600.0;
const FEED_NS_LOW: f64 = 150.0;
/// A sync of the bitmap, for each TiB. Reported for a guest of 256 GiB: 7.5 ms of work on bitmaps
/// alone, 73 ms with many vhost-user devices before their bitmaps were joined
/// (`physical_memory_sync_dirty_bitmap`, qemu-devel, December 2025).
const SYNC_S_LOW: f64 = 0.03;
const SYNC_S_HIGH: f64 = 0.3;
/// docs/scaling.md, "What a rest costs": everybody is woken, and each channel begins anew.
fn rest_s(channels: u8) -> f64 {
    3e-4 + 5.5e-5 * f64::from(channels)
}

/// A network card against loopback.
const NETWORK_FACTOR: f64 = 3.0;
/// Bytes in a full send buffer of a TCP socket. The kernel's default for the largest one
/// (`net.ipv4.tcp_wmem`) is 4 MiB, its own bookkeeping included: of 8 channels over 1 Gbit/s
/// each held 2.9 to 3.1 MB, of 2 channels 3.1 to 3.4, of 8 over 3 Gbit/s 1.7 to 2.4.
pub(super) const SEND_BUFFER_BYTES: f64 = (3_u64 << 20) as f64;
