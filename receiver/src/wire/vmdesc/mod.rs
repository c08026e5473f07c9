//! The description of the device state at the end of a stream.
//!
//! A device's section has no length on the wire, and its layout is known only
//! to the device. The source sends, last of all, a JSON text with the size of
//! every field; with that the sections before it can be told apart, and an end
//! can be told from bytes that only look like one.

mod parse;
mod walk;

pub use parse::{Description, Device, FieldBytes, Subsection};
pub use walk::{DeviceSection, Surroundings, Walked, run_state};

use thiserror::Error;

/// Why a description, or the state it is said to describe, was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DescriptionError {
    /// It is no JSON, or not of this shape.
    #[error("the description is not understood at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// It does not fit the state.
    #[error("at byte {at} of the device state, entry {entry} of the description: {what}")]
    Unfit {
        /// Where in the state, in bytes from its first section.
        at: usize,
        /// Which entry of `devices`, from 0.
        entry: usize,
        /// What does not fit.
        what: &'static str,
    },
}

/// The longest description that is accepted; those of real machines have 40
/// to 200 KB.
pub const DESCRIPTION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The shortest text that could be one: `{"a":[{}]}` and the like.
pub const DESCRIPTION_BYTES_MIN: usize = 10;
