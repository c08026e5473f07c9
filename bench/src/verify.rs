//! Checks what arrived against the seed alone.

use std::{
    fmt, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use crate::{
    config::ConfigError,
    guest::{Expected, PageRef},
    plan::Plan,
};

/// What was checked when all of it is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Pages compared.
    pub pages: u64,
    /// Of these, pages that must be zero.
    pub zero: u64,
    /// Bytes compared.
    pub bytes: u64,
}

/// Why the memory is not what was sent.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The first byte that differs, in the order of blocks and offsets.
    #[error("{0}")]
    Different(Difference),
    /// A file that stands for the guest's RAM cannot be read.
    #[error(transparent)]
    Image(ConfigError),
    /// The memory cannot be read.
    #[error("RAM block {block:?} at byte {offset}: {error}")]
    Read {
        /// The block.
        block: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What the reader said.
        error: io::Error,
    },
}

/// A byte that is not what was sent, and what stands around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The block.
    pub block: String,
    /// The byte's offset in the block.
    pub offset: u64,
    /// The page's index.
    pub page: u64,
    /// What the page must hold.
    pub page_holds: Expected,
    /// The bytes that must stand from `offset` on, at most 16.
    pub expected: Vec<u8>,
    /// The bytes that do.
    pub found: Vec<u8>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, offset, page, .. } = self;
        write!(f, "RAM block {block:?} differs at byte {offset:#x} (page {page}, ")?;
        match self.page_holds {
            Expected::Zero => write!(f, "which must be zero")?,
            Expected::Generation(round) => write!(f, "last sent in round {round}")?,
        }
        write!(f, "): expected {}, found {}", Hex(&self.expected), Hex(&self.found))
    }
}

/// Compares all RAM with what the plan's complete run sends, on as many threads as told. Blocks that
/// are not sent are not looked at.
///
/// `read(block, offset, out)` fills `out` with the bytes of the block (by its index in the
/// configuration) from `offset` on; it is called with whole pages, several at once, from several
/// threads, until a difference is found.
///
/// # Errors
/// The first difference, or the first place that cannot be read: [`VerifyError`].
pub fn verify<R>(plan: &Plan, threads: usize, read: R) -> Result<Verified, VerifyError>
where
    R: Fn(u16, u64, &mut [u8]) -> io::Result<()> + Sync,
{
    let guest = plan.guest();
    let page_bytes = u64::from(guest.page_bytes());
    let pieces = Pieces::new(plan);
    let next = AtomicU64::new(0);
    let first: Mutex<Option<(u64, VerifyError)>> = Mutex::new(None);
    let zero = AtomicU64::new(0);
    let work = || {
        let mut found = vec![0; PIECE_BYTES];
        let mut seen_zero = 0;
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some((block, page, pages)) = pieces.piece(index) else { break };
            let lock = || first.lock().unwrap_or_else(PoisonError::into_inner);
            if lock().as_ref().is_some_and(|(earlier, _)| *earlier < index) {
                break;
            }
            let found = &mut found[..(pages * page_bytes) as usize];
            match check_piece(plan, block, page, found, &read) {
                Ok(zero) => seen_zero += zero,
                Err(error) => {
                    let mut first = lock();
                    if first.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
                        *first = Some((index, error));
                    }
                    break;
                }
            }
        }
        zero.fetch_add(seen_zero, Relaxed);
    };
    thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = guest.image_error() {
        return Err(VerifyError::Image(error.clone()));
    }
    match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(Verified {
            pages: guest.pages_sent_total(),
            zero: zero.into_inner(),
            bytes: guest.pages_sent_total() * page_bytes,
        }),
    }
}

/// Compares one piece; returns how many of its pages are zero.
fn check_piece<R>(
    plan: &Plan,
    block: u16,
    first_page: u64,
    found: &mut [u8],
    read: &R,
) -> Result<u64, VerifyError>
where
    R: Fn(u16, u64, &mut [u8]) -> io::Result<()>,
{
    let guest = plan.guest();
    let page_bytes = guest.page_bytes() as usize;
    let name = || plan.config().blocks[usize::from(block)].name.clone();
    let offset = first_page * page_bytes as u64;
    read(block, offset, found).map_err(|error| VerifyError::Read {
        block: name(),
        offset,
        error,
    })?;
    let mut zero = 0;
    for (page, found) in (first_page..).zip(found.chunks_exact(page_bytes)) {
        let expected = guest.expected(block, page);
        zero += u64::from(expected == Expected::Zero);
        if !guest.matches(block, page, expected, found) {
            let difference = difference(plan, name(), block, page, found);
            return Err(VerifyError::Different(difference));
        }
    }
    Ok(zero)
}

