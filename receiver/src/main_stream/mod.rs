//! The main stream: a pure state machine over bytes.
//!
//! ```text
//! header ▶ [configuration] ▶ record* ▶ device state ▶ EOF ▶ description
//!                              │ ▲
//!            command ──────────┤ │
//!            ram: list, items ─┤ │  footer
//!            other iterable ───┤ │
//!            early device ─────┘ │
//!                  └─────────────┘
//! ```
//!
//! [`MainStream::step`] looks at all bytes that have not been consumed and says
//! what is at their front; it never needs more than [`INPUT_BYTES_MAX`] of
//! them. Sockets, buffers, memory and clocks are the driver's. The device
//! state is the one thing that it keeps, since only the description at the end
//! says what is in it.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod device_state;
mod error;
mod event;
mod footer_search;
pub mod fuzzing;
mod payload;
mod ram;
mod records;
mod sections;
mod tail;

pub use device_state::{DeviceSection, DeviceState};
pub use error::{Family, Place, StreamError, StreamFault};
pub use event::{Certainty, CutPage, End, Event, NextPage, PageContent, Step};

use std::sync::Arc;

use crate::wire::vmdesc::{Walked, run_state};
use crate::wire::{
    BlockInfo, FileExtent, Footers, PageBytes, RamFlags, RamItem, SectionType, iterables::Walk,
};
use ram::{Ram, XBZRLE_ENCODING};
use sections::Sections;
use tail::Tail;

/// What a [`MainStream`] must be told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The target's page size where the stream does not say it.
    pub page: PageBytes,
    /// The most RAM, in bytes, that a source may announce. That there is room
    /// for it is for the driver to see.
    pub ram_bytes_max: u64,
    /// The most device state, description included, that is kept, in bytes.
    pub tail_bytes_max: usize,
    /// The file that the stream is read from, if it is one: only there pages
    /// can have places of their own (mapped-ram).
    pub file: Option<FileExtent>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            page: PageBytes::DEFAULT,
            ram_bytes_max: u64::MAX,
            tail_bytes_max: TAIL_BYTES_MAX,
            file: None,
        }
    }
}

/// The main stream of one migration.
#[derive(Debug)]
pub struct MainStream {
    fast: Fast,
    phase: Phase,
    position: u64,
    options: Options,
    page: PageBytes,
    page_is_certain: bool,
    x_ignore_shared: bool,
    mapped_ram: bool,
    footers: Footers,
    sections: Sections,
    /// Early devices, in the stream's order, as the description lists them.
    early: Vec<(Box<str>, u32)>,
    /// The device that is early or the first of the device state.
    undecided: Option<(Box<str>, u32)>,
    return_path_opened: bool,
    advised: bool,
    page_bytes_summary: Option<u64>,
    switchover_started: bool,
    ram_started: bool,
    ram_ended: bool,
    ram: Ram,
    configuration_bytes: Vec<u8>,
    tail: Tail,
}

/// What the commonest items need: pages of the same block in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Fast {
    /// One past the last offset allowed; 0 where no such item may come.
    limit: u64,
    block: usize,
}

/// Where in the stream we are.
#[derive(Clone, Debug)]
enum Phase {
    Header,
    Configuration,
    Record,
    Ram(Open),
    Walk(Open, Walk),
    Search(Open),
    Footer(Open),
    Tail,
}

/// The record whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    section_type: SectionType,
    section_id: u32,
}

impl MainStream {
    /// At the first byte of a stream.
    pub fn new(options: Options) -> Self {
        Self {
            fast: Fast::default(),
            phase: Phase::Header,
            position: 0,
            options,
            page: options.page,
            page_is_certain: false,
            x_ignore_shared: false,
            mapped_ram: false,
            footers: Footers::Unknown,
            sections: Sections::default(),
            early: Vec::new(),
            undecided: None,
            return_path_opened: false,
            advised: false,
            page_bytes_summary: None,
            switchover_started: false,
            ram_started: false,
            ram_ended: false,
            ram: Ram::default(),
            configuration_bytes: Vec::new(),
            tail: Tail::default(),
        }
    }

    /// Looks at `input`, all bytes not consumed yet, and returns one step.
    ///
    /// The caller drops `consumed` bytes from the front of its input and calls
    /// again; upon [`Step::Need`] it first appends what has come since. With
    /// [`INPUT_BYTES_MAX`] bytes of input the answer is never `Need`. The same
    /// bytes give the same events whatever the pieces in which they come, but
    /// for how [`Event::Skipped`] and [`Event::DeviceTail`] are divided.
    ///
    /// # Errors
    ///
    /// The first thing wrong with the stream. The machine is of no use then.
    #[inline]
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, StreamError> {
        let Some(NextPage { block, offset, content, consumed }) = self.next_page(input) else {
            return self.step_otherwise(input);
        };
        let event = match content {
            PageContent::Full(bytes) => Event::Page { block, offset, bytes },
            PageContent::Zero => Event::Zero { block, offset },
            PageContent::Xbzrle(encoded) => Event::Xbzrle { block, offset, encoded },
        };
        Ok(Step::Event { consumed, event })
    }

