//! Holes of the file: ranges that it has no data for, and that read as zeros.
//!
//! A file that QEMU wrote has holes under clear bits only, unless it looked for
//! no zero pages (`zero-page-detection=none`) and the file was copied or dug
//! sparse later: then every zero page is a set bit over a hole. Reading one
//! would cost a page of guest RAM, and a copy of zeros.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek};

use super::chunks::Chunk;
use super::file::SavedFile;
use crate::wire::{BlockInfo, PageBytes, bitmap_bytes};

/// True if pages with set bits must lie in holes: the file has less data than
/// its bits ask for. Only then is it worth looking for them.
pub(super) fn are_under_set_bits(file: &SavedFile, blocks: &[BlockInfo], page: PageBytes) -> bool {
    if !file.is_sparse() {
        return false;
    }
    let mut buffer = vec![0; COUNTED_BYTES];
    let mut set = 0u64;
    for block in blocks {
        let Some(mapped) = block.mapped else { continue };
        let bits =
            mapped.bitmap_offset..mapped.bitmap_offset + bitmap_bytes(block.used_bytes, page);
        match count_ones(file.buffered(), bits, &mut buffer) {
            Ok(count) => set += count,
            // The reader who comes to this bitmap says what is wrong with it.
            Err(_) => return false,
        }
    }
    set.saturating_mul(page.as_u64()) > file.allocated_bytes()
}

fn count_ones(fd: &OwnedFd, bytes: Range<u64>, buffer: &mut [u8]) -> nix::Result<u64> {
    let (mut at, mut ones) = (bytes.start, 0);
    while at < bytes.end {
        let most = (bytes.end - at).min(buffer.len() as u64) as usize;
        let read = match pread(fd, &mut buffer[..most], at.cast_signed()) {
            Ok(0) => return Err(Errno::ENODATA),
            Ok(read) => read,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        };
        ones += buffer[..read].iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        at += read as u64;
    }
    Ok(ones)
}

/// One reader's walk along the holes (lseek(2), `SEEK_DATA` and `SEEK_HOLE`). It
/// moves the descriptor's offset, which main sets anew behind the pages.
#[derive(Debug)]
pub(super) struct Holes {
    fd: Arc<OwnedFd>,
    /// Where it looked last: data that goes on for long is asked about once.
    last: Extent,
}

/// A range of the file that is all hole, or all data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extent {
    is_hole: bool,
    bytes: Range<u64>,
}

impl Holes {
    /// Nothing is known yet.
    pub(super) fn new(file: &SavedFile) -> Self {
        // Seeks of several readers in one description wait for each other.
        let own = file.reopened(OFlag::empty());
        let fd = own.map_or_else(|_| Arc::clone(file.buffered()), Arc::new);
        Self { fd, last: Extent { is_hole: false, bytes: 0..0 } }
    }

    /// Takes the bits of those pages of `chunk` out of its `bitmap` that lie in
    /// holes from end to end; `taken` is left with these alone.
    pub(super) fn take(
        &mut self,
        chunk: &Chunk,
        page: PageBytes,
        bitmap: &mut [u8],
        taken: &mut [u8],
    ) {
        taken.fill(0);
        let begin = chunk.pages_offset;
        let end = begin + (chunk.pages.end - chunk.pages.start) * page.as_u64();
        let mut at = begin;
        while at < end {
            let Extent { is_hole, bytes } = self.extent(at);
            if is_hole {
                let first = (at - begin).div_ceil(page.as_u64());
                let last = (bytes.end.min(end) - begin) / page.as_u64();
                for index in first..last {
                    let (byte, bit) = (index as usize / 8, 1 << (index % 8));
                    taken[byte] |= bitmap[byte] & bit;
                    bitmap[byte] &= !bit;
                }
            }
            at = bytes.end;
        }
    }

    /// What `at` lies in. Where the file system does not say, that is data.
    fn extent(&mut self, at: u64) -> Extent {
        if !self.last.bytes.contains(&at) {
            let data = match self.seek(at, Whence::SeekData) {
                Err(Errno::ENXIO) => u64::MAX, // no more data
                found => found.unwrap_or(at),
            };
            self.last = if data > at {
                Extent { is_hole: true, bytes: at..data }
            } else {
                let hole = self.seek(at, Whence::SeekHole).unwrap_or(u64::MAX);
                Extent { is_hole: false, bytes: at..hole.max(at + 1) }
            };
        }
        self.last.clone()
    }

