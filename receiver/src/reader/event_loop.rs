//! What a reader's thread does: it waits for its ring, and takes what has come on the channels.

mod tls;

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::{Attach, CHANNELS_MAX, Discard, Order};
use crate::channel::{Channel, ChannelId, Tally, Want};
use crate::clock::now_ns;
use crate::error::{Family, RunError};
use crate::low_water::Pace;
use crate::ring::{Completion, Expected, Operation, ReaderRing, RingFeatures, STAGING_BYTES};
use crate::run::Run;
use crate::staging::{Lease, StagingFull};
use crate::stats::{ChannelPhase, Latencies};

/// What the thread keeps while its run lasts.
pub(super) struct Loop<'run> {
    run: &'run Run,
    index: usize,
    features: RingFeatures,
    ring: ReaderRing,
    inbox: Receiver<Order>,
    channels: Vec<Attached>,
    /// When it last left `io_uring_enter`.
    left_ns: u64,
}

/// A channel with what its reader keeps beside the protocol.
struct Attached {
    channel: Channel,
    discard: Option<Discard>,
    /// For the slot's staging memory, once it has some.
    staging: Option<Lease>,
    tls: Option<tls::Feeding>,
    /// Bytes of the slot's header memory that belong to the next round.
    held: Range<usize>,
    /// When the present wait or receive began.
    since_ns: u64,
    pace: Pace,
}

impl<'run> Loop<'run> {
    pub(super) fn new(
        run: &'run Run,
        index: usize,
        features: RingFeatures,
        inbox: Receiver<Order>,
    ) -> Result<Self, RunError> {
        let ring = ReaderRing::new(features, CHANNELS_MAX, run.reader_wake(index).fd())?;
        let channels = Vec::with_capacity(CHANNELS_MAX);
        Ok(Self { run, index, features, ring, inbox, channels, left_ns: now_ns() })
    }

    /// Receives until it is told to stop.
    ///
    /// # Errors
    /// What fails the run: of a channel's stream, or of this host.
    pub(super) fn run(&mut self, latencies: &mut Latencies) -> Result<(), RunError> {
        let counters = &self.run.readers[self.index].counters;
        self.ring.arm_wake();
        self.left_ns = now_ns();
        loop {
            let entered_ns = now_ns();
            self.ring.wait()?;
            let mut now = now_ns();
            counters.enters.add(1);
            counters.placing_ns.add(entered_ns - self.left_ns);
            // Before it has a channel a reader waits for nothing.
            if !self.channels.is_empty() {
                counters.enter_ns.add(now - entered_ns);
            }
            self.left_ns = now;
            while let Some(completion) = self.ring.completion() {
                counters.completions.add(1);
                match completion.operation {
                    Operation::Header(slot) => {
                        now = self.header(slot, completion, now, latencies)?;
                    }
                    Operation::Pages(slot) if self.channels[slot].tls.is_some() => {
                        now = self.ciphertext(slot, completion, now, latencies)?;
                    }
                    Operation::Pages(slot) => {
                        now = self.pages(slot, completion, now, latencies)?;
                    }
                    Operation::Wake => {
                        self.ring.arm_wake();
                        self.ring.hurry();
                        if !self.obey(now, latencies)? {
                            return Ok(());
                        }
                    }
                    Operation::Cancel => {}
                }
            }
        }
    }

    /// Takes orders, and the release of sync points; false when it is over.
    fn obey(&mut self, mut now: u64, latencies: &mut Latencies) -> Result<bool, RunError> {
        let mut stop = self.run.is_stopping();
        while let (false, Ok(order)) = (stop, self.inbox.try_recv()) {
            match order {
                Order::Attach(attach) => now = self.attach(attach, now, latencies)?,
                Order::Load(load) => {
                    // It counts its own time.
                    load.work(self.run, self.index, self.features)?;
                    self.left_ns = now_ns();
                    stop = self.run.is_stopping();
                }
                Order::Stop => stop = true,
            }
        }
        // The release of the last sync point and the end come together: first
        // things first, or the report would lack the wait for it.
        let passed = self.run.sync().map_or(0, |sync| sync.passed());
        for slot in 0..self.channels.len() {
            let attached = &mut self.channels[slot];
            if attached.channel.release(passed) {
                let waited_ns = now - attached.since_ns;
                latencies.sync_wait_ns.saturating_record(waited_ns);
                let id = attached.channel.id();
                self.run.channel(id).counters.sync_wait_ns.add(waited_ns);
                attached.since_ns = now;
                if attached.tls.is_some() {
                    now = self.feed(slot, now, latencies)?;
                } else if attached.held.is_empty() {
                    self.go_on(slot, now)?;
                } else {
                    let held = attached.held.clone();
                    now = self.take_headers(slot, held, now, latencies)?;
                }
            }
        }
        Ok(!stop)
    }

