//! The watchdog: slow is legal, stuck is not.
//!
//! Silence between records and packets is legal (a source may pause before its
//! switchover). Silence inside a header, a packet or a section, or at a sync
//! point where nothing moves on any channel, is a stall.

use std::time::Duration;

use crate::clock::{NS_PER_S, seconds};
use crate::error::{Family, RunError};
use crate::run::{Run, lock};
use crate::stats::ChannelPhase;
use crate::tcp_info;

/// Looks at a run again and again.
#[derive(Debug)]
pub struct Watchdog {
    stall_ns: u64,
    idle_ns: Option<u64>,
    sampled_ns: u64,
    /// Per channel: bytes of TCP at the last look, and when they last grew.
    moved: Vec<(u64, u64)>,
}

impl Watchdog {
    /// A stall of `stall` ends the run; so does silence of `idle` anywhere.
    pub fn new(stall: Duration, idle: Option<Duration>) -> Self {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { stall_ns: ns(stall), idle_ns: idle.map(ns), sampled_ns: 0, moved: Vec::new() }
    }

    /// One look, now. Several times a second it feeds the rates, and once a
    /// second it asks TCP about every channel.
    ///
    /// # Errors
    /// Misbehaved: a channel is stuck.
    pub fn look(&mut self, run: &Run, now_ns: u64) -> Result<(), RunError> {
        run.meter.look(run, now_ns);
        if run.is_stopping() || run.status().is_terminal() {
            return Ok(());
        }
        if now_ns - self.sampled_ns >= NS_PER_S {
            self.sampled_ns = now_ns;
            self.sample(run, now_ns);
        }
        let mut newest_ns = run.main.last_activity_ns.get();
        for (id, channel) in run.channels().iter().enumerate() {
            let seen_ns = channel.counters.last_activity_ns.get();
            let moved_ns = self.moved.get(id).map_or(0, |moved| moved.1);
            let active_ns = seen_ns.max(moved_ns);
            newest_ns = newest_ns.max(active_ns);
            let phase = ChannelPhase::of_number(channel.counters.phase.get());
            let silent_ns = now_ns.saturating_sub(active_ns);
            if phase == ChannelPhase::Inside && active_ns > 0 && silent_ns > self.stall_ns {
                let text = format!(
                    "channel {id}, packet {}, byte {}: nothing came for {} s inside a packet \
                     (--stall-timeout {})",
                    channel.counters.packets.get(),
                    channel.counters.wire_bytes.get(),
                    seconds(silent_ns),
                    seconds(self.stall_ns),
                );
                return Err(RunError::new(Family::Misbehaved, text));
            }
        }
        let silent_ns = now_ns.saturating_sub(newest_ns);
        if let Some(idle_ns) = self.idle_ns.filter(|&idle| newest_ns > 0 && silent_ns > idle) {
            let text = format!(
                "nothing came on any channel for {} s (--idle-timeout {})",
                seconds(silent_ns),
                seconds(idle_ns)
            );
            return Err(RunError::new(Family::Misbehaved, text));
        }
        Ok(())
    }

    fn sample(&mut self, run: &Run, now_ns: u64) {
        let channels = run.channels();
        self.moved.resize(channels.len(), (0, 0));
        for (channel, moved) in channels.iter().zip(&mut self.moved) {
            let sample = channel.socket.upgrade().and_then(|fd| tcp_info::sample(&fd, now_ns));
            let Some(sample) = sample else { continue };
            // What trickles into a packet completes nothing, but TCP sees it.
            if sample.received_bytes != moved.0 {
                *moved = (sample.received_bytes, now_ns);
            }
            let mut samples = lock(&channel.tcp);
            if samples.len() == SAMPLES_MAX {
                // Half the density rather than the beginning or the end.
                let mut index = 0;
                samples.retain(|_| {
                    index += 1;
                    index % 2 == 0
                });
            }
            samples.push(sample);
        }
    }
}

/// TCP samples kept of one channel: at 255 channels 3 MiB.
const SAMPLES_MAX: usize = 256;
