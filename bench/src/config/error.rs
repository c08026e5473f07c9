//! Why a migration cannot be sent.

use std::path::PathBuf;

use super::{
    PAGE_BYTES_MAX, PAGE_BYTES_MIN,
    check::{BLOCKS_MAX, NAME_BYTES_MAX},
};

/// Why a [`SourceConfig`](super::SourceConfig) cannot be sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The target page has no size that a target has.
    #[error(
        "page size is {found} bytes, allowed is a power of two from {PAGE_BYTES_MIN} to {PAGE_BYTES_MAX}"
    )]
    PageBytes {
        /// The size asked for.
        found: u32,
    },
    /// Too few or too many RAM blocks.
    #[error("{found} RAM blocks, allowed are 1 to {BLOCKS_MAX}")]
    BlockCount {
        /// The number asked for.
        found: usize,
    },
    /// Images were given, but not one for each block.
    #[error("{found} images for {blocks} RAM blocks, one for each is needed")]
    ImageCount {
        /// How many images.
        found: usize,
        /// How many blocks.
        blocks: usize,
    },
    /// A block's name does not fit the wire.
    #[error("the name of RAM block {index} must have 1 to {NAME_BYTES_MAX} bytes and no NUL")]
    BlockName {
        /// The block, from 0.
        index: usize,
    },
    /// Two blocks have one name.
    #[error("RAM block {name:?} is there twice")]
    BlockTwice {
        /// The name.
        name: String,
    },
    /// A block's length is no number of whole pages.
    #[error(
        "RAM block {name:?} has {found} bytes, which is not a positive multiple of the {page_bytes}-byte page"
    )]
    BlockBytes {
        /// The block.
        name: String,
        /// Its length in bytes.
        found: u64,
        /// The page size in bytes.
        page_bytes: u32,
    },
    /// The memory behind a block has pages that no memory has.
    #[error(
        "the memory behind RAM block {name:?} must have pages of a power of two bytes, at least the target page"
    )]
    BackingPage {
        /// The block.
        name: String,
    },
    /// A share outside 0 to 1.
    #[error("{what} is {found}, allowed is 0 to 1")]
    Share {
        /// Which share.
        what: &'static str,
        /// Its value.
        found: f64,
    },
    /// A level that the compression does not have.
    #[error("compression level is {found}, allowed is 0 to {limit}")]
    Level {
        /// The level.
        found: u32,
        /// The highest.
        limit: u32,
    },
    /// A count that must be at least 1.
    #[error("{what} must be at least 1")]
    Zero {
        /// Which count.
        what: &'static str,
    },
    /// The machine type's name is empty, too long, or has no version where one is needed.
    #[error(
        "machine type {name:?} must have 1 to {NAME_BYTES_MAX} bytes and end in a version, as pc-q35-10.0"
    )]
    Machine {
        /// The name.
        name: String,
    },
    /// XBZRLE cannot say what changed in pages this large.
    #[error("xbzrle is for pages of up to 16384 bytes, the page size is {found}")]
    XbzrlePage {
        /// The page size in bytes.
        found: u32,
    },
    /// Two settings that exclude each other.
    #[error("{what} excludes {with}")]
    Together {
        /// The one.
        what: &'static str,
        /// The other.
        with: &'static str,
    },
    /// An image cannot be read.
    #[error("image {}: {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}
