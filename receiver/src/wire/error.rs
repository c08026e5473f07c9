//! What is wrong with some bytes: field, place, found, limit.

use thiserror::Error;

/// A structure on the wire that breaks its format.
///
/// `Copy` and without allocation, so that making one costs nothing; the text
/// is made where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{field} {fault}")]
pub struct WireError {
    /// The field, in the words of the wire format.
    pub field: &'static str,
    /// Where the field begins, in bytes from the start of the structure.
    pub at: usize,
    /// What is wrong with it.
    #[source]
    pub fault: WireFault,
}

/// The ways in which a field can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireFault {
    /// The bytes end inside the field.
    #[error("is cut: {missing} more bytes needed")]
    Short {
        /// Bytes that the field still needs, at least 1.
        missing: usize,
    },
    /// The value is above what is allowed.
    #[error("is {found}, limit {limit}")]
    OverLimit {
        /// The value on the wire.
        found: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// The value is below what is allowed.
    #[error("is {found}, at least {limit} needed")]
    UnderLimit {
        /// The value on the wire.
        found: u64,
        /// The smallest value allowed.
        limit: u64,
    },
    /// The value must be exactly another one.
    #[error("is {found:#x}, must be {expected:#x}")]
    Mismatch {
        /// The value on the wire.
        found: u64,
        /// The only value allowed.
        expected: u64,
    },
    /// The value is none of those with a meaning.
    #[error("is {found:#x}, which has no known meaning")]
    Unknown {
        /// The value on the wire.
        found: u64,
    },
    /// The value is not a multiple of its unit.
    #[error("is {found:#x}, not a multiple of {unit:#x}")]
    Unaligned {
        /// The value on the wire.
        found: u64,
        /// What it must be a multiple of.
        unit: u64,
    },
    /// The value is not a power of two.
    #[error("is {found:#x}, not a power of two")]
    NotPowerOfTwo {
        /// The value on the wire.
        found: u64,
    },
    /// A name holds a byte outside printable ASCII.
    #[error("holds the byte {byte:#04x}, which is not printable")]
    NotPrintable {
        /// The first such byte.
        byte: u8,
    },
    /// A name is empty.
    #[error("is empty")]
    Empty,
    /// Something that may occur once occurs again.
    #[error("occurs twice")]
    Twice,
    /// Bytes are left over after the structure.
    #[error("has {extra} bytes left over")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

impl WireError {
    /// True if more bytes could still make the structure whole.
    #[inline]
    pub const fn is_short(&self) -> bool {
        matches!(self.fault, WireFault::Short { .. })
    }
}
