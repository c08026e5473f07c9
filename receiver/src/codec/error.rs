//! What is wrong with a compressed payload.

use crate::error::Family;
use crate::staging::StagingFull;

/// Why a payload is not the pages that its header tells of. `Copy`: the text is
/// made at the edge, behind the name of the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The decoder refuses the bytes.
    #[error("the payload is damaged")]
    Broken,
    /// More comes out than the packet has pages.
    #[error("the payload decodes to more than the packet's {pages_bytes} bytes of pages")]
    Excess {
        /// Bytes of the packet's normal pages.
        pages_bytes: u64,
    },
    /// The packet is over before its pages are.
    #[error("the payload decodes to {missing} bytes less than the packet has in pages")]
    Missing {
        /// Bytes of pages that did not come.
        missing: u64,
    },
    /// A stream without end has one.
    #[error("the channel's stream ends inside the payload; it must go on for the whole run")]
    Ended,
    /// The last unit of the payload has no end.
    #[error("the last unit has no end")]
    Unfinished,
    /// It can only be decoded with a dictionary that nobody has.
    #[error("the stream asks for a preset dictionary; sources use none")]
    Dictionary,
    /// A frame that is no data.
    #[error("the channel's stream begins with a skippable frame, must be a frame of data")]
    Skippable,
    /// Decoding would take a window beyond the cap.
    #[error("the frame's window is {found} bytes, limit {limit} (window log 25)")]
    Window {
        /// Bytes asked for.
        found: u64,
        /// The cap.
        limit: u64,
    },
    /// An entry of the table of lengths.
    #[error("the length of compressed page {page} is {found}, must be 1 to {limit}")]
    Length {
        /// Which page of the packet, from 0.
        page: usize,
        /// What was found.
        found: u32,
        /// The size of a page.
        limit: u32,
    },
    /// The table of lengths and the size of the payload contradict each other.
    #[error("the payload is {found} bytes long, its table of lengths says {expected}")]
    Size {
        /// `next_packet_size`.
        found: u64,
        /// The table and the lengths in it.
        expected: u64,
    },
    /// One compressed page is not a page.
    #[error("compressed page {page} does not decode to exactly one page")]
    Page {
        /// Which page of the packet, from 0.
        page: usize,
    },
    /// No room in the budget of staging memory.
    #[error(transparent)]
    Staging(#[from] StagingFull),
    /// The decoder could not be made.
    #[error("no memory for the decoder")]
    Memory,
}

impl CodecError {
    /// Whose fault it is.
    pub fn family(self) -> Family {
        match self {
            Self::Staging(_) | Self::Memory => Family::Environment,
            _ => Family::Malformed,
        }
    }
}
