//! Channels under TLS: the ring receives ciphertext, the feed takes it from there.

use super::{Attached, Loop, likely_packet, lost, no_staging};
use crate::channel::{Tally, Want};
use crate::clock::now_ns;
use crate::error::RunError;
use crate::ring::{Completion, Expected};
use crate::stats::{ChannelPhase, Latencies};
use crate::tls::TlsStream;
use crate::tls::feed::{BUFFER_BYTES, Fed, Feed, Step};

/// A channel's feed, and how its time divides.
pub(super) struct Feeding {
    feed: Feed,
    division: Division,
}

/// How much of the time in a feed goes to opening records, and how much to what the channel makes of
/// them. Two looks at the clock for each record are many: one feed of several is timed, and the
/// others divide as those did.
#[derive(Debug, Default)]
struct Division {
    feeds: u64,
    /// Time of those that were timed, nanoseconds.
    timed_ns: u64,
    /// Of it, opening.
    opening_ns: u64,
}

impl Division {
    /// A feed begins; true if it is to be timed.
    fn begin(&mut self) -> bool {
        self.feeds += 1;
        self.feeds.is_multiple_of(TIMED_ONE_OF) || self.timed_ns < TIMED_NS_ENOUGH
    }

    /// How much of the `spent_ns` of a feed was opening: `opening_ns`, where it was timed.
    fn end(&mut self, spent_ns: u64, opening_ns: Option<u64>) -> u64 {
        if let Some(opening_ns) = opening_ns {
            self.timed_ns += spent_ns;
            self.opening_ns += opening_ns;
            return opening_ns;
        }
        let share = self.opening_ns as f64 / self.timed_ns.max(1) as f64;
        (spent_ns as f64 * share) as u64
    }
}