    /// Returns the time, since opening what came with the channel may have taken some.
    fn attach(
        &mut self,
        attach: Attach,
        now: u64,
        latencies: &mut Latencies,
    ) -> Result<u64, RunError> {
        let Attach { id, socket, page, discard, tls, first } = attach;
        self.ring.set_ram(Arc::clone(self.run.ram().expect("RAM is known before channels")));
        if self.channels.is_empty() {
            self.ring.hope_for(self.run.hoped_bytes(self.index));
        }
        let slot = self.ring.attach(socket, page.packet_pages() as usize);
        let channel = Channel::new(id, page, Arc::clone(&self.run.terms));
        self.channels.push(Attached {
            channel,
            discard,
            staging: None,
            tls: None,
            held: 0..0,
            since_ns: now,
            pace: Pace::new(now),
        });
        assert!(slot + 1 == self.channels.len(), "slots and channels go together");
        match tls {
            None => self.go_on(slot, now).map(|()| now),
            Some(stream) => {
                self.attach_tls(slot, stream, &first)?;
                self.feed(slot, now, latencies)
            }
        }
    }

    /// Arms what the channel wants, and tells the watchdog where it is. The
    /// wait for it counts from `since`.
    ///
    /// # Errors
    /// Environment: no staging memory for the channel's first compressed packet.
    fn go_on(&mut self, slot: usize, since: u64) -> Result<(), RunError> {
        let Attached { channel, discard, staging, since_ns, pace, .. } = &mut self.channels[slot];
        *since_ns = since;
        let counters = &self.run.channel(channel.id()).counters;
        counters.phase.set(channel.phase().to_number());
        let packet = if pace.is_quick() { likely_packet(self.run, channel) } else { 0 };
        let (missing, then_header, pages) = match channel.want() {
            Want::Header { .. } => {
                let expected = Expected { surely: 0, packet };
                self.ring.arm_header(slot, channel.headers_at_once(), expected);
                return Ok(());
            }
            Want::SyncPoint(sync_point) => {
                let id = channel.id();
                let sync = self.run.sync().expect("sync points are known");
                if sync.reach(id.index(), sync_point) {
                    self.run.wake_main();
                }
                return Ok(());
            }
            Want::Pages { missing, then_header } => (missing, then_header, true),
            Want::Payload { missing, then_header } => (missing, then_header, false),
        };
        let headers = then_header.then(|| channel.headers_at_once());
        match discard {
            None if pages => {
                self.ring.arm_pages(slot, channel.block(), channel.runs(), headers, packet);
            }
            Some(Discard::Truncate) => self.ring.arm_truncate(slot, missing, packet),
            Some(Discard::Scratch) | None => {
                if staging.is_none() {
                    let lease = self.run.terms.staging.lend(STAGING_BYTES as u64);
                    *staging = Some(lease.map_err(|full| no_staging(channel.id(), full))?);
                    self.ring.give_staging(slot, STAGING_BYTES);
                }
                self.ring.arm_payload(slot, missing, headers, packet);
            }
        }
        Ok(())
    }

    fn header(
        &mut self,
        slot: usize,
        completion: Completion,
        now: u64,
        latencies: &mut Latencies,
    ) -> Result<u64, RunError> {
        let channel = &self.channels[slot].channel;
        match completion.result {
            Err(error) => Err(lost(channel.id(), &error)),
            Ok(0) => {
                channel.end()?;
                self.ended(slot);
                Ok(now)
            }
            Ok(bytes) => self.take_headers(slot, 0..bytes, now, latencies),
        }
    }

