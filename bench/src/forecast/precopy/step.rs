//! When the source looks at what is left.

use super::Limit;
use crate::forecast::PACKET_PAGES;

/// What is left is looked at between two steps only.
pub(super) struct Step {
    /// How long one is.
    grain_s: f64,
    /// Seconds for a page.
    page_s: f64,
    /// Seconds for a page within a step: under `max-bandwidth` a step's pages go at full speed, and
    /// then nothing until its end.
    burst_page_s: f64,
    /// Steps follow each other from the first on, on the clock.
    is_on_the_clock: bool,
}

impl Step {
    pub(super) fn new(limit: Limit, page_s: f64, burst_page_s: f64) -> Self {
        let is_on_the_clock = limit == Limit::MaxBandwidth;
        let grain_s = if is_on_the_clock {
            RATE_PERIOD_S
        } else {
            // It looks at the clock after every 64 pages, and for those it waits until a channel
            // is ready, as often as not for two packets.
            ITERATION_S + 2.0 * PACKET_PAGES as f64 * page_s
        };
        Self { grain_s, page_s, burst_page_s, is_on_the_clock }
    }

    pub(super) fn grain_s(&self) -> f64 {
        self.grain_s
    }

    /// In what share of it nothing is sent.
    pub(super) fn rest_share(&self) -> f64 {
        if self.is_on_the_clock { 1.0 - self.burst_page_s / self.page_s } else { 0.0 }
    }

    fn pages(&self) -> f64 {
        self.grain_s / self.page_s
    }

    /// Pages that the first pass sends, and how long that takes. Steps that are not on the clock are
    /// many, so where they fall is chance: it is a share `late` of a step late.
    pub(super) fn first(&self, pages: f64, threshold: f64, late: f64) -> (f64, f64) {
        if self.is_on_the_clock {
            return self.later(pages, threshold);
        }
        // The bandwidth, and with it the threshold, is known after a tenth of a second.
        let least = RATE_PERIOD_S / self.page_s;
        let sent = (pages - threshold + self.pages() * late).max(least).min(pages);
        (sent, sent * self.page_s)
    }

    /// As [`Self::first`], of a later pass: whole steps, until what is left is below the threshold.
    /// With its last page a pass is over, whatever is left of the step.
    pub(super) fn later(&self, pages: f64, threshold: f64) -> (f64, f64) {
        let needed = ((pages - threshold) / self.pages()).floor() + 1.0;
        let sent = (needed.max(1.0) * self.pages()).min(pages);
        let steps = (sent / self.pages()).floor();
        let rest = sent - steps * self.pages();
        (sent, steps * self.grain_s + rest * self.burst_page_s)
    }
}

/// The source counts bandwidth, and keeps to `max-bandwidth`, in stretches of 100 ms.
pub(super) const RATE_PERIOD_S: f64 = 0.1;
/// It sends for 50 ms before it looks at what is left.
const ITERATION_S: f64 = 0.05;
