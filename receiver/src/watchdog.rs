//! The watchdog: slow is legal, stuck is not.
//!
//! Silence between records and packets is legal (a source may pause before its
//! switchover). Silence inside a header, a packet or a section, or at a sync
//! point where nothing moves on any channel, is a stall.

use std::time::Duration;

use crate::clock::{NS_PER_S, nanos, seconds};
use crate::error::{Family, RunError};
use crate::run::{Run, lock};
use crate::stats::ChannelPhase;
use crate::tcp_info::{self, TcpSample};

/// Looks at a run again and again.
#[derive(Debug)]
pub struct Watchdog {
    stall_ns: u64,
    idle_ns: Option<u64>,
    max_time_ns: Option<u64>,
    sampled_ns: u64,
    looked_inside_ns: u64,
    /// Per channel, as of the last look inside.
    evidence: Vec<u64>,
}

impl Watchdog {
    /// A stall of `stall` ends the run; so does silence of `idle` anywhere, and `max_time` after
    /// its main stream came, whatever it does then.
    pub fn new(stall: Duration, idle: Option<Duration>, max_time: Option<Duration>) -> Self {
        Self {
            stall_ns: nanos(stall),
            idle_ns: idle.map(nanos),
            max_time_ns: max_time.map(nanos),
            sampled_ns: 0,
            looked_inside_ns: 0,
            evidence: Vec::new(),
        }
    }

    /// One look, now. Several times a second it feeds the rates, and at least
    /// once a second it asks the kernel about every channel.
    ///
    /// # Errors
    /// Misbehaved: a channel is stuck, or the run takes too long.
    pub fn look(&mut self, run: &Run, now_ns: u64) -> Result<(), RunError> {
        run.meter.look(run, now_ns);
        if run.is_stopping() || run.status().is_terminal() {
            return Ok(());
        }
        self.check_time(run, now_ns)?;
        if now_ns - self.looked_inside_ns >= NS_PER_S.min(self.stall_ns / LOOKS_PER_STALL) {
            let looked_ns = std::mem::replace(&mut self.looked_inside_ns, now_ns);
            self.look_inside(run, now_ns, looked_ns);
        }
        // As long as main maps RAM nothing comes because nothing is read.
        let mut newest_ns = run.main.last_activity_ns.get().max(run.main_turned_ns.get());
        for (id, channel) in run.channels().iter().enumerate() {
            let active_ns = channel.active_ns();
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

    /// Here, since main may be anywhere: in a wait, in its own work, or behind bytes that never end.
    fn check_time(&self, run: &Run, now_ns: u64) -> Result<(), RunError> {
        let Some(limit_ns) = self.max_time_ns else { return Ok(()) };
        let since_ns = run.phases().main_came.unwrap_or(now_ns);
        if now_ns.saturating_sub(since_ns) <= limit_ns {
            return Ok(());
        }
        let text = format!("the run took longer than {} s (--max-time)", seconds(limit_ns));
        Err(RunError::new(Family::Misbehaved, text))
    }

    /// What trickles into a packet completes nothing, but it leaves traces: TCP
    /// counts it. Of other sockets the kernel counts nothing, but whoever takes
    /// bytes out of one uses CPU time, and a reader for which nothing comes uses
    /// none. Among several channels of one reader that does not tell which one
    /// moves: a stuck one is noticed when the others have come to rest.
    fn look_inside(&mut self, run: &Run, now_ns: u64, looked_ns: u64) {
        let channels = run.channels();
        self.evidence.resize(channels.len(), 0);
        let keep = now_ns - self.sampled_ns >= NS_PER_S;
        if keep {
            self.sampled_ns = now_ns;
        }
        for (channel, before) in channels.iter().zip(&mut self.evidence) {
            let Some(socket) = channel.socket.upgrade() else { continue };
            let sample = tcp_info::sample(&socket, now_ns);
            let evidence = match &sample {
                Some(sample) => sample.received_bytes,
                None => run.readers[channel.reader].thread.cpu_ns(),
            };
            if evidence != *before {
                *before = evidence;
                // What something was completed of since the last look has a better time than this.
                let completed_ns = channel.counters.last_activity_ns.get();
                if completed_ns == 0 || completed_ns < looked_ns {
                    channel.moved_ns.set(now_ns);
                }
            }
            if let Some(sample) = sample.filter(|_| keep) {
                push(&mut lock(&channel.tcp), sample);
            }
        }
    }
}

fn push(samples: &mut Vec<TcpSample>, sample: TcpSample) {
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

/// How often in the time of a stall the kernel is asked what moved, at least.
const LOOKS_PER_STALL: u64 = 4;

/// TCP samples kept of one channel: at 255 channels 3 MiB.
const SAMPLES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::Arrivals;
    use crate::channel::Terms;
    use crate::clock::now_ns;
    use crate::run::AWAY;

    #[test]
    fn silence_while_main_reads_nothing_is_not_the_sources() {
        let run = Run::new(1, Arrivals::new(None), &[None], Terms::new(true, 1 << 20)).unwrap();
        let idle = Duration::from_secs(10);
        let mut watchdog = Watchdog::new(Duration::from_secs(60), Some(idle), None);
        let came_ns = now_ns();
        run.main.last_activity_ns.set(came_ns);
        run.main_turned_ns.set(AWAY);
        assert_eq!(watchdog.look(&run, came_ns + 30 * NS_PER_S), Ok(()));
        let turned_ns = came_ns + 31 * NS_PER_S;
        run.main_turned_ns.set(turned_ns);
        assert_eq!(watchdog.look(&run, turned_ns + 10 * NS_PER_S), Ok(()));
        let error = watchdog.look(&run, turned_ns + 11 * NS_PER_S).unwrap_err();
        assert!(error.text.contains("for 11 s (--idle-timeout 10)"), "{error}");
    }
}
