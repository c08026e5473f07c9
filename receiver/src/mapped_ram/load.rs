//! Loading all pages of a mapped-ram file: what the readers share, and what
//! each of them does.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use landfall_pagepool::RamBlocks;
use nix::errno::Errno;
use nix::sys::uio::pread;

use super::chunks::{Chunk, Chunks};
use super::file::SavedFile;
use super::holes::{self, Holes};
use super::plan::{Stretch, Stretches};
use super::ring::{FileRing, Read, Target};
use crate::clock::now_ns;
use crate::error::{Family, RunError};
use crate::ring::RingFeatures;
use crate::run::Run;
use crate::stats::Counter;
use crate::wire::{BlockInfo, PageBytes};

/// How a file's pages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileReads {
    /// Reads that one reader has under way at once, 1 to
    /// [`FileReads::DEPTH_MAX`].
    pub queue_depth: usize,
    /// Past the page cache (`O_DIRECT`), where the file system can.
    pub direct_io: bool,
}

impl FileReads {
    /// The most reads at once: beyond it no disk gets faster.
    pub const DEPTH_MAX: usize = 1024;
}

impl Default for FileReads {
    fn default() -> Self {
        Self { queue_depth: QUEUE_DEPTH, direct_io: false }
    }
}

/// The pages of one file on their way into guest RAM, by several readers.
pub struct Load {
    file: SavedFile,
    direct: Option<Arc<OwnedFd>>,
    /// The file system took O_DIRECT back when it came to reading.
    direct_refused: AtomicBool,
    /// Set bits may be over holes: they are looked for.
    has_holes: bool,
    page: PageBytes,
    chunks: Chunks,
    depth: usize,
    /// False with `--sink discard`.
    keep: bool,
    readers_left: AtomicUsize,
    progress: Box<[Progress]>,
}

/// What one reader has done.
#[derive(Default)]
#[repr(align(128))]
struct Progress {
    bytes: Counter,
}

/// What all readers have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Pages whose bits were set: read, but for those in holes.
    pub normal: u64,
    /// Pages whose bits were clear.
    pub zero: u64,
    /// Bytes read, bitmaps included.
    pub bytes: u64,
}

impl Load {
    /// All pages of those `blocks` that have their places in `file`, for
    /// `readers` readers. Without `keep` what was read is dropped.
    pub fn new(
        file: SavedFile,
        blocks: &[BlockInfo],
        page: PageBytes,
        reads: FileReads,
        readers: usize,
        keep: bool,
    ) -> Self {
        Self {
            direct: if reads.direct_io { file.direct() } else { None },
            direct_refused: AtomicBool::new(false),
            has_holes: holes::are_under_set_bits(&file, blocks, page),
            chunks: Chunks::new(blocks, page),
            depth: reads.queue_depth.clamp(1, FileReads::DEPTH_MAX),
            readers_left: AtomicUsize::new(readers),
            progress: (0..readers).map(|_| Progress::default()).collect(),
            file,
            page,
            keep,
        }
    }

    /// True once every reader has done its part.
    pub fn is_done(&self) -> bool {
        self.readers_left.load(Acquire) == 0
    }

    /// What has been done so far; all of it once [`Load::is_done`].
    pub fn loaded(&self, run: &Run) -> Loaded {
        let mut loaded = Loaded::default();
        for (index, progress) in self.progress.iter().enumerate() {
            loaded.bytes += progress.bytes.get();
            for block in run.reader_blocks(index) {
                loaded.normal += block.normal.get();
                loaded.zero += block.zero.get();
            }
        }
        loaded
    }

    /// Does the part of reader `index`, on the calling thread: until nothing is
    /// left to claim, or the run is told to stop.
    ///
    /// # Errors
    /// Misbehaved: the file ended. Environment: it cannot be read.
    pub fn work(&self, run: &Run, index: usize, features: RingFeatures) -> Result<(), RunError> {
        Reading::new(self, run, index, features)?.all()?;
        self.readers_left.fetch_sub(1, Release);
        run.wake_main();
        Ok(())
    }

    /// The descriptor for a read, past the page cache if that may be.
    fn descriptor(&self, read: &Read) -> &Arc<OwnedFd> {
        let is_aligned = read.file_offset.is_multiple_of(DIRECT_ALIGNMENT);
        match &self.direct {
            Some(direct) if is_aligned && !self.direct_refused.load(Relaxed) => direct,
            _ => self.file.buffered(),
        }
    }
}

