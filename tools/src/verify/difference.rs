//! The first difference, and how it is told.

use std::fmt;

/// Why two images are not equal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// A side lacks a block.
    Missing {
        /// The block.
        block: String,
        /// `A` or `B`.
        side: char,
    },
    /// A block has two sizes.
    Size {
        /// The block.
        block: String,
        /// In A, bytes.
        a: u64,
        /// In B, bytes.
        b: u64,
    },
    /// A byte differs.
    Content(Content),
}

/// The first byte that differs in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The block.
    pub(super) block: String,
    /// The byte's offset in it.
    pub(super) offset: u64,
    /// The size of a page, for the index of the page.
    pub(super) page_bytes: u64,
    /// Where the bytes shown begin in the block.
    pub(super) shown_from: u64,
    /// They in A.
    pub(super) a: Vec<u8>,
    /// They in B.
    pub(super) b: Vec<u8>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { block, side } => write!(f, "block {block} is missing in {side}"),
            Self::Size { block, a, b } => {
                write!(f, "block {block} has {a} bytes in A and {b} bytes in B")
            }
            Self::Content(content) => content.fmt(f),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, offset, page_bytes, shown_from, a, b } = self;
        let page = offset / page_bytes;
        writeln!(f, "block {block} at byte {offset:#x}, in page {page} of {page_bytes} bytes")?;
        writeln!(f, "  A {shown_from:#014x} {}", Hex(a))?;
        writeln!(f, "  B {shown_from:#014x} {}", Hex(b))?;
        let indent = usize::try_from(offset - shown_from).unwrap_or(0) * HEX_COLUMNS;
        write!(f, "  {:indent$}{:17} ^^", "", "")
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

/// A byte in hex, and the blank before it.
const HEX_COLUMNS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_points_at_its_byte() {
        let content = Content {
            block: "pc.ram".to_owned(),
            offset: 0x2013,
            page_bytes: 4096,
            shown_from: 0x2010,
            a: vec![0, 1, 2, 3, 4],
            b: vec![0, 1, 2, 0xff, 4],
        };
        let text = Difference::Content(content).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "block pc.ram at byte 0x2013, in page 2 of 4096 bytes");
        assert_eq!(lines[1], "  A 0x000000002010  00 01 02 03 04");
        assert_eq!(lines[2], "  B 0x000000002010  00 01 02 ff 04");
        let at = lines[3].find("^^").unwrap();
        assert_eq!((&lines[1][at..at + 2], &lines[2][at..at + 2]), ("03", "ff"));
    }
}
