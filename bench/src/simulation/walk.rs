//! The main thread: walks the main stream, event by event.

use std::sync::Arc;

use landfall_receiver::{
    codec::PageInflate,
    error::{Family, RunError},
    main_stream::{Certainty, End, Event, MainStream, Options, PageContent, Step},
    migration::{
        MainPages,
        answers::{Answer, acks_once, answer_to},
        rounds::{Gate, Mark, Rounds, check_close, gate},
    },
    wire::{BlockInfo, PageBytes, Reply},
};

use super::{
    broken::Broken,
    door::Door,
    judge::check_round,
    random::Random,
    shared::{Shared, Trouble, misbehaved},
    socket::{Last, Socket},
};

/// The main stream's driver.
pub(super) struct Walk<'a> {
    data: &'a [u8],
    /// The connection, once the door has given it.
    socket: Option<Socket>,
    /// Bytes of the stream that have been used.
    used: usize,
    pub(super) stream: MainStream,
    pub(super) rounds: Rounds,
    pub(super) page: PageBytes,
    pages: MainPages,
    inflate: PageInflate,
    machine: Option<Box<str>>,
    pub(super) return_path: bool,
    pub(super) state: State,
    /// A page that waits until the channels are known.
    waiting: Option<Item<'a>>,
}

/// A page on main: its block, its offset, and what it holds.
type Item<'a> = (usize, u64, Content<'a>);

/// What a page on main holds.
#[derive(Clone, Copy)]
enum Content<'a> {
    Plain(PageContent<'a>),
    /// As zlib: only a changed byte makes it come here.
    Deflated(&'a [u8]),
}

/// What main is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has bytes, or looks whether it has.
    Walks,
    /// It needs bytes.
    Reads { at_boundary: bool },
    /// As many channels as were configured must come.
    AwaitsChannels,
    /// The channel count is derived.
    Derives(Mark),
    /// The channels must come to this sync point.
    AwaitsSync,
    /// What looks like the end is one if nothing more comes.
    Grace,
    /// It has ended well.
    Ended(End),
}

/// What came of a turn.
pub(super) enum Did {
    Nothing,
    Something,
    /// These RAM blocks are to be made.
    Carve(Arc<[BlockInfo]>),
    /// These connections of the door are the channels, in order.
    Attach(Vec<usize>),
}

impl<'a> Walk<'a> {
    /// At the first byte of the main stream.
    pub(super) fn new(data: &'a [u8], keep: bool) -> Self {
        let page = PageBytes::DEFAULT;
        Self {
            data,
            socket: None,
            used: 0,
            stream: MainStream::new(Options::default()),
            rounds: Rounds::default(),
            page,
            pages: MainPages::new(page.get().trailing_zeros(), keep),
            inflate: PageInflate::default(),
            machine: None,
            return_path: false,
            state: State::Walks,
            waiting: None,
        }
    }

    /// The source gives up and closes.
    pub(super) fn close(&mut self) {
        if let Some(socket) = &mut self.socket {
            (socket.limit, socket.last) = (socket.taken, Last::Closed);
        }
    }

    /// A turn of the main thread.
    pub(super) fn step(
        &mut self,
        shared: &Shared<'_>,
        door: &mut Door<'a>,
        random: &mut Random,
    ) -> Result<Did, Trouble> {
        if self.socket.is_none() {
            let Some(index) = door.arrivals.take_main() else { return Ok(Did::Nothing) };
            let socket = door.newcomers[index].socket;
            shared.main.wire_bytes.add(socket.taken as u64);
            self.socket = Some(socket);
            return Ok(Did::Something);
        }
        match self.state {
            State::Walks => self.walk(shared, door, random),
            State::Reads { .. } => self.read(shared, door, random),
            State::AwaitsChannels => {
                let count = shared.scenario.count.expect("it is configured");
                let Some((ours, strays)) = door.arrivals.decide(count.into())? else {
                    return Ok(Did::Nothing);
                };
                self.state = State::Walks;
                door.decided(strays.len());
                Ok(Did::Attach(ours))
            }
            State::Derives(mark) => {
                if !door.is_quiet(shared) {
                    return Ok(Did::Nothing);
                }
                let Some((ours, strays)) = door.arrivals.derive(mark.multifd)? else {
                    return Ok(Did::Nothing);
                };
                self.state = if mark.sync_point { State::AwaitsSync } else { State::Walks };
                door.decided(strays.len());
                Ok(Did::Attach(ours))
            }
            State::AwaitsSync => self.sync_point(shared, random),
            State::Grace => {
                if self.arrive(shared, door, random) == 0 {
                    return Ok(self.end(End::Complete));
                }
                self.state = State::Walks;
                Ok(Did::Something)
            }
            State::Ended(_) => Ok(Did::Nothing),
        }
    }

