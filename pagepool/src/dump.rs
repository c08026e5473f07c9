//! Writing a RAM block to a file of a run directory, with holes for zero pages.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::crew::Crew;
use crate::host::Host;
use crate::reclaim::pieces_of;
use crate::run_directory::available_bytes;
use crate::{PoolError, RamBlock, ram_file};

/// A RAM block in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The file.
    pub path: PathBuf,
    /// Bytes written; the rest of the file is holes.
    pub data_bytes: u64,
}

/// Writes a block to `DIR/ram/NAME.ram` (see [`crate::ram_file_name`]), the very file that
/// `--mem-path DIR` would have made; zero pages become holes. One of an earlier run is replaced.
/// Nobody may be writing to the block.
///
/// # Errors
/// [`PoolError::NoSpace`] where the file system has no room, [`PoolError::File`] otherwise; then no
/// file is left.
pub fn dump_block(block: &RamBlock, directory: &Path) -> Result<Dumped, PoolError> {
    ram_file::make_folder(directory)?;
    let (file, path) = ram_file::create(directory, block.name())?;
    let written = file.set_len(block.bytes()).and_then(|()| write_content(block, &file));
    // A file system may say only here that it has no room; and a report that says of this file that
    // it is whole must not outlive it.
    let written = written.and_then(|data_bytes| file.sync_data().map(|()| data_bytes));
    match written {
        Ok(data_bytes) => Ok(Dumped { path, data_bytes }),
        Err(error) => {
            // It is half a block; the first error is the one to tell.
            let _ = std::fs::remove_file(&path);
            Err(told(block, directory, &path, error))
        }
    }
}

/// Writes all that is not zero, in parallel; says how many bytes that were.
fn write_content(block: &RamBlock, file: &File) -> io::Result<u64> {
    let pieces: Vec<Range<u64>> = pieces_of(block).map(|(_, pages)| pages).collect();
    let data_bytes = AtomicU64::new(0);
    Crew::new(&[]).run(pieces.len() as u64, |index| {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        block.for_each_written_run(pieces[index as usize].clone(), |run| {
            for pages in content_runs(block, run) {
                write_run(block, file, pages.clone(), &mut buffer)?;
                let pages = pages.end - pages.start;
                data_bytes.fetch_add(pages * u64::from(block.page_bytes()), Relaxed);
            }
            Ok::<_, io::Error>(())
        })
    })?;
    Ok(data_bytes.into_inner())
}

/// The runs of pages within `pages` that are not zero, none larger than the buffer.
fn content_runs(block: &RamBlock, pages: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let pages_max = BUFFER_BYTES as u64 / u64::from(block.page_bytes());
    let mut next = pages.start;
    std::iter::from_fn(move || {
        let start = (next..pages.end).find(|page| !block.is_zero(*page))?;
        let limit = pages.end.min(start + pages_max);
        let end = (start..limit).find(|page| block.is_zero(*page)).unwrap_or(limit);
        next = end;
        Some(start..end)
    })
}

fn write_run(
    block: &RamBlock,
    file: &File,
    pages: Range<u64>,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let page_bytes = u64::from(block.page_bytes());
    let offset = pages.start * page_bytes;
    buffer.resize(((pages.end - pages.start) * page_bytes) as usize, 0);
    block.read(offset, buffer);
    file.write_all_at(buffer, offset)
}

fn told(block: &RamBlock, directory: &Path, path: &Path, error: io::Error) -> PoolError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if !matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        return ram_file::failed("write", path, error);
    }
    let folder = ram_file::folder_of(directory);
    PoolError::NoSpace {
        directory: directory.to_owned(),
        needed: block.bytes(),
        available: available_bytes(&folder, &Host::here()).unwrap_or(0),
    }
}

const BUFFER_BYTES: usize = 1 << 20;
