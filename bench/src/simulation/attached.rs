//! A channel with its reader's receives: what io_uring may make of them.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use landfall_receiver::{
    channel::{Channel, ChannelId, Want},
    place::Run,
    ring::HEADERS_BYTES,
    stats::ChannelPhase,
    wire::{INIT_BYTES, PageBytes},
};

use super::{
    broken::Broken,
    random::Random,
    shared::{Shared, Trouble, misbehaved},
    socket::{Last, Socket},
};

/// A channel, its socket, and the receive under way on it.
pub(super) struct Attached<'a> {
    channel: Channel,
    page_bytes: u64,
    data: &'a [u8],
    socket: Socket,
    receive: Option<Receive>,
    /// What the kernel has told and the reader has not heard.
    ended: Option<Ended>,
    /// Bytes that the reader has and that belong to the next round.
    held: Range<usize>,
}

/// Pages on their way into guest RAM, or none, and headers behind them.
struct Receive {
    block: usize,
    runs: Vec<Run>,
    /// Into staging memory: no bytes of it are pages yet.
    staged: bool,
    /// Bytes of pages that are in their place.
    landed: u64,
    wanted: u64,
    /// Bytes that have come behind the pages.
    behind: usize,
    behind_max: usize,
    /// A page of the receive that a broken receiver loses.
    lost: Option<u64>,
}

/// How a receive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// With so many bytes, the first of them at this byte of the stream.
    Bytes {
        from: usize,
        bytes: usize,
    },
    Lost,
}

impl<'a> Attached<'a> {
    /// Channel `id` on a connection whose Init has been read.
    pub(super) fn new(
        id: usize,
        data: &'a [u8],
        socket: Socket,
        page: PageBytes,
        shared: &Shared<'_>,
    ) -> Self {
        let id8 = ChannelId(u8::try_from(id).expect("at most 255 channels"));
        shared.channels().counters[id].wire_bytes.set(INIT_BYTES as u64);
        let mut attached = Self {
            channel: Channel::new(id8, page, Arc::clone(&shared.terms)),
            page_bytes: page.as_u64(),
            data,
            socket,
            receive: None,
            ended: None,
            held: 0..0,
        };
        attached.go_on(shared);
        attached
    }

    /// What is under way.
    pub(super) fn phase(&self) -> ChannelPhase {
        self.channel.phase()
    }

    /// A turn for the kernel, or for the reader; true if anything happened.
    pub(super) fn step(
        &mut self,
        shared: &Shared<'_>,
        random: &mut Random,
    ) -> Result<bool, Trouble> {
        if let Some(ended) = self.ended.take_if(|_| !random.one_in(3)) {
            return self.hear(ended, shared).map(|()| true);
        }
        if self.receive(shared, random) {
            return Ok(true);
        }
        if let Some(ended) = self.ended.take() {
            return self.hear(ended, shared).map(|()| true);
        }
        // The wake-up by which main lets a reader's channels go on.
        let mut passed = shared.passed.get();
        if shared.is(Broken::ChannelsGoOn) && random.one_in(4) {
            passed = self.channel.syncs();
        }
        let free = self.channel.release(passed);
        if free {
            let held = std::mem::take(&mut self.held);
            self.take(held, shared)?;
            self.go_on(shared);
        }
        Ok(free)
    }

    /// The reader stops: what is under way may still come in part.
    pub(super) fn drain(&mut self, shared: &Shared<'_>, random: &mut Random) {
        for _ in 0..random.below(4) {
            if !self.receive(shared, random) {
                return;
            }
        }
    }

    /// The kernel goes on with the receive.
    fn receive(&mut self, shared: &Shared<'_>, random: &mut Random) -> bool {
        let Some(receive) = &mut self.receive else { return false };
        let missing = (receive.wanted - receive.landed) as usize;
        let bytes = self.socket.piece(random, missing + receive.behind_max - receive.behind);
        if bytes == 0 && self.socket.last == Last::Silence && receive.bytes() == 0 {
            return false;
        }
        let (pages, behind) = self.data[self.socket.taken..][..bytes].split_at(bytes.min(missing));
        receive.land(pages, self.page_bytes, shared);
        receive.behind += behind.len();
        self.socket.taken += bytes;
        // Whole, at the end of what there is, or cut short for no reason.
        if receive.is_full() || bytes == 0 || random.one_in(if missing == 0 { 2 } else { 24 }) {
            let bytes = receive.bytes();
            self.receive = None;
            self.ended = Some(match self.socket.last {
                Last::Reset if bytes == 0 => Ended::Lost,
                _ => Ended::Bytes { from: self.socket.taken - bytes, bytes },
            });
        }
        true
    }

    /// The reader hears of a completion.
    fn hear(&mut self, ended: Ended, shared: &Shared<'_>) -> Result<(), Trouble> {
        match ended {
            Ended::Lost => Err(self.lost()),
            Ended::Bytes { bytes: 0, .. } => {
                self.channel.end()?;
                self.note(ChannelPhase::Ended, shared);
                Ok(())
            }
            Ended::Bytes { from, bytes } => {
                let pages = self.channel.want().surely().min(bytes as u64) as usize;
                if pages > 0 {
                    self.take_landed(&self.data[from..from + pages], shared)?;
                }
                self.take(from + pages..from + bytes, shared)?;
                self.go_on(shared);
                Ok(())
            }
        }
    }