    /// Takes what is at the front of what has been read.
    fn walk(
        &mut self,
        shared: &Shared<'_>,
        door: &mut Door<'a>,
        random: &mut Random,
    ) -> Result<Did, Trouble> {
        if let Some((block, offset, content)) = self.waiting.take() {
            self.place(shared, block, offset, content)?;
        }
        if shared.scenario.quick {
            self.take_pages(shared)?;
        }
        if shared.is(Broken::ForgedTail) && self.sees_an_end() {
            return Ok(self.end(End::Complete));
        }
        let input = &self.data[self.used..self.socket.expect("taken").taken];
        let (consumed, event) = match self.stream.step(input)? {
            Step::Need { at_boundary } => {
                self.mark_pages(shared);
                self.state = State::Reads { at_boundary };
                return Ok(Did::Something);
            }
            Step::Event { consumed, event } => (consumed, event),
        };
        self.used += consumed;
        if let Some(mark) = self.rounds.on(&event) {
            self.mark_pages(shared);
            if shared.channels.get().is_none() {
                self.state = State::Derives(mark);
            } else if mark.sync_point {
                self.state = State::AwaitsSync;
            }
        }
        match event {
            Event::Page { block, offset, bytes } => {
                self.page(shared, block, offset, Content::Plain(PageContent::Full(bytes)))?;
            }
            Event::Zero { block, offset } => {
                self.page(shared, block, offset, Content::Plain(PageContent::Zero))?;
            }
            Event::Xbzrle { block, offset, encoded } => {
                self.page(shared, block, offset, Content::Plain(PageContent::Xbzrle(encoded)))?;
            }
            Event::CompressedPage { block, offset, encoded } => {
                self.page(shared, block, offset, Content::Deflated(encoded))?;
            }
            Event::Header { .. }
            | Event::SectionStart { .. }
            | Event::SectionContinue { .. }
            | Event::SectionEnd { .. }
            | Event::MultifdFlush
            | Event::RamEos { .. }
            | Event::Skipped => {}
            Event::Configuration(configuration) => {
                if let Some(uuid) = configuration.uuid {
                    door.strays += door.arrivals.set_uuid(uuid).len() as u64;
                }
                if let Some(page) = configuration.page {
                    self.page = page;
                    let shift = page.get().trailing_zeros();
                    self.pages = MainPages::new(shift, shared.scenario.keep);
                }
                self.machine = Some(configuration.machine);
            }
            Event::Command(command) => self.answer(answer_to(command)?, shared),
            Event::RamBlocks(blocks) => {
                if shared.scenario.count.is_some() {
                    self.state = State::AwaitsChannels;
                }
                return Ok(Did::Carve(blocks));
            }
            Event::Seek { .. } => unreachable!("a simulated stream is no file"),
            Event::DeviceTail { appended } => shared.main.device_state_bytes.add(appended as u64),
            Event::EndOfStream(certainty) => {
                shared.main.device_state_bytes.add(consumed as u64);
                return Ok(self.may_end(certainty, random));
            }
        }
        Ok(Did::Something)
    }

    /// Places a page, now or when the channels are known.
    fn page(
        &mut self,
        shared: &Shared<'_>,
        block: usize,
        offset: u64,
        content: Content<'a>,
    ) -> Result<(), Trouble> {
        if matches!(self.state, State::Derives(_)) {
            self.waiting = Some((block, offset, content));
            return Ok(());
        }
        self.place(shared, block, offset, content)
    }

    fn place(
        &mut self,
        shared: &Shared<'_>,
        block: usize,
        offset: u64,
        content: Content<'_>,
    ) -> Result<(), Trouble> {
        let placing = shared.placing();
        let malformed = |error: &dyn std::error::Error| -> Trouble {
            RunError::new(Family::Malformed, format!("main stream, ram: {error}")).into()
        };
        match content {
            Content::Plain(content) => self.pages.take(&placing, block, offset, content),
            Content::Deflated(encoded) => {
                let page = self.inflate.page(encoded, self.page.as_usize());
                let page = page.map_err(|error| malformed(&error))?;
                self.pages.take(&placing, block, offset, PageContent::Full(page))
            }
        }
        .map_err(|error| malformed(&error))
    }

