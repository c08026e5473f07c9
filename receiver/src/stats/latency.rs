//! How long things took: histograms that one thread fills.

use hdrhistogram::Histogram;

/// The latencies of one reader; merged when a run ends.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From a packet's header to its last page, nanoseconds.
    pub packet_ns: Histogram<u64>,
    /// From a packet's end (or the release of a round) to the next header,
    /// nanoseconds: waiting for the source.
    pub header_wait_ns: Histogram<u64>,
    /// From SYNC on a channel to main's passing of the sync point, nanoseconds.
    pub sync_wait_ns: Histogram<u64>,
}

impl Latencies {
    /// Empty histograms that never allocate again.
    pub fn new() -> Self {
        Self { packet_ns: histogram(), header_wait_ns: histogram(), sync_wait_ns: histogram() }
    }

    /// Adds what another reader saw.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.packet_ns, &other.packet_ns),
            (&mut self.header_wait_ns, &other.header_wait_ns),
            (&mut self.sync_wait_ns, &other.sync_wait_ns),
        ] {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("bounds that hdrhistogram takes")
}

/// What lasts longer counts as this long: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;
/// Significant decimal digits; 2 keep a histogram under 70 KiB.
const DIGITS: u8 = 2;