    /// Takes bytes of the stream that the reader has in memory of its own.
    fn take(&mut self, bytes: Range<usize>, shared: &Shared<'_>) -> Result<(), Trouble> {
        let tally = shared.tally(self.channel.id().index());
        let ram = shared.twin.get().unwrap_or(shared.ram());
        let taken = self.channel.take(&self.data[bytes.clone()], ram, tally, &mut || ())?;
        self.held = bytes.start + taken..bytes.end;
        Ok(())
    }

    /// Takes bytes that the kernel has put where they go.
    fn take_landed(&mut self, bytes: &[u8], shared: &Shared<'_>) -> Result<(), Trouble> {
        let tally = shared.tally(self.channel.id().index());
        let ram = shared.twin.get().unwrap_or(shared.ram());
        match self.channel.want() {
            Want::Pages { .. } => self.channel.take_pages(bytes.len() as u64, ram, tally),
            _ if shared.scenario.keep => self.channel.take_payload(bytes, ram, tally)?,
            _ => self.channel.drop_payload(bytes.len() as u64, ram, tally),
        }
        if shared.breaks_once(Broken::CountOff) {
            tally.blocks[self.channel.block()].normal.add(1);
        }
        Ok(())
    }

    /// Arms what the channel wants.
    fn go_on(&mut self, shared: &Shared<'_>) {
        self.note(self.channel.phase(), shared);
        let most = self.channel.headers_at_once().min(HEADERS_BYTES);
        match self.channel.want() {
            Want::Header { .. } => self.receive = Some(Receive::of_headers(most)),
            want @ (Want::Pages { missing, then_header }
            | Want::Payload { missing, then_header }) => {
                self.receive = Some(Receive {
                    block: self.channel.block(),
                    runs: self.channel.runs().to_vec(),
                    staged: matches!(want, Want::Payload { .. }),
                    wanted: missing,
                    lost: shared.breaks_once(Broken::PageSkipped).then_some(0),
                    ..Receive::of_headers(if then_header { most } else { 0 })
                });
            }
            Want::SyncPoint(sync_point) => {
                let id = self.channel.id().index();
                shared.channels().sync.reach(id, sync_point);
            }
        }
    }

    fn note(&self, phase: ChannelPhase, shared: &Shared<'_>) {
        let counters = &shared.channels().counters[self.channel.id().index()];
        counters.phase.set(phase.to_number());
    }

    fn lost(&self) -> Trouble {
        misbehaved(format!("channel {}: connection lost", self.channel.id())).into()
    }
}

impl Receive {
    /// Of at most `most` bytes of headers.
    fn of_headers(most: usize) -> Self {
        Self {
            block: 0,
            runs: Vec::new(),
            staged: false,
            landed: 0,
            wanted: 0,
            behind: 0,
            behind_max: most,
            lost: None,
        }
    }

    fn bytes(&self) -> usize {
        self.landed as usize + self.behind
    }

    fn is_full(&self) -> bool {
        self.landed == self.wanted && self.behind == self.behind_max
    }

    /// Puts bytes where the runs say, behind those that have landed.
    fn land(&mut self, mut bytes: &[u8], page_bytes: u64, shared: &Shared<'_>) {
        let mut passed = 0;
        let mut at = self.landed;
        self.landed += bytes.len() as u64;
        if self.staged {
            return;
        }
        for run in &self.runs {
            let inside = at.saturating_sub(passed);
            passed += run.bytes;
            if inside >= run.bytes {
                continue;
            }
            let count = bytes.len().min((run.bytes - inside) as usize);
            let (now, rest) = bytes.split_at(count);
            if shared.scenario.keep {
                self.write(run.offset + inside, at, now, page_bytes, shared);
            }
            bytes = rest;
            at += count as u64;
            if bytes.is_empty() {
                return;
            }
        }
        assert!(bytes.is_empty(), "more bytes than runs");
    }

    /// Writes bytes of the receive, the first of them its byte `at`.
    fn write(&self, offset: u64, at: u64, bytes: &[u8], page_bytes: u64, shared: &Shared<'_>) {
        if let Some(page) = self.lost {
            let cut = |byte: u64| (byte.max(at) - at).min(bytes.len() as u64);
            let (first, end) = (cut(page * page_bytes), cut((page + 1) * page_bytes));
            self.put(offset, &bytes[..first as usize], shared);
            return self.put(offset + end, &bytes[end as usize..], shared);
        }
        self.put(offset, bytes, shared);
    }

    fn put(&self, offset: u64, bytes: &[u8], shared: &Shared<'_>) {
        let block = &shared.ram()[self.block];
        if shared.twin.get().is_none() {
            return block.write(offset, bytes);
        }
        // As the kernel does it, which asks for no bits.
        let Some(span) = block.span(offset, bytes.len() as u64) else { return };
        let memory = std::fs::File::options().write(true).open("/proc/self/mem");
        let written = memory.and_then(|file| file.write_all_at(bytes, span.as_ptr() as u64));
        written.expect("a process may write its own memory");
    }
}
