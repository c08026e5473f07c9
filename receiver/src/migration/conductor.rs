//! The main thread: walks the main stream and conducts everything else.

mod cut_page;
mod end;
mod memory;
mod sync_point;
mod waits;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use landfall_pagepool::Pool;

use super::answers::{Answer, acks_once, answer_to, note_passed_over};
use super::input::Input;
use super::main_pages::{MainPages, Placing};
use super::outcome::{Ended, Received};
use super::return_path::ReturnPath;
use super::rounds::Rounds;
use super::settle::{self, Beside, ChannelCount};
use super::silent_end::SilentEnd;
use crate::clock::{NS_PER_MS, now_ns};
use crate::codec::PageInflate;
use crate::error::{Family, RunError};
use crate::main_stream::{Event, MainStream, NextPage, Options, PageContent, Step};
use crate::mapped_ram::{FileReads, SavedFile};
use crate::panicked::caught;
use crate::reader::{Reader, cpu_use};
use crate::run::{Run, lock};
use crate::stats::Latencies;
use crate::status::Status;
use crate::tcp_info;
use crate::wire::{Configuration, PageBytes, Reply, SectionType};
use cut_page::Cut;

/// Where pages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sink {
    /// Into guest RAM.
    #[default]
    Ram,
    /// Nowhere: source and network are measured alone.
    Discard,
}

/// What a run is to do.
#[derive(Clone)]
pub struct Plan {
    /// How many channels there will be.
    pub channels: ChannelCount,
    /// Where pages go.
    pub sink: Sink,
    /// Nothing for so long where something must come is a stall, nanoseconds.
    pub stall_ns: u64,
    /// How the pages of a mapped-ram file are read.
    pub file_reads: FileReads,
    /// The file once more, open with `O_DIRECT`, where it was handed over so.
    pub direct_file: Option<Arc<OwnedFd>>,
    /// The capability `switchover-ack` is on.
    pub switchover_ack: bool,
    /// Told when the status changes; on the main thread.
    pub observer: Arc<dyn Fn(Status) + Send + Sync>,
}

/// The main thread of one run.
pub struct Conductor {
    run: Arc<Run>,
    plan: Plan,
    pool: Arc<Mutex<Pool>>,
    readers: Vec<Reader>,
}

impl Conductor {
    /// Conducts `run` with its `readers`; guest RAM comes from `pool`.
    pub fn new(run: Arc<Run>, plan: Plan, pool: Arc<Mutex<Pool>>, readers: Vec<Reader>) -> Self {
        Self { run, plan, pool, readers }
    }

    /// Runs to the end, whichever it is; everybody else has let go then.
    pub fn run(self) -> Ended {
        let Self { run, plan, pool, readers } = self;
        run.main_thread.enter();
        let cpu_before = cpu_use();
        let mut received = Received::default();
        let result = caught(|| Walk::begin(&run, &plan, &pool, &readers, &mut received)?.walk());
        if let Err(error) = result {
            run.fail(error);
        }
        let now = now_ns();
        for channel in run.channels() {
            let last = channel.socket.upgrade().and_then(|fd| tcp_info::sample(&fd, now));
            lock(&channel.tcp).extend(last);
        }
        let reports: Vec<_> = readers.into_iter().map(Reader::stop).collect();
        let mut latencies = Latencies::new();
        reports.iter().for_each(|report| latencies.merge(&report.latencies));
        run.main_thread.leave();
        Ended {
            error: run.error().cloned(),
            received,
            latencies,
            reader_cpu: reports.iter().map(|report| report.cpu).collect(),
            main_cpu: cpu_use().since(cpu_before),
        }
    }
}

/// The walk along the main stream.
struct Walk<'run> {
    run: &'run Run,
    plan: &'run Plan,
    pool: &'run Mutex<Pool>,
    readers: &'run [Reader],
    received: &'run mut Received,
    input: Input,
    /// What main is, if it is a file.
    file: Option<SavedFile>,
    /// It has places for pages, and says of none that it has data.
    bitmaps_are_empty: bool,
    stream: MainStream,
    return_path: ReturnPath,
    page: PageBytes,
    pages: MainPages,
    inflate: PageInflate,
    /// Of which the input had a part only.
    cut: Option<Cut>,
    machine: Option<Box<str>>,
    rounds: Rounds,
    round: Cell<RoundStart>,
    silent_end: SilentEnd,
}

/// Sums at the beginning of a round.
#[derive(Clone, Copy, Default)]
struct RoundStart {
    at_ns: u64,
    normal: u64,
    zero: u64,
    wire_bytes: u64,
}