    fn seek(&self, at: u64, whence: Whence) -> nix::Result<u64> {
        lseek(&self.fd, at.cast_signed(), whence).map(i64::cast_unsigned)
    }
}

/// Of bitmaps, counted at once.
const COUNTED_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::wire::MappedRamHeader;

    /// A file of 64 pages with data in `data`, from a place that is no page's.
    fn file(data: &[Range<u64>]) -> (File, Arc<OwnedFd>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGES_OFFSET + 64 * PAGE).unwrap();
        for bytes in data {
            let content = vec![7; (bytes.end - bytes.start) as usize];
            file.write_all_at(&content, bytes.start).unwrap();
        }
        let fd = Arc::new(OwnedFd::from(file.try_clone().unwrap()));
        (file, fd)
    }

    /// The bits that are taken; all but these stay.
    fn taken(fd: &Arc<OwnedFd>, page: u32, bits: u64) -> u64 {
        let page = PageBytes::new(page).unwrap();
        let count = 64 * PAGE / page.as_u64();
        let chunk = Chunk {
            block: 0,
            pages: 100..100 + count,
            bitmap_offset: 0,
            bitmap_bytes: 8,
            pages_offset: PAGES_OFFSET,
        };
        let (mut bitmap, mut map) = (bits.to_le_bytes(), [0xff; 8]);
        let saved = SavedFile::of(fd, 0).unwrap().unwrap();
        Holes::new(&saved).take(&chunk, page, &mut bitmap, &mut map);
        let taken = u64::from_le_bytes(map);
        assert_eq!(u64::from_le_bytes(bitmap), bits & !taken);
        taken
    }

    #[test]
    fn pages_that_lie_in_holes_from_end_to_end_are_taken() {
        let at = |page: u64| PAGES_OFFSET + page * PAGE;
        let (_file, fd) = file(&[at(3)..at(5), at(9) + 1..at(9) + 2, at(63)..at(64)]);
        let data = 1 << 3 | 1 << 4 | 1 << 9 | 1 << 63;
        assert_eq!(taken(&fd, 4096, !0), !data);
        assert_eq!(taken(&fd, 4096, 0xff0), !data & 0xff0, "bits that were set");
        // Of larger pages, those without any: 3 and 4 are of pages 0 and 1, 9 of 2, 63 of 15.
        assert_eq!(taken(&fd, 4 * 4096, 0xffff), 0xffff & !(1 << 0 | 1 << 1 | 1 << 2 | 1 << 15));
        let (_file, empty) = file(&[]);
        assert_eq!(taken(&empty, 4096, !0), !0, "no data up to the end");
        let (_file, full) = file(&[0..at(1), at(1)..at(64)]);
        assert_eq!(taken(&full, 4096, !0), 0);
    }

    #[test]
    fn holes_are_looked_for_only_where_set_bits_ask_for_more_than_there_is() {
        let at = |page: u64| PAGES_OFFSET + page * PAGE;
        let page = PageBytes::DEFAULT;
        let mapped =
            MappedRamHeader { bitmap_offset: 0, pages_offset: PAGES_OFFSET, pages_end: at(64) };
        let block = BlockInfo {
            name: "mem".into(),
            used_bytes: 64 * PAGE,
            page_bytes: None,
            guest_phys_addr: None,
            mapped: Some(mapped),
        };
        for (data, bits, expected) in [
            (at(0)..at(8), 0xffu64, false),
            (at(0)..at(8), u64::MAX, true),
            (at(0)..at(64), u64::MAX, false),
        ] {
            let (file, fd) = file(&[data]);
            file.write_all_at(&bits.to_le_bytes(), 0).unwrap();
            let saved = SavedFile::of(&fd, 0).unwrap().unwrap();
            assert_eq!(are_under_set_bits(&saved, std::slice::from_ref(&block), page), expected);
        }
    }

    const PAGE: u64 = 4096;
    const PAGES_OFFSET: u64 = 1 << 20;
}
