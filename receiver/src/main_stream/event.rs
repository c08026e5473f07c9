//! What the main stream tells its driver, one step at a time.

use std::sync::Arc;

use crate::wire::{BlockInfo, Command, Configuration, SectionType};

/// What [`super::MainStream::step`] found at the front of its input.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// More bytes are needed than the input has.
    Need {
        /// True if the stream may rest here for as long as the source likes:
        /// nothing is begun and unfinished.
        at_boundary: bool,
    },
    /// Something is there.
    Event {
        /// How many bytes of the input it was. May be 0; there is progress
        /// nevertheless.
        consumed: usize,
        /// What it was.
        event: Event<'a>,
    },
}

/// One thing in the main stream.
///
/// The tag has 8 bytes so that an event is copied in whole words: measured,
/// that halves the cost of a step.
#[derive(Debug, PartialEq)]
#[repr(u64)]
pub enum Event<'a> {
    /// Magic and version.
    Header {
        /// Always 3.
        version: u32,
    },
    /// The configuration section, whole. Sources without one (machine types
    /// up to 2.3) go from the header straight to the first record.
    Configuration(Box<Configuration>),
    /// A command that is legal here and that we speak.
    Command(Command<'a>),
    /// The header of a section: START, or FULL of an early one (a device's
    /// state that comes before the end of RAM).
    ///
    /// An unknown device's FULL there is early only if it ends with
    /// [`Event::SectionEnd`]; if [`Event::DeviceTail`] comes instead, it was
    /// the first of the device state, as in a background snapshot, which has
    /// no END of RAM.
    SectionStart {
        /// START or FULL.
        section_type: SectionType,
        /// Key of the section from now on.
        section_id: u32,
        /// Which iterable or device.
        idstr: &'a str,
        /// Tells those of the same idstr apart.
        instance_id: u32,
        /// Version of the section's format.
        version_id: u32,
    },
    /// The header of a further record of a section that has started.
    SectionContinue {
        /// PART or END.
        section_type: SectionType,
        /// Which section.
        section_id: u32,
    },
    /// All RAM blocks, once, in the source's order. `block` in the events
    /// below counts in this list.
    RamBlocks(Arc<[BlockInfo]>),
    /// The stream goes on elsewhere in its file (mapped-ram): what is left of
    /// the input is none of it, and the next byte is the one at this offset of
    /// the file. It lies behind everything that was consumed and, as the file
    /// was when the stream began, not past its end.
    Seek {
        /// Absolute in the file, in bytes.
        file_offset: u64,
    },
    /// A page with its bytes.
    Page {
        /// Index in the list of blocks.
        block: usize,
        /// Offset in the block, in bytes; checked: the page lies inside.
        offset: u64,
        /// Exactly one page.
        bytes: &'a [u8],
    },
    /// A page that is zero now.
    Zero {
        /// Index in the list of blocks.
        block: usize,
        /// Offset in the block, in bytes; checked: the page lies inside.
        offset: u64,
    },
    /// A page as the difference to its present content.
    Xbzrle {
        /// Index in the list of blocks.
        block: usize,
        /// Offset in the block, in bytes; checked: the page lies inside.
        offset: u64,
        /// The runs, not looked at; at most a page long.
        encoded: &'a [u8],
    },
    /// A page as one zlib stream (capability `compress`, up to 9.0).
    CompressedPage {
        /// Index in the list of blocks.
        block: usize,
        /// Offset in the block, in bytes; checked: the page lies inside.
        offset: u64,
        /// The stream, not looked at; at most what zlib can make of a page.
        encoded: &'a [u8],
    },
    /// A sync point of modern multifd.
    MultifdFlush,
    /// The end of a RAM section's payload; a sync point of legacy multifd.
    RamEos {
        /// START, PART or END; after END all RAM has been sent.
        section_type: SectionType,
    },
    /// A section is complete: its footer was right, or the stream has none.
    SectionEnd {
        /// START, PART, END, or FULL of an early section.
        section_type: SectionType,
        /// Which section.
        section_id: u32,
    },
    /// Bytes of a section whose content is of no use here.
    Skipped,
    /// Bytes of the device state; the machine keeps them.
    DeviceTail {
        /// How many.
        appended: usize,
    },
    /// Up to here the bytes are a whole migration: the description of the
    /// device state is there and fits the state exactly.
    ///
    /// The source sends nothing more and does not close, so whether this is
    /// the end only silence can tell: [`Certainty`] says how much of it is
    /// needed. If more bytes come after all, step on: the search continues.
    EndOfStream(Certainty),
}

/// A page that goes on in the block of the item before it:
/// [`super::MainStream::next_page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextPage<'a> {
    /// Index in the list of blocks.
    pub block: usize,
    /// Offset in the block, in bytes; checked: the page lies inside.
    pub offset: u64,
    /// What it holds now.
    pub content: PageContent<'a>,
    /// How many bytes of the input it was.
    pub consumed: usize,
}

impl NextPage<'_> {
    /// In the place of a page that has not come.
    pub const NONE: Self = Self { block: 0, offset: 0, content: PageContent::Zero, consumed: 0 };
}

/// A page of which there is a part only: [`super::MainStream::cut_page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPage<'a> {
    /// Index in the list of blocks.
    pub block: usize,
    /// Offset in the block, in bytes; checked: the page lies inside.
    pub offset: u64,
    /// Its first bytes, one at least and not all.
    pub bytes: &'a [u8],
    /// How many bytes of the input it was, with its item.
    pub consumed: usize,
}

/// What a page holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageContent<'a> {
    /// Exactly one page.
    Full(&'a [u8]),
    /// Zero.
    Zero,
    /// What it held, changed as these bytes say ([`crate::wire::xbzrle`]).
    Xbzrle(&'a [u8]),
}

/// How sure [`Event::EndOfStream`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The only candidate, and every section's footer is where its sizes
    /// lead: if one non-blocking read now finds nothing, this is the end.
    Exact,
    /// A stream without footers, not the first candidate, or sizes that do
    /// not add up: wait for [`super::GRACE_MS`] without a byte.
    NeedsGrace,
}

/// How a stream ended whose source closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After [`Event::EndOfStream`], with no byte more.
    Complete,
    /// After what looks like the end of the device state, without a
    /// description: the source runs with `suppress-vmdesc=on` or a machine
    /// type up to 2.2, or died at this very byte. Sections cannot be told
    /// apart.
    WithoutDescription,
}