    /// Takes `bytes` of the slot's header memory, which came at `now`, and goes on; returns the
    /// time, which decoding may have taken some of.
    fn take_headers(
        &mut self,
        slot: usize,
        bytes: Range<usize>,
        mut now: u64,
        latencies: &mut Latencies,
    ) -> Result<u64, RunError> {
        let attached = &mut self.channels[slot];
        let channel = &mut attached.channel;
        let reader = self.run.channel(channel.id());
        let tally = Tally { channel: &reader.counters, blocks: self.run.reader_blocks(self.index) };
        let ram = self.run.ram().expect("RAM is known before channels");
        reader.counters.last_activity_ns.set(now);
        let waited_ns = now - attached.since_ns;
        let packets = reader.counters.packets.get();
        let decodes = channel.decodes();
        let mut packet = || {
            let end_ns = now_ns();
            latencies.packet_ns.saturating_record(end_ns - now);
            reader.counters.pages_ns.add(end_ns - now);
            if decodes {
                reader.counters.decode_ns.add(end_ns - now);
            }
            now = end_ns;
        };
        let came = self.ring.headers(slot, bytes.clone());
        let taken = channel.take(came, ram, tally, &mut packet)?;
        attached.held = bytes.start + taken..bytes.end;
        if reader.counters.packets.get() == packets {
            // Still only a part of it.
            let since_ns = attached.since_ns;
            self.go_on(slot, since_ns)?;
            return Ok(now);
        }
        attached.pace.packet(now);
        latencies.header_wait_ns.saturating_record(waited_ns);
        reader.counters.header_ns.add(waited_ns);
        self.go_on(slot, now)?;
        Ok(now)
    }

    /// Takes what came of pages or of a payload, and of the header behind them; returns
    /// the time, which decoding may have taken some of.
    fn pages(
        &mut self,
        slot: usize,
        completion: Completion,
        now: u64,
        latencies: &mut Latencies,
    ) -> Result<u64, RunError> {
        let attached = &mut self.channels[slot];
        let channel = &mut attached.channel;
        let reader = self.run.channel(channel.id());
        let bytes = match completion.result {
            Err(error) => return Err(lost(channel.id(), &error)),
            Ok(0) => return Err(channel.end().expect_err("pages are missing").into()),
            Ok(bytes) => bytes,
        };
        let wanted = channel.want();
        // What came beyond them is of the next header.
        let taken = (bytes as u64).min(wanted.surely());
        let tally = Tally { channel: &reader.counters, blocks: self.run.reader_blocks(self.index) };
        let ram = self.run.ram().expect("RAM is known before channels");
        reader.counters.last_activity_ns.set(now);
        let mut now = now;
        match (wanted, attached.discard) {
            (Want::Pages { .. }, _) => channel.take_pages(taken, ram, tally),
            (_, Some(_)) => channel.drop_payload(taken, ram, tally),
            (_, None) => {
                let began_ns = now_ns();
                channel.take_payload(self.ring.staging(slot, taken as usize), ram, tally)?;
                now = now_ns();
                // Device state is copied only.
                if channel.decodes() {
                    reader.counters.decode_ns.add(now - began_ns);
                }
            }
        }
        if let Want::Pages { .. } | Want::Payload { .. } = channel.want() {
            // Short.
            let since_ns = attached.since_ns;
            self.go_on(slot, since_ns)?;
            return Ok(now);
        }
        let took_ns = now - attached.since_ns;
        latencies.packet_ns.saturating_record(took_ns);
        reader.counters.pages_ns.add(took_ns);
        match bytes - taken as usize {
            0 => self.go_on(slot, now)?,
            behind => {
                attached.since_ns = now;
                now = self.take_headers(slot, 0..behind, now, latencies)?;
            }
        }
        Ok(now)
    }

    /// The source has closed the channel, between packets.
    fn ended(&self, slot: usize) {
        let id = self.channels[slot].channel.id();
        let counters = &self.run.channel(id).counters;
        counters.phase.set(ChannelPhase::Ended.to_number());
        // Main knows whether it may end now.
        self.run.wake_main();
    }
}

/// The packet that `channel` may wait for behind what it wants: none while main waits for its
/// SYNC.
fn likely_packet(run: &Run, channel: &Channel) -> u64 {
    let is_awaited = run.sync().is_some_and(|sync| sync.is_awaited(channel.syncs()));
    if is_awaited { 0 } else { channel.likely_packet() }
}

fn lost(id: ChannelId, error: &std::io::Error) -> RunError {
    RunError::new(Family::Misbehaved, format!("channel {id}: connection lost: {error}"))
}

fn no_staging(id: ChannelId, full: StagingFull) -> RunError {
    RunError::new(Family::Environment, format!("channel {id}: {full}"))
}