fn difference(plan: &Plan, name: String, block: u16, page: u64, found: &[u8]) -> Difference {
    let guest = plan.guest();
    let page_holds = guest.expected(block, page);
    let (generation, zero) = match page_holds {
        Expected::Zero => (0, true),
        Expected::Generation(generation) => (generation, false),
    };
    let mut expected = vec![0; found.len()];
    guest.fill(block, PageRef { page, generation, zero }, &mut expected);
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let end = found.len().min(at + SHOWN_BYTES);
    Difference {
        block: name,
        offset: page * found.len() as u64 + at as u64,
        page,
        page_holds,
        expected: expected[at..end].to_vec(),
        found: found[at..end].to_vec(),
    }
}

/// All RAM that is sent, in pieces of at most [`PIECE_BYTES`], none across two blocks.
struct Pieces {
    piece_pages: u64,
    /// For each block, the number of its first piece and its pages.
    blocks: Vec<(u64, u64)>,
    count: u64,
}

impl Pieces {
    fn new(plan: &Plan) -> Self {
        let guest = plan.guest();
        let piece_pages = PIECE_BYTES as u64 / u64::from(guest.page_bytes());
        let mut count = 0;
        let blocks = (0..guest.block_count())
            .map(|block| {
                let first = count;
                let pages = guest.pages_sent(block as u16);
                count += pages.div_ceil(piece_pages);
                (first, pages)
            })
            .collect();
        Self { piece_pages, blocks, count }
    }

    /// Block, first page and number of pages of a piece; `None` behind the last.
    fn piece(&self, index: u64) -> Option<(u16, u64, u64)> {
        if index >= self.count {
            return None;
        }
        let block = self.blocks.partition_point(|(first, _)| *first <= index) - 1;
        let (first, pages) = self.blocks[block];
        let page = (index - first) * self.piece_pages;
        Some((block as u16, page, self.piece_pages.min(pages - page)))
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is read at once: a multiple of every page size.
const PIECE_BYTES: usize = 512 * 1024;
const SHOWN_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceConfig;

    fn plan() -> Plan {
        Plan::new(SourceConfig::new(11, 5 << 20, 3)).expect("possible")
    }

    fn right(plan: &Plan) -> Vec<Vec<u8>> {
        let guest = plan.guest();
        let page_bytes = guest.page_bytes() as usize;
        let block = |block: u16| {
            let mut ram = vec![0; guest.pages(block) as usize * page_bytes];
            for (page, slot) in (0..).zip(ram.chunks_exact_mut(page_bytes)) {
                if let Expected::Generation(generation) = guest.expected(block, page) {
                    guest.fill(block, PageRef { page, generation, zero: false }, slot);
                }
            }
            ram
        };
        (0..guest.block_count() as u16).map(block).collect()
    }

    fn check(plan: &Plan, ram: &[Vec<u8>]) -> Result<Verified, VerifyError> {
        verify(plan, 3, |block, offset, out| {
            let start = offset as usize;
            out.copy_from_slice(&ram[usize::from(block)][start..start + out.len()]);
            Ok(())
        })
    }

    #[test]
    fn right_memory_passes_and_is_counted() {
        let plan = plan();
        let verified = check(&plan, &right(&plan)).expect("right");
        assert_eq!(verified.bytes, plan.config().ram_bytes());
        assert!(verified.zero > 0 && verified.zero < verified.pages);
    }

    #[test]
    fn the_first_of_several_differences_is_shown() {
        let plan = plan();
        let mut ram = right(&plan);
        for (block, at) in [(3, 0), (1, 0x3456), (1, 0x9_0000), (2, 7)] {
            ram[block][at] ^= 1;
        }
        let VerifyError::Different(difference) = check(&plan, &ram).expect_err("differs") else {
            panic!("no difference");
        };
        assert_eq!((difference.offset, difference.page), (0x3456, 3));
        assert_eq!(difference.block, plan.config().blocks[1].name);
        assert_eq!(difference.found[0], difference.expected[0] ^ 1);
        assert!(difference.to_string().contains("0x3456"), "{difference}");
    }

    #[test]
    fn a_place_that_cannot_be_read_is_named() {
        let plan = plan();
        let result = verify(&plan, 2, |block, _, out| {
            out.fill(0);
            if block == 0 { Err(io::Error::other("gone")) } else { Ok(()) }
        });
        let text = result.expect_err("unreadable").to_string();
        assert!(text.contains("pc.ram") && text.contains("gone"), "{text}");
    }
}