    fn take_pages(&mut self, shared: &Shared<'_>) -> Result<(), Trouble> {
        let end = self.socket.expect("taken").taken;
        while let Some(page) = self.stream.next_page(&self.data[self.used..end]) {
            let content = Content::Plain(page.content);
            self.place(shared, page.block, page.offset, content)?;
            self.used += page.consumed;
        }
        Ok(())
    }

    fn mark_pages(&mut self, shared: &Shared<'_>) {
        if !self.pages.is_empty() {
            self.pages.mark(&shared.placing());
        }
    }

    fn answer(&mut self, answer: Answer, shared: &Shared<'_>) {
        match answer {
            Answer::OpenReturnPath => {
                self.return_path = true;
                if shared.scenario.source.switchover_ack && acks_once(self.machine.as_deref()) {
                    shared.say(Reply::SwitchoverAck);
                }
            }
            Answer::Pong(value) if self.return_path => shared.say(Reply::Pong(value)),
            Answer::Pong(_) | Answer::SwitchoverStart | Answer::Advised | Answer::Nothing => {}
        }
    }

    fn read(
        &mut self,
        shared: &Shared<'_>,
        door: &Door<'a>,
        random: &mut Random,
    ) -> Result<Did, Trouble> {
        if self.arrive(shared, door, random) > 0 {
            self.state = State::Walks;
            return Ok(Did::Something);
        }
        match self.socket.expect("taken") {
            Socket { taken, limit, .. } if taken < limit => Ok(Did::Nothing),
            Socket { last: Last::Silence, .. } => Ok(Did::Nothing),
            Socket { last: Last::Reset, taken, .. } => {
                Err(misbehaved(format!("main stream, byte {taken}: connection lost")).into())
            }
            Socket { last: Last::Closed, .. } => {
                let end = check_close(&self.stream, self.return_path)?;
                Ok(self.end(end))
            }
        }
    }

    /// Bytes come, if any can; returns how many.
    fn arrive(&mut self, shared: &Shared<'_>, door: &Door<'a>, random: &mut Random) -> usize {
        let socket = self.socket.as_mut().expect("taken");
        let most = socket.limit.min(door.main_limit(shared)).saturating_sub(socket.taken);
        let bytes = socket.piece(random, most);
        socket.taken += bytes;
        shared.main.wire_bytes.add(bytes as u64);
        bytes
    }

    fn may_end(&mut self, certainty: Certainty, random: &mut Random) -> Did {
        let Socket { taken, limit, last, .. } = self.socket.expect("taken");
        // The end of the stream may be seen already, or not.
        let sees_end = taken == limit && last != Last::Silence && random.one_in(2);
        if self.used < taken || sees_end {
            return Did::Something;
        }
        match certainty {
            Certainty::Exact => self.end(End::Complete),
            Certainty::NeedsGrace => {
                self.state = State::Grace;
                Did::Something
            }
        }
    }

    fn end(&mut self, end: End) -> Did {
        self.state = State::Ended(end);
        Did::Something
    }

    fn sync_point(&mut self, shared: &Shared<'_>, random: &mut Random) -> Result<Did, Trouble> {
        let sync = &shared.channels().sync;
        if shared.is(Broken::MainGoesOn) {
            // Waiting at the last one hides it best.
            let sync_point = shared.passed.get() + 1;
            let last = sync_point >= shared.flow.model.sync_points.len() as u64;
            if sync.missing(sync_point).is_some() && (last || !random.one_in(8)) {
                return Ok(Did::Nothing);
            }
            shared.passed.set(sync_point);
        } else {
            let Gate::Open(sync_point) = gate(sync, |channel| shared.has_ended(channel))? else {
                return Ok(Did::Nothing);
            };
            if shared.counts_hold() && sync.channels() > 0 {
                check_round(shared, sync_point).map_err(Trouble::Wrong)?;
            }
            sync.pass(sync_point);
            shared.passed.set(sync_point);
        }
        shared.main.sync_points.add(1);
        self.state = State::Walks;
        Ok(Did::Something)
    }

    /// The mistake of taking the first bytes that look like an end for it: a
    /// footer, EOF, and the head of a description that is all there.
    fn sees_an_end(&self) -> bool {
        let input = &self.data[self.used..self.socket.expect("taken").taken];
        self.stream.in_device_state()
            && input.windows(14).enumerate().any(|(at, bytes)| {
                let length = u32::from_be_bytes([bytes[7], bytes[8], bytes[9], bytes[10]]);
                let there = input.len() - at - 11;
                bytes[0] == 0x7e
                    && bytes[5..7] == [0, 6]
                    && bytes[11..13] == *b"{\""
                    && length as usize <= there
            })
    }
}
