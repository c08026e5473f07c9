//! Making memory zero again between runs: in parallel, and only where it was written.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::crew::Crew;
use crate::region::Region;
use crate::{RamBlock, RamBlocks, Span};

/// What taking memory back cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Bytes cleared.
    pub bytes: u64,
    /// ns it took.
    pub ns: u64,
    /// Threads that did it.
    pub threads: usize,
}

/// Clears every page of the blocks that was lent.
pub(crate) fn clear_written(blocks: &RamBlocks, crew: &Crew) -> Reclaimed {
    let start = Instant::now();
    let pieces: Vec<(&RamBlock, Range<u64>)> = blocks.iter().flat_map(pieces_of).collect();
    let cleared_bytes = AtomicU64::new(0);
    let Ok(worked) = crew.run(pieces.len() as u64, |index| {
        let (block, pages) = &pieces[index as usize];
        block.for_each_written_run(pages.clone(), |run| {
            let span = block.run_span(run);
            span.clear();
            cleared_bytes.fetch_add(span.len() as u64, Relaxed);
            Ok::<_, Infallible>(())
        })
    });
    Reclaimed {
        bytes: cleared_bytes.into_inner(),
        ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        threads: worked.threads,
    }
}

/// Clears the first `used` bytes of a region of which nobody knows any more what was written.
pub(crate) fn clear_unknown(region: &Region, used: u64, crew: &Crew) {
    let chunks = used.div_ceil(PIECE_BYTES);
    let Ok(_) = crew.run(chunks, |chunk| {
        let offset = chunk * PIECE_BYTES;
        let len = PIECE_BYTES.min(used - offset);
        let span = Span::new(region.mapping(), offset as usize, len as usize);
        span.expect("used bytes are inside").clear();
        Ok::<_, Infallible>(())
    });
}

/// A block's pages in pieces for a thread each.
pub(crate) fn pieces_of(block: &RamBlock) -> impl Iterator<Item = (&RamBlock, Range<u64>)> {
    let step = PIECE_BYTES / u64::from(block.page_bytes());
    let starts = (0..block.pages()).step_by(step as usize);
    starts.map(move |first| (block, first..block.pages().min(first + step)))
}

/// A thread is busy with it for milliseconds at most.
const PIECE_BYTES: u64 = 64 << 20;
