//! Sync points on the way along the main stream: waiting for the channels, and the round between
//! two of them.

use super::super::rounds::{Gate, gate};
use super::super::settle;
use super::{ROUNDS_MAX, RoundStart, TICK_MS, Walk};
use crate::clock::{now_ns, seconds};
use crate::error::{Family, RunError};
use crate::hung_up::has_hung_up;
use crate::run::{ChannelStats, lock};
use crate::stats::Round;

impl Walk<'_> {
    /// Waits until every channel has come to this sync point, and lets them go
    /// on.
    pub(super) fn sync_point(&self) -> Result<(), RunError> {
        let sync = self.run.sync().expect("channels are known at a sync point");
        let since_ns = now_ns();
        let mut is_awaited = false;
        let sync_point = loop {
            match gate(sync, |channel| self.run.has_ended(channel))? {
                Gate::Open(sync_point) => break sync_point,
                Gate::Closed(sync_point) => {
                    if !is_awaited {
                        // No reader shall wait for more than a SYNC now.
                        is_awaited = true;
                        sync.await_channels(sync_point);
                        self.run.wake_readers();
                    }
                    settle::wait(self.run, TICK_MS)?;
                    self.check_sync_stall(sync_point, since_ns)?;
                    if self.return_path.is_open() && has_hung_up(&self.input.fd()) {
                        let text = format!(
                            "main stream: closed by the source while sync point {sync_point} was \
                             awaited on its channels"
                        );
                        return Err(RunError::new(Family::Misbehaved, text));
                    }
                }
            }
        };
        let now = now_ns();
        let waited_ns = now - since_ns;
        self.run.main.sync_wait_ns.add(waited_ns);
        self.run.main.sync_points.add(1);
        self.note_round(now, waited_ns);
        self.run.phases().first_byte.get_or_insert(now);
        sync.pass(sync_point);
        self.run.wake_readers();
        self.run.main_turned_ns.set(now);
        Ok(())
    }

    fn check_sync_stall(&self, sync_point: u64, since_ns: u64) -> Result<(), RunError> {
        let moved = self.run.channels().iter().map(ChannelStats::active_ns);
        let newest_ns = moved.max().unwrap_or(0).max(since_ns);
        let silent_ns = now_ns().saturating_sub(newest_ns);
        if silent_ns <= self.plan.stall_ns {
            return Ok(());
        }
        let sync = self.run.sync().expect("channels are known at a sync point");
        let missing: Vec<String> = (0..sync.channels())
            .filter(|&channel| sync.reached(channel) < sync_point)
            .map(|channel| channel.to_string())
            .collect();
        let text = format!(
            "sync point {sync_point}: channels {} have not sent their SYNC, and nothing came on \
             any channel for {} s (--stall-timeout {})",
            missing.join(", "),
            seconds(silent_ns),
            seconds(self.plan.stall_ns)
        );
        Err(RunError::new(Family::Misbehaved, text))
    }

    fn note_round(&self, now: u64, sync_wait_ns: u64) {
        let main = &self.run.main;
        let mut end = RoundStart {
            at_ns: now,
            normal: main.normal.get(),
            zero: main.zero.get(),
            wire_bytes: main.wire_bytes.get(),
        };
        for channel in self.run.channels() {
            end.normal += channel.counters.normal.get();
            end.zero += channel.counters.zero.get();
            end.wire_bytes += channel.counters.wire_bytes.get();
        }
        let start = self.round.replace(end);
        let mut rounds = lock(&self.run.rounds);
        if rounds.len() < ROUNDS_MAX {
            rounds.push(Round {
                duration_ns: end.at_ns - start.at_ns,
                normal: end.normal - start.normal,
                zero: end.zero - start.zero,
                wire_bytes: end.wire_bytes - start.wire_bytes,
                sync_wait_ns,
            });
        }
    }
}