impl<'run> Walk<'run> {
    fn begin(
        run: &'run Run,
        plan: &'run Plan,
        pool: &'run Mutex<Pool>,
        readers: &'run [Reader],
        received: &'run mut Received,
    ) -> Result<Self, RunError> {
        let connection = settle::main_stream(run)?;
        let now = now_ns();
        run.phases().main_came = Some(now);
        run.main.last_activity_ns.set(now);
        run.main_turned_ns.set(now);
        run.main.wire_bytes.add(connection.first.len() as u64);
        let tls = connection.tls.map(|stream| {
            run.set_tls(stream.info().clone());
            Rc::new(RefCell::new(*stream))
        });
        if plan.channels == ChannelCount::Derived {
            // Nobody can know yet who is still to come.
            set_active(run, plan);
        }
        let mut file = SavedFile::of(&connection.fd, connection.first.len())?;
        if let (Some(file), Some(direct)) = (&mut file, &plan.direct_file) {
            file.have_direct(Arc::clone(direct));
        }
        let extent = file.as_ref().map(SavedFile::extent);
        Ok(Self {
            run,
            plan,
            pool,
            readers,
            received,
            input: Input::new(Arc::clone(&connection.fd), &connection.first, tls.clone()),
            file,
            bitmaps_are_empty: false,
            stream: MainStream::new(Options { file: extent, ..Options::default() }),
            return_path: ReturnPath::new(connection.fd, tls),
            page: PageBytes::DEFAULT,
            pages: MainPages::new(page_shift(PageBytes::DEFAULT), plan.sink == Sink::Ram),
            inflate: PageInflate::default(),
            cut: None,
            machine: None,
            rounds: Rounds::default(),
            round: Cell::new(RoundStart { at_ns: now, ..RoundStart::default() }),
            silent_end: SilentEnd::default(),
        })
    }

    fn walk(mut self) -> Result<(), RunError> {
        loop {
            match self.step() {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return self.finish(),
                Err(error) => {
                    // What is in its place counts, whatever came behind it.
                    mark_pages(self.run, &mut self.pages);
                    return Err(error);
                }
            }
        }
    }

    /// Takes what is there, then waits for more; breaks at the end.
    fn step(&mut self) -> Result<ControlFlow<()>, RunError> {
        loop {
            if !self.complete_cut_page() {
                return self.fill(false);
            }
            self.take_pages()?;
            let input = self.input.bytes();
            let (consumed, event) = match self.stream.step(input)? {
                Step::Need { at_boundary } => {
                    mark_pages(self.run, &mut self.pages);
                    self.begin_cut_page();
                    return self.fill(at_boundary);
                }
                Step::Event { consumed, event } => (consumed, event),
            };
            if let Some(mark) = self.rounds.on(&event) {
                mark_pages(self.run, &mut self.pages);
                self.settle_derived(mark.multifd)?;
                if mark.sync_point {
                    self.sync_point()?;
                }
            }
            match event {
                Event::Page { block, offset, bytes } => {
                    let taken = PageContent::Full(bytes);
                    take_page(&self.stream, self.run, &mut self.pages, block, offset, taken)?;
                }
                Event::Zero { block, offset } => {
                    let taken = PageContent::Zero;
                    take_page(&self.stream, self.run, &mut self.pages, block, offset, taken)?;
                }
                Event::SectionStart { section_type, idstr, .. } => {
                    note_passed_over(section_type, idstr);
                }
                Event::Header { .. }
                | Event::MultifdFlush
                | Event::SectionEnd { .. }
                | Event::Skipped => {}
                Event::Configuration(configuration) => self.configuration(*configuration)?,
                Event::Command(command) => {
                    let answer = answer_to(command)?;
                    self.command(answer)?;
                }
                Event::SectionContinue { section_type, .. } => {
                    if section_type == SectionType::END {
                        self.run.phases().switchover_start.get_or_insert_with(now_ns);
                    }
                }
                Event::RamBlocks(blocks) => {
                    self.ram_blocks(&blocks)?;
                    self.load(&blocks)?;
                }
                Event::Seek { file_offset } => {
                    self.input.seek(file_offset)?;
                    continue;
                }
                Event::Xbzrle { block, offset, encoded } => {
                    let taken = PageContent::Xbzrle(encoded);
                    take_page(&self.stream, self.run, &mut self.pages, block, offset, taken)?;
                }
                Event::CompressedPage { block, offset, encoded } => {
                    let page = self.inflate.page(encoded, self.page.as_usize());
                    let page =
                        page.map_err(|error| malformed_page(self.stream.position(), &error))?;
                    let taken = PageContent::Full(page);
                    take_page(&self.stream, self.run, &mut self.pages, block, offset, taken)?;
                }
                // Other iterables have an END too, and may have it later.
                Event::RamEos { section_type } => {
                    if section_type == SectionType::END {
                        self.run.phases().ram_done = Some(now_ns());
                    }
                }
                Event::DeviceTail { appended } => {
                    self.run.main.device_state_bytes.add(appended as u64);
                }
                Event::EndOfStream(certainty) => {
                    self.run.main.device_state_bytes.add(consumed as u64);
                    self.input.consume(consumed);
                    if self.is_the_end(certainty)? {
                        return Ok(ControlFlow::Break(()));
                    }
                    continue;
                }
            }
            self.input.consume(consumed);
        }
    }

