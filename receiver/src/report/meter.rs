//! What is sampled while a run goes on: rates over the last second, and what
//! the whole process spends.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};

use landfall_pagepool::PageFaults;

use crate::clock::{NS_PER_MS, NS_PER_S};
use crate::reader::process_cpu_use;
use crate::run::{Run, lock};
use crate::stats::CpuUse;

use super::totals::Totals;

/// Belongs to one run, from its listening to its end.
#[derive(Debug)]
pub struct Meter {
    before: ProcessUse,
    spent: OnceLock<ProcessUse>,
    samples: Mutex<VecDeque<Sample>>,
}

/// What the process used, all threads and the kernel on their behalf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUse {
    /// CPU time.
    pub cpu: CpuUse,
    /// Page faults.
    pub faults: PageFaults,
}

/// Rates over a stretch of time that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// How long the stretch was, nanoseconds.
    pub window_ns: u64,
    /// Bytes from all sockets per second.
    pub wire_bytes_per_second: f64,
    /// Arrivals of pages, zero or not, per second.
    pub pages_per_second: f64,
    /// First arrivals of pages per second.
    pub unique_pages_per_second: f64,
}

/// Sums at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at_ns: u64,
    wire_bytes: u64,
    pages: u64,
    unique: u64,
}

impl Meter {
    /// Starts now.
    pub fn new() -> Self {
        Self {
            before: ProcessUse::so_far(),
            spent: OnceLock::new(),
            samples: Mutex::new(VecDeque::with_capacity(SAMPLES_MAX)),
        }
    }

    /// Takes a sample of `run`, unless the last one is younger than a tenth of a
    /// second. To be called a few times a second by the watchdog.
    pub fn look(&self, run: &Run, now_ns: u64) {
        let mut samples = lock(&self.samples);
        let last_ns = samples.back().map_or(0, |last| last.at_ns);
        if now_ns.saturating_sub(last_ns) < PERIOD_NS {
            return;
        }
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample::of(&Totals::of(run), now_ns));
    }

    /// The run ends: what was spent does not change from now on.
    pub fn close(&self) {
        let _ = self.spent.set(ProcessUse::so_far().since(self.before));
    }

    /// What the process has used since the start, until the end or now.
    pub fn spent(&self) -> ProcessUse {
        self.spent.get().copied().unwrap_or_else(|| ProcessUse::so_far().since(self.before))
    }

    /// Rates over the last second, or over what there is of it; `None` where
    /// there is no stretch of time yet.
    pub(super) fn rates(&self, totals: &Totals, now_ns: u64) -> Option<Rates> {
        let before = base(&lock(&self.samples), now_ns)?;
        Sample::of(totals, now_ns).since(before)
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcessUse {
    /// Since the process began.
    pub fn so_far() -> Self {
        Self { cpu: process_cpu_use(), faults: PageFaults::of_process() }
    }

    /// What came on top since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.since(earlier.cpu), faults: self.faults.since(earlier.faults) }
    }
}

impl Sample {
    fn of(totals: &Totals, at_ns: u64) -> Self {
        let pages = totals.pages;
        Self {
            at_ns,
            wire_bytes: totals.wire_bytes(),
            pages: pages.arrived(),
            unique: pages.unique,
        }
    }

    fn since(self, before: Self) -> Option<Rates> {
        let window_ns = self.at_ns.checked_sub(before.at_ns).filter(|&ns| ns > 0)?;
        let per_second = |now: u64, then: u64| {
            now.saturating_sub(then) as f64 * NS_PER_S as f64 / window_ns as f64
        };
        Some(Rates {
            window_ns,
            wire_bytes_per_second: per_second(self.wire_bytes, before.wire_bytes),
            pages_per_second: per_second(self.pages, before.pages),
            unique_pages_per_second: per_second(self.unique, before.unique),
        })
    }
}

/// The youngest sample that is a second old, or else the oldest.
fn base(samples: &VecDeque<Sample>, now_ns: u64) -> Option<Sample> {
    let second_old = |sample: &&Sample| sample.at_ns.saturating_add(NS_PER_S) <= now_ns;
    samples.iter().rev().find(second_old).or(samples.front()).copied()
}

/// A sample each 100 ms.
const PERIOD_NS: u64 = 100 * NS_PER_MS;
/// A second of samples, and one beyond at either end.
const SAMPLES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_second_or_what_there_is_of_it() {
        let samples: VecDeque<_> = (0..20).map(|tick| sample(tick * PERIOD_NS)).collect();
        let now_ns = 1950 * NS_PER_MS;
        let base = base(&samples, now_ns).expect("samples");
        assert_eq!(base.at_ns, 900 * NS_PER_MS, "the youngest that is a second old");
        let rates = sample(now_ns).since(base).expect("a window");
        assert_eq!(rates.window_ns, 1050 * NS_PER_MS);
        assert!((rates.wire_bytes_per_second - BYTES_PER_SECOND).abs() < 1.0, "{rates:?}");
        let early = super::base(&samples, 150 * NS_PER_MS).expect("samples");
        assert_eq!(early.at_ns, 0, "the oldest");
    }

    #[test]
    fn there_is_no_rate_over_an_empty_interval() {
        assert_eq!(base(&VecDeque::new(), 5), None);
        assert_eq!(sample(7).since(sample(7)), None);
        assert_eq!(sample(6).since(sample(7)), None);
    }

    #[test]
    fn what_was_spent_stands_still_once_closed() {
        let meter = Meter::new();
        meter.close();
        let spent = meter.spent();
        let mut memory = vec![0u8; 64 << 20];
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        assert_eq!(meter.spent(), spent);
        assert!(std::hint::black_box(memory)[4096] == 1);
    }

    fn sample(at_ns: u64) -> Sample {
        let wire_bytes = (at_ns as f64 / NS_PER_S as f64 * BYTES_PER_SECOND) as u64;
        Sample { at_ns, wire_bytes, pages: 0, unique: 0 }
    }

    const BYTES_PER_SECOND: f64 = 3e9;
}
