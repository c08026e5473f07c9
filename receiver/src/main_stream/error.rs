//! Why a main stream was refused: where, found, allowed.

use std::fmt;

use thiserror::Error;

use crate::wire::vmdesc::DescriptionError;
use crate::wire::{SectionType, WireError};

/// The first thing wrong with a stream. Nothing after it can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError(Box<Report>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    position: u64,
    place: Place,
    fault: StreamFault,
}

/// Whose fault it is (design: errors and hostile input).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Bytes break the format.
    Malformed,
    /// Legal bytes at an illegal moment.
    Misbehaved,
    /// A real feature that we refuse.
    Unsupported,
}

/// In which part of the stream something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Magic and version.
    Header,
    /// The configuration section.
    Configuration,
    /// The beginning of a record.
    Record,
    /// A command.
    Command,
    /// Inside a section.
    Section {
        /// Which iterable or device.
        idstr: Box<str>,
        /// Its key.
        section_id: u32,
    },
    /// The state of the devices.
    DeviceState,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamFault {
    /// A structure breaks its format.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The description of the device state is not accepted.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// The source closed the connection before the end.
    #[error("the source closed the connection here, before the end of the migration")]
    Truncated,
    /// The file ends before the stream does.
    #[error(
        "the file ends here, before the end of the migration: it was cut off, or its save is not \
         finished"
    )]
    FileEnds,
    /// The pages of a mapped-ram file lie past its end.
    #[error(
        "the pages of block '{block}' end at byte {end} of the file, which has {bytes}: it was \
         cut off, or its save is not finished"
    )]
    PastEndOfFile {
        /// The block's name.
        block: Box<str>,
        /// One past the place of its last page.
        end: u64,
        /// How long the file is.
        bytes: u64,
    },
    /// No record has this type, or not here.
    #[error("{found} is no record that may come here")]
    RecordType {
        /// The type byte.
        found: SectionType,
    },
    /// A page lies outside its block.
    #[error("page offset {offset:#x} is past used_length {used_bytes:#x} of block '{block}'")]
    PageOutside {
        /// The block's name.
        block: Box<str>,
        /// The page's offset.
        offset: u64,
        /// The block's length.
        used_bytes: u64,
    },
    /// An item names a block that is not in the list.
    #[error("block '{name}' is not in the source's list")]
    UnknownBlock {
        /// The name.
        name: Box<str>,
    },
    /// A CONTINUE item has nothing to continue.
    #[error("an item continues the block of the item before, but there was none")]
    NoPreviousBlock,
    /// The list of blocks comes where it may not: twice, or outside START.
    #[error("the list of RAM blocks may come only once, at the beginning of ram START")]
    BlocksAgain,
    /// Something of RAM comes before the list of blocks.
    #[error("an item comes before the list of RAM blocks")]
    BlocksMissing,
    /// Two blocks have one name.
    #[error("block '{name}' is in the list twice")]
    BlockTwice {
        /// The name.
        name: Box<str>,
    },
    /// The blocks' lengths do not add up to the total.
    #[error(
        "used_length {used_bytes:#x} of block '{name}' is past the {left:#x} bytes left of the total"
    )]
    BlocksPastTotal {
        /// The block's name.
        name: Box<str>,
        /// Its length.
        used_bytes: u64,
        /// What was left of the total before it.
        left: u64,
    },
    /// A number of things or bytes is above its limit.
    #[error("{what} is {found}, limit {limit}")]
    OverLimit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The list of blocks is empty.
    #[error("the list of RAM blocks is empty")]
    NoBlocks,
    /// A section's id is in use already.
    #[error("section id {section_id} is in use already")]
    SectionTwice {
        /// The id.
        section_id: u32,
    },
    /// A record belongs to a section that has not started, or has ended.
    #[error("{section_type} belongs to section {section_id}, which is not open")]
    SectionNotOpen {
        /// PART or END.
        section_type: SectionType,
        /// The id.
        section_id: u32,
    },
    /// A footer has another id than its section.
    #[error("the footer has section id {found}, must be {expected}")]
    FooterId {
        /// In the footer.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// Other sections had footers, this one has none.
    #[error("{found} stands where the section's footer must be")]
    FooterMissing {
        /// The byte there.
        found: SectionType,
    },
    /// A command at a moment when it has no meaning.
    #[error("command {command} {why}")]
    CommandOutOfPlace {
        /// Its name, and what it says where that counts.
        command: Box<str>,
        /// What is wrong with the moment.
        why: &'static str,
    },
    /// A section that exists once exists again, or in the wrong form.
    #[error("{what}")]
    Misplaced {
        /// In words.
        what: &'static str,
    },
    /// A real feature that we refuse.
    #[error("{what} is not supported: on the source, {remedy}")]
    Unsupported {
        /// The feature.
        what: Box<str>,
        /// What to do about it there.
        remedy: &'static str,
    },
}