impl Loop<'_> {
    /// Gives the channel in `slot` its TLS, and `first`, which has come already.
    ///
    /// # Errors
    /// Environment: no staging memory.
    pub(super) fn attach_tls(
        &mut self,
        slot: usize,
        stream: Box<TlsStream>,
        first: &[u8],
    ) -> Result<(), RunError> {
        let attached = &mut self.channels[slot];
        let lease = self.run.terms.staging.lend(BUFFER_BYTES as u64);
        attached.staging = Some(lease.map_err(|full| no_staging(attached.channel.id(), full))?);
        self.ring.give_staging(slot, BUFFER_BYTES);
        let feed = Feed::new(stream, first, self.ring.staging_mut(slot));
        attached.tls = Some(Feeding { feed, division: Division::default() });
        Ok(())
    }

    /// Ciphertext has come, or the end.
    pub(super) fn ciphertext(
        &mut self,
        slot: usize,
        completion: Completion,
        now: u64,
        latencies: &mut Latencies,
    ) -> Result<u64, RunError> {
        let Attached { channel, tls, .. } = &mut self.channels[slot];
        let Feeding { feed, .. } = tls.as_mut().expect("a channel under TLS");
        let counters = &self.run.channel(channel.id()).counters;
        match completion.result {
            Err(error) => return Err(lost(channel.id(), &error)),
            Ok(0) => {
                feed.end(channel, counters.wire_bytes.get())?;
                self.ended(slot);
                return Ok(now);
            }
            Ok(bytes) => feed.received(bytes),
        }
        counters.last_activity_ns.set(now);
        self.feed(slot, now, latencies)
    }

    /// Gives the channel what is there, then receives more, or holds it; returns
    /// the time, since opening has taken some.
    pub(super) fn feed(
        &mut self,
        slot: usize,
        now: u64,
        latencies: &mut Latencies,
    ) -> Result<u64, RunError> {
        let Attached { channel, tls, since_ns, .. } = &mut self.channels[slot];
        let Feeding { feed, division } = tls.as_mut().expect("a channel under TLS");
        let run = self.run;
        let counters = &run.channel(channel.id()).counters;
        let tally = Tally { channel: counters, blocks: run.reader_blocks(self.index) };
        let ram = run.ram().expect("RAM is known before channels");
        let packets = counters.packets.get();
        let was_awaited = matches!(channel.want(), Want::Header { .. });
        let waited_ns = now - *since_ns;
        // Of the packet that comes next, or whose header has come before.
        let mut header_ns = if was_awaited { now } else { *since_ns };
        let is_timed = division.begin();
        let (mut opening_ns, mut opens_ns) = (0, None);
        let mut told = |step| match step {
            Step::Opening if is_timed => opens_ns = Some(now_ns()),
            Step::Opened if is_timed => {
                opening_ns += opens_ns.take().map_or(0, |opens_ns| now_ns() - opens_ns);
            }
            Step::Opening | Step::Opened => {}
            Step::Packet => {
                let end_ns = now_ns();
                latencies.packet_ns.saturating_record(end_ns - header_ns);
                counters.pages_ns.add(end_ns - header_ns);
                header_ns = end_ns;
            }
        };
        let buffer = self.ring.staging_mut(slot);
        let fed = feed.run(buffer, channel, ram, tally, &mut told)?;
        let done_ns = now_ns();
        // What is no whole record was looked at too, and moved to the front.
        opening_ns += opens_ns.map_or(0, |opens_ns| done_ns - opens_ns);
        let decrypt_ns = division.end(done_ns - now, is_timed.then_some(opening_ns));
        counters.decrypt_ns.add(decrypt_ns);
        if channel.decodes() {
            counters.decode_ns.add((done_ns - now).saturating_sub(decrypt_ns));
        }
        let has_come = counters.packets.get() > packets;
        if was_awaited && has_come {
            latencies.header_wait_ns.saturating_record(waited_ns);
            counters.header_ns.add(waited_ns);
        }
        match channel.want() {
            Want::Pages { .. } | Want::Payload { .. } => *since_ns = header_ns,
            // Still only a part of it.
            Want::Header { .. } if was_awaited && !has_come => {}
            Want::Header { .. } | Want::SyncPoint(_) => *since_ns = done_ns,
        }
        if feed.stream().owes() {
            feed.stream().pay(self.ring.socket(slot));
        }
        let phase = if feed.is_inside() && channel.phase() == ChannelPhase::Boundary {
            ChannelPhase::Inside
        } else {
            channel.phase()
        };
        counters.phase.set(phase.to_number());
        match fed {
            Fed::Receive { from, surely } => {
                let expected = Expected { surely, packet: likely_packet(run, channel) };
                self.ring.arm_staging(slot, from, expected);
            }
            Fed::Held => {
                let Want::SyncPoint(sync_point) = channel.want() else { unreachable!("held") };
                let id = channel.id();
                if run.sync().expect("sync points are known").reach(id.index(), sync_point) {
                    run.wake_main();
                }
            }
            Fed::Closed => {
                feed.end(channel, counters.wire_bytes.get())?;
                self.ended(slot);
            }
        }
        Ok(done_ns)
    }
}

/// One feed of so many is timed.
const TIMED_ONE_OF: u64 = 8;
/// Until so much has been timed all feeds are: the first ones are not like those that follow.
const TIMED_NS_ENOUGH: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_that_are_not_timed_divide_like_those_that_are() {
        let mut division = Division::default();
        let (mut opening_ns, mut timed) = (0, 0);
        for feed in 0..1000 {
            // Opening takes a quarter, in some feeds more and in others less.
            let spent_ns = 100_000;
            let of_it = if feed / 8 % 2 == 0 { 20_000 } else { 30_000 };
            let is_timed = division.begin();
            timed += u64::from(is_timed);
            let found = division.end(spent_ns, is_timed.then_some(of_it));
            assert!(found <= spent_ns);
            opening_ns += found;
        }
        assert!((24_000_000..=26_000_000).contains(&opening_ns), "{opening_ns}");
        assert!((125..=140).contains(&timed), "{timed}");
    }

    #[test]
    fn without_anything_timed_nothing_was_opening() {
        assert_eq!(Division::default().end(1000, None), 0);
    }
}
