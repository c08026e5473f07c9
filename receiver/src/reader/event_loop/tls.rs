//! Channels under TLS: the ring receives ciphertext, the feed takes it from there.

use super::{Attached, Loop, likely_packet, lost, no_staging};
use crate::channel::{Tally, Want};
use crate::clock::now_ns;
use crate::error::RunError;
use crate::ring::{Completion, Expected};
use crate::stats::{ChannelPhase, Latencies};
use crate::tls::TlsStream;
use crate::tls::feed::{BUFFER_BYTES, Fed, Feed};

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
        attached.tls = Some(Feed::new(stream, first, self.ring.staging_mut(slot)));
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
        let Attached { channel, tls, since_ns, .. } = &mut self.channels[slot];
        let feed = tls.as_mut().expect("a channel under TLS");
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
        let waited_ns = now - *since_ns;
        latencies.header_wait_ns.saturating_record(waited_ns);
        counters.header_ns.add(waited_ns);
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
        let feed = tls.as_mut().expect("a channel under TLS");
        let run = self.run;
        let counters = &run.channel(channel.id()).counters;
        let tally = Tally { channel: counters, blocks: run.reader_blocks(self.index) };
        let ram = run.ram().expect("RAM is known before channels");
        let mut packet_ns = now;
        let mut packet = || {
            let end_ns = now_ns();
            latencies.packet_ns.saturating_record(end_ns - packet_ns);
            packet_ns = end_ns;
        };
        let buffer = self.ring.staging_mut(slot);
        let fed = feed.run(buffer, channel, ram, tally, &mut packet)?;
        let done_ns = now_ns();
        counters.decode_ns.add(done_ns - now);
        *since_ns = done_ns;
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