    /// Takes the pages at the front of what is there: the quick way past
    /// [`MainStream::step`].
    fn take_pages(&mut self) -> Result<(), RunError> {
        loop {
            let input = self.input.bytes();
            let mut next = self.stream.next_page(input);
            if next.is_none() {
                return Ok(());
            }
            let place = placing(self.run);
            let mut batch = [NextPage::NONE; BATCH];
            let (mut have, mut used) = (0, 0);
            while let Some(page) = next {
                batch[have] = page;
                have += 1;
                used += page.consumed;
                next = if have < BATCH { self.stream.next_page(&input[used..]) } else { None };
            }
            let taken = self.pages.take_batch(&place, &batch[..have]);
            taken.map_err(|error| malformed_page(self.stream.position(), &error))?;
            self.input.consume(used);
        }
    }

    fn configuration(&mut self, configuration: Configuration) -> Result<(), RunError> {
        self.machine = Some(configuration.machine);
        configuration.uuid.map_or(Ok(()), |uuid| settle::uuid(self.run, uuid))
    }

    fn command(&mut self, answer: Answer) -> Result<(), RunError> {
        match answer {
            Answer::OpenReturnPath => {
                self.return_path.open();
                let one = self.plan.switchover_ack && acks_once(self.machine.as_deref());
                if one {
                    self.return_path.say(Reply::SwitchoverAck)?;
                }
            }
            Answer::Pong(value) => self.return_path.say(Reply::Pong(value))?,
            Answer::SwitchoverStart => {
                self.run.phases().switchover_start = Some(now_ns());
            }
            Answer::Advised => tracing::warn!(
                "the source has postcopy-ram on: as long as it stays with precopy all is well; \
                 if it starts postcopy this run fails"
            ),
            Answer::Nothing => {}
        }
        Ok(())
    }

    /// Derives the channel count, if that is to be done and has not been.
    fn settle_derived(&self, multifd: bool) -> Result<(), RunError> {
        if self.plan.channels == ChannelCount::Derived && self.run.sync().is_none() {
            let stall_ns = self.plan.stall_ns;
            let connections = settle::derived(self.run, &self.beside(), multifd, stall_ns)?;
            tracing::info!("multifd channels derived: {}", connections.len());
            self.attach(connections);
        }
        Ok(())
    }

    fn beside(&self) -> Beside<'_> {
        Beside { fd: self.input.fd(), return_path_open: self.return_path.is_open() }
    }

    fn attach(&self, connections: Vec<crate::door::Connection>) {
        let last_ns = self.run.arrivals().last_ns();
        {
            let mut phases = self.run.phases();
            phases.connected = phases.main_came.max(Some(last_ns));
        }
        let keep = self.plan.sink == Sink::Ram;
        settle::attach(self.run, self.readers, connections, self.page, keep);
        self.run.main_turned_ns.set(now_ns());
        self.round.set(RoundStart { at_ns: now_ns(), ..self.round.get() });
    }
}

/// Where main's pages go. The channels are known: [`Rounds::on`] asks for them
/// before the first page.
fn placing(run: &Run) -> Placing<'_> {
    let ram = run.ram().expect("RAM is known before pages");
    Placing { ram, main: &run.main, blocks: run.main_blocks() }
}

fn mark_pages(run: &Run, pages: &mut MainPages) {
    if !pages.is_empty() {
        pages.mark(&placing(run));
    }
}

/// A page on its own, where no quick way led.
fn take_page(
    stream: &MainStream,
    run: &Run,
    pages: &mut MainPages,
    block: usize,
    offset: u64,
    content: PageContent<'_>,
) -> Result<(), RunError> {
    let taken = pages.take(&placing(run), block, offset, content);
    taken.map_err(|error| malformed_page(stream.position(), &error))
}

fn malformed_page(at: u64, error: &dyn std::error::Error) -> RunError {
    RunError::new(Family::Malformed, format!("main stream, before byte {at}, ram: {error}"))
}

fn set_active(run: &Run, plan: &Plan) {
    {
        let mut status = run.status();
        if *status != Status::Setup {
            return;
        }
        *status = Status::Active;
    }
    (plan.observer)(Status::Active);
}

fn page_shift(page: PageBytes) -> u32 {
    page.get().trailing_zeros()
}

/// How often a wait looks around, milliseconds.
const TICK_MS: u16 = 100;
/// Silence after a stream whose end is not certain.
const GRACE_NS: u64 = 50 * NS_PER_MS;
const GRACE_POLL_MS: u16 = 5;
/// Rounds that are kept for the report; later ones are only in the sums.
const ROUNDS_MAX: usize = 10_000;

/// Pages that are placed together by the quick way: a packet's worth.
const BATCH: usize = 128;
