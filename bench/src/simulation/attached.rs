//! A channel with its reader's receives: what io_uring may make of them.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use landfall_receiver::{
    channel::{Channel, ChannelId, Want},
    place::Run,
    stats::ChannelPhase,
    wire::{INIT_BYTES, PageBytes},
};

use super::{
    broken::Broken,
    random::Random,
    shared::{Shared, Trouble, misbehaved},
    socket::{Last, Socket},
};

/// A channel, its socket, and the operations under way on it.
pub(super) struct Attached<'a> {
    channel: Channel,
    page_bytes: u64,
    data: &'a [u8],
    socket: Socket,
    /// A receive of pages.
    landing: Option<Landing>,
    header: Option<HeaderReceive>,
    /// What the kernel has told and the reader has not heard.
    completions: VecDeque<(Operation, Ended)>,
}

/// Pages on their way into guest RAM.
struct Landing {
    block: usize,
    runs: Vec<Run>,
    /// Into staging memory: no bytes of it are pages yet.
    staged: bool,
    /// Bytes that are in their place.
    landed: u64,
    wanted: u64,
    /// A page of the receive that a broken receiver loses.
    lost: Option<u64>,
}

/// A receive of at most `wanted` header bytes.
#[derive(Clone, Copy)]
struct HeaderReceive {
    wanted: usize,
    /// It waits for the pages before it.
    linked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Header,
    Pages,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// With so many bytes, the first of them at this byte of the stream.
    Bytes {
        from: usize,
        bytes: usize,
    },
    Lost,
    Cancelled,
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
            landing: None,
            header: None,
            completions: VecDeque::new(),
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
        if !self.completions.is_empty() && !random.one_in(3) {
            return self.hear(shared);
        }
        if self.receive(shared, random) {
            return Ok(true);
        }
        if !self.completions.is_empty() {
            return self.hear(shared);
        }
        // The wake-up by which main lets a reader's channels go on.
        let mut passed = shared.passed.get();
        if shared.is(Broken::ChannelsGoOn) && random.one_in(4) {
            passed = self.channel.syncs();
        }
        let free = self.channel.release(passed);
        if free {
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

    /// The kernel goes on with one operation.
    fn receive(&mut self, shared: &Shared<'_>, random: &mut Random) -> bool {
        if let Some(landing) = &mut self.landing {
            let missing = (landing.wanted - landing.landed) as usize;
            let bytes = self.socket.piece(random, missing);
            if bytes == 0 && self.socket.last == Last::Silence {
                return false;
            }
            let from = self.socket.taken;
            landing.land(&self.data[from..from + bytes], self.page_bytes, shared);
            self.socket.taken += bytes;
            // Whole, at the end of the stream, or cut short for no reason.
            if landing.landed == landing.wanted || bytes == 0 || random.one_in(24) {
                self.end_pages(bytes == 0, random);
            }
            return true;
        }
        let Some(HeaderReceive { wanted, linked: false }) = self.header else { return false };
        let bytes = self.socket.piece(random, wanted);
        let from = self.socket.taken;
        let ended = match self.socket.last {
            Last::Silence if bytes == 0 => return false,
            Last::Reset if bytes == 0 => Ended::Lost,
            _ => Ended::Bytes { from, bytes },
        };
        self.socket.taken += bytes;
        self.header = None;
        self.completions.push_back((Operation::Header, ended));
        true
    }

    /// The kernel ends the receive of pages, and what is linked to it.
    fn end_pages(&mut self, at_end: bool, random: &mut Random) {
        let Some(Landing { landed, wanted, .. }) = self.landing.take() else { return };
        let ended = match self.socket.last {
            Last::Reset if at_end && landed == 0 => Ended::Lost,
            _ => {
                let bytes = landed as usize;
                Ended::Bytes { from: self.socket.taken - bytes, bytes }
            }
        };
        self.completions.push_back((Operation::Pages, ended));
        let Some(header) = self.header else { return };
        self.header = Some(HeaderReceive { linked: false, ..header });
        if landed < wanted {
            self.header = None;
            let cancelled = (Operation::Header, Ended::Cancelled);
            match random.one_in(2) {
                true => self.completions.push_back(cancelled),
                false => self.completions.push_front(cancelled),
            }
        }
    }

    /// The reader hears of one completion.
    fn hear(&mut self, shared: &Shared<'_>) -> Result<bool, Trouble> {
        match self.completions.pop_front() {
            None => return Ok(false),
            Some((Operation::Header, ended)) => self.header_ended(ended, shared)?,
            Some((Operation::Pages, ended)) => self.pages_ended(ended, shared)?,
        }
        Ok(true)
    }

    fn header_ended(&mut self, ended: Ended, shared: &Shared<'_>) -> Result<(), Trouble> {
        match ended {
            Ended::Cancelled => {
                if !matches!(self.channel.want(), Want::SyncPoint(_)) && !self.is_busy() {
                    self.go_on(shared);
                }
            }
            Ended::Lost => return Err(self.lost()),
            Ended::Bytes { bytes: 0, .. } => {
                self.channel.end()?;
                self.note(ChannelPhase::Ended, shared);
            }
            Ended::Bytes { from, bytes } => {
                let id = self.channel.id().index();
                let ram = shared.twin.get().unwrap_or(shared.ram());
                let bytes = &self.data[from..from + bytes];
                self.channel.take_header(bytes, ram, shared.tally(id))?;
                self.go_on(shared);
            }
        }
        Ok(())
    }

    fn pages_ended(&mut self, ended: Ended, shared: &Shared<'_>) -> Result<(), Trouble> {
        let bytes = match ended {
            Ended::Cancelled => &[],
            Ended::Lost => return Err(self.lost()),
            Ended::Bytes { bytes: 0, .. } => {
                return Err(self.channel.end().expect_err("pages are missing").into());
            }
            Ended::Bytes { from, bytes } => &self.data[from..from + bytes],
        };
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
        if !self.is_busy() {
            self.go_on(shared);
        } else if !matches!(self.channel.want(), Want::Pages { .. } | Want::Payload { .. }) {
            self.note(self.channel.phase(), shared);
        }
        Ok(())
    }

    /// Arms what the channel wants.
    fn go_on(&mut self, shared: &Shared<'_>) {
        self.note(self.channel.phase(), shared);
        match self.channel.want() {
            Want::Header { missing } => {
                assert!(self.header.is_none(), "one receive of a header at a time");
                self.header = Some(HeaderReceive { wanted: missing, linked: false });
            }
            want @ (Want::Pages { missing, then_header }
            | Want::Payload { missing, then_header }) => {
                assert!(!self.is_busy(), "one receive of pages at a time");
                self.landing = Some(Landing {
                    block: self.channel.block(),
                    runs: self.channel.runs().to_vec(),
                    staged: matches!(want, Want::Payload { .. }),
                    landed: 0,
                    wanted: missing,
                    lost: shared.breaks_once(Broken::PageSkipped).then_some(0),
                });
                let wanted = self.channel.header_bytes();
                self.header = then_header.then_some(HeaderReceive { wanted, linked: true });
            }
            Want::SyncPoint(sync_point) => {
                let id = self.channel.id().index();
                shared.channels().sync.reach(id, sync_point);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.landing.is_some()
            || self.header.is_some()
            || self.completions.iter().any(|(operation, _)| *operation == Operation::Header)
            || self.completions.iter().any(|(operation, _)| *operation == Operation::Pages)
    }

    fn note(&self, phase: ChannelPhase, shared: &Shared<'_>) {
        let counters = &shared.channels().counters[self.channel.id().index()];
        counters.phase.set(phase.to_number());
    }

    fn lost(&self) -> Trouble {
        misbehaved(format!("channel {}: connection lost", self.channel.id())).into()
    }
}

impl Landing {
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