/// One reader's part.
struct Reading<'a> {
    load: &'a Load,
    run: &'a Run,
    index: usize,
    ram: &'a RamBlocks,
    ring: FileRing,
    free_slots: Vec<usize>,
    under_way: Box<[UnderWay]>,
    bitmap: Box<[u8]>,
    /// Bits that were set in the bitmap, of pages that lie in holes.
    hole_map: Box<[u8]>,
    /// None if none are looked for.
    holes: Option<Holes>,
    chunk: Option<(Chunk, Stretches)>,
}

/// Pages that are being read in a slot.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    first_page: u64,
    pages: u64,
    /// What has not come yet.
    rest: Read,
}

impl<'a> Reading<'a> {
    fn new(
        load: &'a Load,
        run: &'a Run,
        index: usize,
        features: RingFeatures,
    ) -> Result<Self, RunError> {
        let ram = run.ram().expect("RAM is known before its pages");
        let target =
            if load.keep { Target::Ram(Arc::clone(ram)) } else { Target::scratch(READ_BYTES_MAX)? };
        let rest = Read { block: 0, offset: 0, bytes: 0, file_offset: 0 };
        let nothing = UnderWay { first_page: 0, pages: 0, rest };
        let bitmap = vec![0; load.chunks.bitmap_bytes_max()].into_boxed_slice();
        Ok(Self {
            load,
            run,
            index,
            ram,
            ring: FileRing::new(features, load.depth, target)?,
            free_slots: (0..load.depth).rev().collect(),
            under_way: vec![nothing; load.depth].into_boxed_slice(),
            hole_map: bitmap.clone(),
            bitmap,
            holes: load.has_holes.then(|| Holes::new(&load.file)),
            chunk: None,
        })
    }

    fn all(mut self) -> Result<(), RunError> {
        let counters = &self.run.readers[self.index].counters;
        let mut left_ns = now_ns();
        loop {
            while let Some(&slot) = self.free_slots.last() {
                let Some(next) = self.next_read()? else { break };
                self.free_slots.pop();
                self.arm(slot, next);
            }
            if self.ring.is_idle() {
                return Ok(());
            }
            let entered_ns = now_ns();
            self.ring.wait()?;
            let now = now_ns();
            counters.enters.add(1);
            counters.placing_ns.add(entered_ns - left_ns);
            counters.enter_ns.add(now - entered_ns);
            left_ns = now;
            while let Some(done) = self.ring.done() {
                counters.completions.add(1);
                self.take(done.slot, done.result)?;
            }
            if self.run.is_stopping() {
                // Main ends the run; what is under way is drained.
                return Ok(());
            }
        }
    }

    /// The next pages with data; pages without are dealt with on the way.
    fn next_read(&mut self) -> Result<Option<UnderWay>, RunError> {
        loop {
            let Some((chunk, stretches)) = &mut self.chunk else {
                let Some(chunk) = self.load.chunks.claim(self.load.page) else {
                    return Ok(None);
                };
                self.read_bitmap(&chunk)?;
                if let Some(holes) = &mut self.holes {
                    holes.take(&chunk, self.load.page, &mut self.bitmap, &mut self.hole_map);
                }
                let pages = chunk.pages.end - chunk.pages.start;
                let most = READ_BYTES_MAX as u64 / self.load.page.as_u64();
                self.chunk = Some((chunk, Stretches::new(0..pages, most)));
                continue;
            };
            let Some(Stretch { is_set, pages }) = stretches.next(&self.bitmap) else {
                self.chunk = None;
                continue;
            };
            let first_page = chunk.pages.start + pages.start;
            let count = pages.end - pages.start;
            if is_set {
                let page = self.load.page.as_u64();
                let rest = Read {
                    block: chunk.block,
                    offset: first_page * page,
                    bytes: u32::try_from(count * page).expect("a read has a limit"),
                    file_offset: chunk.pages_offset + pages.start * page,
                };
                if self.load.keep {
                    self.ram[chunk.block].lend(first_page..first_page + count);
                }
                return Ok(Some(UnderWay { first_page, pages: count, rest }));
            }
            let block = chunk.block;
            if self.holes.is_none() {
                self.zero(block, first_page..first_page + count, false);
                continue;
            }
            let begin = chunk.pages.start;
            let mut parts = Stretches::new(pages, u64::MAX);
            while let Some(Stretch { is_set, pages }) = parts.next(&self.hole_map) {
                self.zero(block, begin + pages.start..begin + pages.end, is_set);
            }
        }
    }