    /// The next item, if that is a page in the block of the item before it.
    ///
    /// [`MainStream::step`] says the same, but an event is large and takes time
    /// to move: about 2 ns here, ten times that there. So a driver asks here
    /// first. `None` says nothing: step then.
    #[inline]
    pub fn next_page<'a>(&mut self, input: &'a [u8]) -> Option<NextPage<'a>> {
        let (number, rest) = input.split_first_chunk::<8>()?;
        let RamItem { flags, address: offset } =
            RamItem::split(u64::from_be_bytes(*number), self.page);
        // Both are multiples of the page size: the page lies inside.
        if offset >= self.fast.limit {
            return None;
        }
        let page_bytes = self.page.as_usize();
        let (content, consumed) = if flags == PAGE_CONTINUE {
            (PageContent::Full(rest.get(..page_bytes)?), page_bytes.wrapping_add(8))
        } else if flags == ZERO_CONTINUE && rest.first() == Some(&0) {
            self.ram.count_zero_item();
            (PageContent::Zero, 9)
        } else if flags == XBZRLE_CONTINUE {
            let ([XBZRLE_ENCODING, high, low], rest) = rest.split_first_chunk()? else {
                return None;
            };
            let bytes = usize::from(u16::from_be_bytes([*high, *low]));
            if bytes > page_bytes {
                return None;
            }
            (PageContent::Xbzrle(rest.get(..bytes)?), bytes.wrapping_add(11))
        } else {
            return None;
        };
        self.position = self.position.wrapping_add(wide(consumed));
        Some(NextPage { block: self.fast.block, offset, content, consumed })
    }

    /// The full page that all of `input` is the beginning of, if it is one for
    /// [`MainStream::next_page`]: a driver may put its parts into place as they come, and need
    /// not keep them together. Changes nothing.
    ///
    /// The input goes on behind the page once [`MainStream::passed_page`] was called; what comes
    /// until then is no business of the machine.
    pub fn cut_page<'a>(&self, input: &'a [u8]) -> Option<CutPage<'a>> {
        let (number, bytes) = input.split_first_chunk::<8>()?;
        let RamItem { flags, address: offset } =
            RamItem::split(u64::from_be_bytes(*number), self.page);
        let is_page = flags == PAGE_CONTINUE && offset < self.fast.limit;
        let is_part = !bytes.is_empty() && bytes.len() < self.page.as_usize();
        let page = CutPage { block: self.fast.block, offset, bytes, consumed: input.len() };
        (is_page && is_part).then_some(page)
    }

    /// All of the page has come that [`MainStream::cut_page`] told of.
    pub fn passed_page(&mut self) {
        self.position = self.position.wrapping_add(wide(self.page.as_usize())).wrapping_add(8);
    }

    #[inline(never)]
    fn step_otherwise<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, StreamError> {
        match self.phase {
            Phase::Header => self.header(input),
            Phase::Configuration => self.configuration(input),
            Phase::Record => self.record(input),
            Phase::Ram(open) => self.ram(input, open),
            Phase::Walk(open, ref walk) => {
                let walk = walk.clone();
                self.walk(input, open, walk)
            }
            Phase::Search(open) => self.search(input, open),
            Phase::Footer(open) => self.footer(input, open),
            Phase::Tail => self.tail(input),
        }
    }

    /// Says how the stream ended, when the source has closed the connection
    /// and every byte has been consumed that could be.
    ///
    /// Changes nothing, so that a driver whose source has gone silent may call
    /// it to learn what was missing.
    ///
    /// # Errors
    ///
    /// If the stream is not complete: with the reason why the description was
    /// refused if that is what is wrong, else as cut off.
    pub fn end_of_input(&self) -> Result<End, StreamError> {
        if matches!(self.phase, Phase::Tail) {
            if self.tail.is_complete() {
                return Ok(End::Complete);
            }
            if self.tail.ends_without_description(self.footers) {
                return Ok(End::WithoutDescription);
            }
            if let Some(error) = self.tail.unfit() {
                return Err(self.error(Place::DeviceState, StreamFault::Description(error)));
            }
        }
        let place = match self.phase {
            Phase::Header => Place::Header,
            Phase::Configuration | Phase::Record => Place::Record,
            Phase::Ram(open) | Phase::Walk(open, _) | Phase::Search(open) | Phase::Footer(open) => {
                self.place(open)
            }
            Phase::Tail => Place::DeviceState,
        };
        let fault = match self.options.file {
            Some(_) => StreamFault::FileEnds,
            None => StreamFault::Truncated,
        };
        Err(self.error(place, fault))
    }

    /// Takes out what was kept of the stream. Sections, description and run
    /// state are there after [`Event::EndOfStream`]; after an end without
    /// description there is the tail alone.
    pub fn take_device_state(&mut self) -> DeviceState {
        let (tail, vmdesc, Walked { sections, misfit }) = self.tail.take();
        let run_state = sections
            .iter()
            .find(|section| &*section.idstr == "globalstate")
            .and_then(|section| tail.get(section.body_offset..)?.get(..section.body_bytes))
            .and_then(run_state)
            .map(Box::from);
        let configuration = std::mem::take(&mut self.configuration_bytes);
        DeviceState { configuration, tail, vmdesc, sections, misfit, run_state }
    }

    /// Where in the stream it stands, in bytes from the first; where nothing
    /// was skipped, all of them have been consumed.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The target's page size; final from RAM's START on.
    pub fn page(&self) -> PageBytes {
        self.page
    }

    /// The RAM blocks, once their list is complete.
    pub fn blocks(&self) -> Option<&Arc<[BlockInfo]>> {
        self.ram.blocks()
    }

    /// Whether RAM's START had a MULTIFD_FLUSH: if multifd is on, `true` is
    /// modern (sync points are the FLUSHes) and `false` legacy (sync points
    /// are the ends of RAM payloads). `None` until the EOS of START.
    pub fn start_has_flush(&self) -> Option<bool> {
        self.ram.start_has_flush()
    }

    /// ZERO items so far. With multifd: the source detects zero pages in the
    /// old way.
    pub fn zero_items(&self) -> u64 {
        self.ram.zero_items()
    }

    /// Whether the sections have footers.
    pub fn footers(&self) -> Footers {
        self.footers
    }

    /// True once RAM's END, with its footer, is past.
    pub fn ram_ended(&self) -> bool {
        self.ram_ended
    }

    /// True once POSTCOPY_ADVISE announced postcopy of RAM: one more silent
    /// connection may then be the source's.
    pub fn postcopy_advised(&self) -> bool {
        self.page_bytes_summary.is_some()
    }

    /// True if the device state has begun.
    pub fn in_device_state(&self) -> bool {
        matches!(self.phase, Phase::Tail)
    }

    /// True if the bytes so far could be all of a source that sends no
    /// description (`suppress-vmdesc=on`, machine types up to 2.2). With the
    /// return path open such a source neither closes nor says that it has
    /// ended: only an idle timeout can tell.
    pub fn may_lack_description(&self) -> bool {
        self.in_device_state() && self.tail.ends_without_description(self.footers)
    }

    /// True if [`MainStream::may_lack_description`], and moreover the footer at
    /// the end is that of a section of the device state, as far as streams have
    /// footers. Looks at all of the device state: to be asked after a silence,
    /// not after every byte.
    pub fn may_end_in_silence(&self) -> bool {
        self.in_device_state() && self.tail.ends_with_a_section(self.footers)
    }

    #[inline]
    fn took<'a>(&mut self, consumed: usize, event: Event<'a>) -> Step<'a> {
        self.position = self.position.wrapping_add(wide(consumed));
        Step::Event { consumed, event }
    }

    fn place(&self, open: Open) -> Place {
        let idstr = self.sections.idstr(open.section_id).into();
        Place::Section { idstr, section_id: open.section_id }
    }

    fn error(&self, place: Place, fault: StreamFault) -> StreamError {
        self.error_at(0, place, fault)
    }

    #[cold]
    fn error_at(&self, at: usize, place: Place, fault: StreamFault) -> StreamError {
        StreamError::new(self.position.saturating_add(wide(at)), place, fault)
    }
}

