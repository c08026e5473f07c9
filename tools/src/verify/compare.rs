//! Comparing files: all CPUs, at the speed of the disk or of memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::{Whence, lseek};

use super::difference::{Content, Difference};
use super::image::unreadable;
use crate::exit::Failure;

/// A block and its file on either side; `None` where a side lacks it.
#[derive(Debug)]
pub(super) struct Pair {
    /// How the block is called in messages.
    pub(super) name: String,
    /// In A.
    pub(super) a: Option<Source>,
    /// In B.
    pub(super) b: Option<Source>,
}

/// Where a block's bytes are on one side.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Its file.
    pub(super) path: PathBuf,
    /// How many bytes from its beginning on; `None`: all.
    pub(super) bytes: Option<u64>,
}

/// How much is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Equal {
    /// Blocks compared.
    pub(super) blocks: usize,
    /// Bytes of each side.
    pub(super) bytes: u64,
}

/// Compares all pairs. Missing blocks and sizes come first, then the first
/// byte that differs, in the order of pairs and offsets.
///
/// # Errors
/// Host: a file that is there cannot be read.
pub(super) fn compare(
    pairs: &[Pair],
    page_bytes: u64,
) -> Result<Result<Equal, Difference>, Failure> {
    let mut opened = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let block = || pair.name.clone();
        let Some(a) = Side::open(pair.a.as_ref())? else {
            return Ok(Err(Difference::Missing { block: block(), side: 'A' }));
        };
        let Some(b) = Side::open(pair.b.as_ref())? else {
            return Ok(Err(Difference::Missing { block: block(), side: 'B' }));
        };
        if a.bytes != b.bytes {
            return Ok(Err(Difference::Size { block: block(), a: a.bytes, b: b.bytes }));
        }
        opened.push(Opened { name: &pair.name, a, b });
    }
    let bytes = opened.iter().map(|block| block.a.bytes).sum();
    let found = Search::new(&opened).first_difference()?;
    Ok(match found {
        None => Ok(Equal { blocks: opened.len(), bytes }),
        Some((block, offset)) => Err(Difference::Content(opened[block].show(offset, page_bytes)?)),
    })
}

struct Opened<'a> {
    name: &'a str,
    a: Side<'a>,
    b: Side<'a>,
}

/// An open file of one side.
struct Side<'a> {
    path: &'a Path,
    file: File,
    bytes: u64,
}

impl<'a> Side<'a> {
    /// Opens a file; `None` if there is none.
    fn open(source: Option<&'a Source>) -> Result<Option<Self>, Failure> {
        let Some(Source { path, bytes: listed }) = source else { return Ok(None) };
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((there, file)) => {
                // A file that is too short is a difference.
                let bytes = listed.map_or(there, |listed| listed.min(there));
                // A hint: without it the kernel reads ahead less.
                let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
                Ok(Some(Self { path, file, bytes }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Failure> {
        self.file.read_exact_at(out, offset).map_err(|error| {
            Failure::host(format!("{}, byte {offset}: {error}", self.path.display()))
        })
    }

    /// Where the first data at or behind `offset` begins (lseek(2),
    /// `SEEK_DATA`): all before it reads as zeros.
    fn data_from(&self, offset: u64) -> u64 {
        let Ok(from) = i64::try_from(offset) else { return offset };
        // The descriptor's own position is nobody's: reads name theirs.
        match lseek(&self.file, from, Whence::SeekData) {
            Ok(data) => u64::try_from(data).unwrap_or(offset),
            Err(Errno::ENXIO) => self.bytes,
            // A file system without holes.
            Err(_) => offset,
        }
    }
}

impl Opened<'_> {
    fn show(&self, offset: u64, page_bytes: u64) -> Result<Content, Failure> {
        let shown_from = offset - offset % SHOWN_BYTES;
        let shown = SHOWN_BYTES.min(self.a.bytes - shown_from);
        let read = |side: &Side<'_>| {
            let mut bytes = vec![0; shown as usize];
            side.read(shown_from, &mut bytes).map(|()| bytes)
        };
        let (a, b) = (read(&self.a)?, read(&self.b)?);
        Ok(Content { block: self.name.to_owned(), offset, page_bytes, shown_from, a, b })
    }
}

/// Pieces of all blocks, which threads take one by one.
struct Search<'a> {
    blocks: &'a [Opened<'a>],
    /// (block, offset), in order.
    pieces: Vec<(usize, u64)>,
    next: AtomicUsize,
    first: Mutex<Option<Found>>,
}

/// The first piece with a difference, and where, or what stopped the search there.
struct Found {
    piece: usize,
    result: Result<u64, Failure>,
}

impl<'a> Search<'a> {
    fn new(blocks: &'a [Opened<'a>]) -> Self {
        let of_block = |(index, block): (usize, &Opened<'_>)| {
            let starts = (0..block.a.bytes).step_by(PIECE_BYTES as usize);
            starts.map(move |start| (index, start))
        };
        let pieces = blocks.iter().enumerate().flat_map(of_block).collect();
        Self { blocks, pieces, next: AtomicUsize::new(0), first: Mutex::new(None) }
    }

    /// The block and offset of the first byte that differs.
    fn first_difference(self) -> Result<Option<(usize, u64)>, Failure> {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 1..cpus.min(self.pieces.len()) {
                scope.spawn(|| self.work());
            }
            self.work();
        });
        let first = self.first.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(Found { piece, result }) = first else { return Ok(None) };
        result.map(|offset| Some((self.pieces[piece].0, offset)))
    }

    fn work(&self) {
        let mut buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];
        loop {
            let piece = self.next.fetch_add(1, Relaxed);
            let Some(&(block, start)) = self.pieces.get(piece) else { return };
            // Pieces are taken in order: behind a difference nothing matters.
            if self.first().as_ref().is_some_and(|first| first.piece < piece) {
                return;
            }
            let Some(result) = self.blocks[block].differs(start, &mut buffers).transpose() else {
                continue;
            };
            let mut first = self.first();
            if first.as_ref().is_none_or(|first| piece < first.piece) {
                *first = Some(Found { piece, result });
            }
            return;
        }
    }

    fn first(&self) -> MutexGuard<'_, Option<Found>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened<'_> {
    /// The first byte of the piece from `start` on that differs.
    fn differs(&self, start: u64, buffers: &mut [Vec<u8>; 2]) -> Result<Option<u64>, Failure> {
        let [a, b] = buffers;
        let end = self.a.bytes.min(start + PIECE_BYTES);
        let mut at = start;
        loop {
            // Where both sides are holes both are zero.
            at = self.a.data_from(at).min(self.b.data_from(at));
            if at >= end {
                return Ok(None);
            }
            let bytes = (end - at).min(BUFFER_BYTES as u64) as usize;
            let (a, b) = (&mut a[..bytes], &mut b[..bytes]);
            self.a.read(at, a)?;
            self.b.read(at, b)?;
            if a != b {
                let same = a.iter().zip(&*b).take_while(|(a, b)| a == b).count();
                return Ok(Some(at + same as u64));
            }
            at += bytes as u64;
        }
    }
}

/// What a thread takes at a time: long enough for the kernel to read ahead.
const PIECE_BYTES: u64 = 16 << 20;
/// What is read at a time: both sides' buffers together stay in a level 2 cache.
const BUFFER_BYTES: usize = 256 * 1024;
/// What is shown of a difference.
const SHOWN_BYTES: u64 = 16;