    /// Pages of the block of that index that are zero without a read: their bits
    /// are clear, or set over holes.
    fn zero(&self, block: usize, pages: Range<u64>, are_holes: bool) {
        let counters = &self.run.reader_blocks(self.index)[block];
        let block = &self.ram[block];
        let count = pages.end - pages.start;
        let cleared = block.announce_zero_range(pages.clone());
        counters.unique.add(block.mark_received_range(pages));
        if are_holes {
            counters.zero_sent_full.add(count);
            counters.normal.add(count);
        } else {
            counters.zero_written.add(cleared);
            counters.zero.add(count);
        }
    }

    fn read_bitmap(&mut self, chunk: &Chunk) -> Result<(), RunError> {
        let mut have = 0;
        while have < chunk.bitmap_bytes {
            let at = chunk.bitmap_offset + have as u64;
            let room = &mut self.bitmap[have..chunk.bitmap_bytes];
            match pread(self.load.file.buffered(), room, at.cast_signed()) {
                Ok(0) => return Err(ended("the bitmap", at, self.ram, chunk.block)),
                Ok(bytes) => have += bytes,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(unreadable(at, &error.into())),
            }
        }
        self.load.progress[self.index].bytes.add(have as u64);
        Ok(())
    }

    fn arm(&mut self, slot: usize, under_way: UnderWay) {
        let file = self.load.descriptor(&under_way.rest);
        self.under_way[slot] = under_way;
        self.ring.arm(slot, file, under_way.rest);
    }

    /// Takes the end of a read: all of it, a part, or an error.
    fn take(&mut self, slot: usize, result: std::io::Result<usize>) -> Result<(), RunError> {
        let mut under_way = self.under_way[slot];
        let rest = &mut under_way.rest;
        match result {
            Ok(0) => return Err(ended("the pages", rest.file_offset, self.ram, rest.block)),
            Ok(bytes) => {
                self.load.progress[self.index].bytes.add(bytes as u64);
                rest.offset += bytes as u64;
                rest.file_offset += bytes as u64;
                rest.bytes -= u32::try_from(bytes).expect("no more than was asked for");
            }
            Err(error) if is_passing(&error) => {}
            Err(error) if self.is_direct_refused(&error) => {}
            Err(error) => return Err(unreadable(rest.file_offset, &error)),
        }
        if under_way.rest.bytes > 0 {
            self.arm(slot, under_way);
        } else {
            self.mark(&under_way);
            self.free_slots.push(slot);
        }
        Ok(())
    }

    fn mark(&self, done: &UnderWay) {
        let block = &self.ram[done.rest.block];
        let counters = &self.run.reader_blocks(self.index)[done.rest.block];
        let pages = done.first_page..done.first_page + done.pages;
        let is_zero = |page: &u64| self.load.keep && block.is_zero(*page);
        counters.zero_sent_full.add(pages.clone().filter(is_zero).count() as u64);
        counters.unique.add(block.mark_received_range(pages));
        counters.normal.add(done.pages);
    }

    /// A file system may open with `O_DIRECT` and not read so: from now on
    /// nobody tries any more.
    fn is_direct_refused(&self, error: &std::io::Error) -> bool {
        let refused = self.load.direct.is_some() && error.raw_os_error() == Some(libc::EINVAL);
        if refused && !self.load.direct_refused.swap(true, Relaxed) {
            tracing::warn!(
                "direct-io: the file cannot be read with O_DIRECT here ({error}); it is read \
                 through the page cache"
            );
        }
        refused
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

fn ended(what: &str, at: u64, ram: &RamBlocks, block: usize) -> RunError {
    let name = ram[block].name();
    let text = format!("the file ends at byte {at}, inside {what} of block '{name}': it was cut");
    RunError::new(Family::Misbehaved, text)
}

fn unreadable(at: u64, error: &std::io::Error) -> RunError {
    RunError::new(Family::Environment, format!("reading the file at byte {at}: {error}"))
}

/// The most bytes of one read: as large as disks like them.
const READ_BYTES_MAX: usize = 1 << 20;
/// Reads at once unless told otherwise.
const QUEUE_DEPTH: usize = 32;
/// What every disk's `O_DIRECT` takes; smaller ones only after a short read.
const DIRECT_ALIGNMENT: u64 = 4096;

// Whole pages, whatever their size, and a length that io_uring can say.
const _: () = assert!(READ_BYTES_MAX.is_multiple_of(PageBytes::MAX as usize));
