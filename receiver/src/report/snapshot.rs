//! One look at a run: status first, then everything else.

use crate::clock::{NS_PER_MS, now_ns};
use crate::migration::Ended;
use crate::phases::Phases;
use crate::receiver::Migration;
use crate::status::Status;

use super::meter::Rates;
use super::query_migrate::Figures;
use super::totals::Totals;

/// What all members of a report are made from.
pub(super) struct Snapshot<'m> {
    pub(super) migration: &'m Migration,
    pub(super) status: Status,
    pub(super) now_ns: u64,
    pub(super) phases: Phases,
    pub(super) totals: Totals,
}

impl<'m> Snapshot<'m> {
    /// Looks at `migration`. If the status is terminal, all numbers are final:
    /// it is set last, and the lock around it orders what is read here.
    pub(super) fn take(migration: &'m Migration) -> Self {
        let status = *migration.run.status();
        let phases = *migration.run.phases();
        let totals = Totals::of(&migration.run);
        Self { migration, status, now_ns: now_ns(), phases, totals }
    }

    /// What is left of the run, once its end is visible.
    pub(super) fn ended(&self) -> Option<&'m Ended> {
        self.migration.ended().filter(|_| self.status.is_terminal())
    }

    /// When the run ended, or now.
    pub(super) fn end_ns(&self) -> u64 {
        self.phases.completed.unwrap_or(self.now_ns)
    }

    /// From all channels being there until the end or now; `None` before.
    pub(super) fn connected_for_ns(&self) -> Option<u64> {
        Some(self.end_ns().saturating_sub(self.phases.connected?))
    }

    /// How long ago something last came at `at_ns`; `None` if nothing has. In an
    /// ended run: before its end.
    pub(super) fn age_ns(&self, at_ns: u64) -> Option<u64> {
        (at_ns > 0).then(|| self.end_ns().saturating_sub(at_ns))
    }

    /// Rates over the last second; `None` before there are any, and once ended.
    pub(super) fn rates_now(&self) -> Option<Rates> {
        if self.status.is_terminal() {
            return None;
        }
        self.migration.run.meter.rates(&self.totals, self.now_ns)
    }

    /// The figures of `query-migrate`.
    pub(super) fn figures(&self) -> Figures {
        let ms = self.connected_for_ns().unwrap_or(0) / NS_PER_MS;
        let least = u64::from(self.status.is_terminal());
        let pages = self.totals.pages;
        Figures {
            status: self.status,
            total_time_ms: ms.max(least),
            ram_bytes: self.totals.ram_bytes,
            page_bytes: self.totals.page_bytes,
            normal: pages.normal,
            zero: pages.zero,
            unique: pages.unique,
        }
    }
}
