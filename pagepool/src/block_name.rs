//! The name of a RAM block: QEMU's `idstr`, checked once.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A RAM block's `idstr` (QEMU `include/exec/ramblock.h`, `RAMBlock.idstr`): 1 to 255 bytes of
/// printable ASCII, such as `pc.ram` or `/rom@etc/acpi/tables`.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockName(Arc<str>);

impl BlockName {
    /// The most bytes a name has; the length on the wire is one byte.
    pub const BYTES_MAX: usize = 255;

    /// Checks the bytes of a name as they came from the wire, without a terminating NUL.
    ///
    /// # Errors
    /// An empty or over-long name, and any byte that is not printable ASCII.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlockNameError> {
        if bytes.is_empty() || bytes.len() > Self::BYTES_MAX {
            return Err(BlockNameError::Length { found: bytes.len() });
        }
        let bad = bytes.iter().position(|b| !matches!(b, 0x20..=0x7e));
        match (bad, std::str::from_utf8(bytes)) {
            (None, Ok(text)) => Ok(Self(Arc::from(text))),
            (bad, _) => {
                let at = bad.unwrap_or(0);
                Err(BlockNameError::Byte { found: bytes[at], at })
            }
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as bytes, as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Why bytes are not a block name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockNameError {
    /// The length is not within 1 to 255 bytes.
    #[error("block name has {found} bytes, allowed are 1 to 255")]
    Length {
        /// Bytes found.
        found: usize,
    },
    /// A byte is not printable ASCII.
    #[error("block name has byte {found:#04x} at {at}, allowed is printable ASCII")]
    Byte {
        /// The byte.
        found: u8,
        /// Its index in the name.
        at: usize,
    },
}

impl TryFrom<&[u8]> for BlockName {
    type Error = BlockNameError;

    fn try_from(bytes: &[u8]) -> Result<Self, BlockNameError> {
        Self::parse(bytes)
    }
}

impl TryFrom<&str> for BlockName {
    type Error = BlockNameError;

    fn try_from(text: &str) -> Result<Self, BlockNameError> {
        Self::parse(text.as_bytes())
    }
}

impl std::str::FromStr for BlockName {
    type Err = BlockNameError;

    fn from_str(text: &str) -> Result<Self, BlockNameError> {
        Self::parse(text.as_bytes())
    }
}

/// Lets a map keyed by names be asked with a plain `str`, without an allocation.
impl Borrow<str> for BlockName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockName, BlockNameError};

    #[test]
    fn every_byte_outside_printable_ascii_is_refused() {
        for byte in 0..=u8::MAX {
            let parsed = BlockName::parse(&[b'a', byte]);
            let printable = (0x20..=0x7e).contains(&byte);
            assert_eq!(parsed.is_ok(), printable, "byte {byte:#x}");
            if !printable {
                assert_eq!(parsed, Err(BlockNameError::Byte { found: byte, at: 1 }));
            }
        }
    }

    #[test]
    fn lengths_1_to_255_are_names() {
        for length in [0, 1, 255, 256] {
            let parsed = BlockName::parse(&vec![b'x'; length]);
            assert_eq!(parsed.is_ok(), (1..=255).contains(&length), "length {length}");
        }
    }
}