#[inline]
fn wide(bytes: usize) -> u64 {
    // usize has at most 64 bits on every target of Linux.
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The most bytes that a step needs to see at once. The longest item is a
/// compressed page of 64 KiB with a block's name; the longest command has
/// 65535 bytes; the longest configuration section about 50 KiB.
pub const INPUT_BYTES_MAX: usize = 128 * 1024;

/// The most device state that is kept unless told otherwise, in bytes. A
/// large machine has some tens of MiB, one with a GPU more.
pub const TAIL_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// How long, in ms, no byte may come after an end that
/// [`Certainty::NeedsGrace`] before it is one.
pub const GRACE_MS: u64 = 50;

const PAGE_CONTINUE: RamFlags = RamFlags(RamFlags::PAGE.0 | RamFlags::CONTINUE.0);
const ZERO_CONTINUE: RamFlags = RamFlags(RamFlags::ZERO.0 | RamFlags::CONTINUE.0);
const XBZRLE_CONTINUE: RamFlags = RamFlags(RamFlags::XBZRLE.0 | RamFlags::CONTINUE.0);

#[allow(clippy::as_conversions, reason = "widening, in a const")]
const _: () = assert!(INPUT_BYTES_MAX > PageBytes::MAX as usize + 512);

#[cfg(test)]
mod tests;