impl StreamError {
    pub(super) fn new(position: u64, place: Place, fault: StreamFault) -> Self {
        Self(Box::new(Report { position, place, fault }))
    }

    /// Whose fault it is.
    pub fn family(&self) -> Family {
        match self.0.fault {
            StreamFault::Wire(_)
            | StreamFault::Description(_)
            | StreamFault::RecordType { .. }
            | StreamFault::PageOutside { .. }
            | StreamFault::UnknownBlock { .. }
            | StreamFault::BlockTwice { .. }
            | StreamFault::BlocksPastTotal { .. }
            | StreamFault::OverLimit { .. }
            | StreamFault::NoBlocks
            | StreamFault::PastEndOfFile { .. }
            | StreamFault::FooterId { .. }
            | StreamFault::FooterMissing { .. } => Family::Malformed,
            StreamFault::Truncated
            | StreamFault::FileEnds
            | StreamFault::NoPreviousBlock
            | StreamFault::BlocksAgain
            | StreamFault::BlocksMissing
            | StreamFault::SectionTwice { .. }
            | StreamFault::SectionNotOpen { .. }
            | StreamFault::CommandOutOfPlace { .. }
            | StreamFault::Misplaced { .. } => Family::Misbehaved,
            StreamFault::Unsupported { .. } => Family::Unsupported,
        }
    }

    /// Where in the stream, in bytes from its first.
    pub fn position(&self) -> u64 {
        self.0.position
    }

    /// In which part of the stream.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What it is.
    pub fn fault(&self) -> &StreamFault {
        &self.0.fault
    }

    /// True if the stream just stopped, as it does when the source dies or
    /// cancels.
    pub fn is_truncated(&self) -> bool {
        matches!(self.0.fault, StreamFault::Truncated | StreamFault::FileEnds)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { position, place, fault } = &*self.0;
        write!(f, "main stream, byte {position}, {place}: {fault}")
    }
}

impl std::error::Error for StreamError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Configuration => f.write_str("configuration section"),
            Self::Record => f.write_str("record"),
            Self::Command => f.write_str("command"),
            Self::Section { idstr, section_id } => write!(f, "{idstr} section {section_id}"),
            Self::DeviceState => f.write_str("device state"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_where_what_was_found_and_what_is_allowed() {
        let place = Place::Section { idstr: "ram".into(), section_id: 1 };
        let fault = StreamFault::PageOutside {
            block: "pc.ram".into(),
            offset: 0x500_0000,
            used_bytes: 0x400_0000,
        };
        let error = StreamError::new(46_137_344, place, fault);
        assert_eq!(
            error.to_string(),
            "main stream, byte 46137344, ram section 1: page offset 0x5000000 is past \
             used_length 0x4000000 of block 'pc.ram'"
        );
        assert_eq!(error.family(), Family::Malformed);
    }

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<StreamError>(), size_of::<usize>());
    }
}
