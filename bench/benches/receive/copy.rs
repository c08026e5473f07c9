//! Placing by a copy in user space: from a buffer that received whatever was there.

use std::io::Read;

use landfall_pagepool::RamBlock;

use crate::contender::Counts;
use crate::place::{Lane, Next};
use crate::stream::HEADER_BYTES;

/// How pages are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// `memcpy`.
    Cached,
    /// Stores that pass the cache (AVX2; elsewhere as `Cached`).
    Streaming,
    /// Not at all: what the receive alone costs.
    Left,
}

/// Reads what is there, at most `bytes`, and copies it to its places.
pub(crate) fn receive(lane: &mut Lane<'_>, bytes: usize, copy: Copy) -> Counts {
    let mut counts = Counts::default();
    let mut buffer = vec![0; bytes];
    let mut placer = Placer::new(copy);
    let mut socket = lane.socket;
    while !placer.has_ended() {
        let taken = socket.read(&mut buffer).expect("received");
        assert!(taken > 0, "the sender went away");
        counts.calls += 1;
        counts.short += u64::from(taken < bytes);
        placer.take(lane, &buffer[..taken]);
    }
    counts
}

/// Takes a channel's bytes in pieces of any size.
pub(crate) struct Placer {
    copy: Copy,
    header: Vec<u8>,
    /// The run that is being filled, and how far.
    run: usize,
    inside: u64,
    in_pages: bool,
    ended: bool,
}

impl Placer {
    /// At the beginning of a channel.
    pub(crate) fn new(copy: Copy) -> Self {
        let header = Vec::with_capacity(HEADER_BYTES);
        Self { copy, header, run: 0, inside: 0, in_pages: false, ended: false }
    }

    /// Whether the channel has said that it ends.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, lane: &mut Lane<'_>, bytes: &[u8]) {
        self.place(lane, bytes);
        // Once for all: it waits until the stores have left.
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a fence needs SSE, which every x86-64 CPU has.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }

    fn place(&mut self, lane: &mut Lane<'_>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.in_pages {
                let run = lane.runs[self.run];
                let part = (run.bytes - self.inside).min(bytes.len() as u64);
                let (now, rest) = bytes.split_at(usize::try_from(part).expect("a part of a slice"));
                store(lane.ram, run.offset + self.inside, now, self.copy);
                bytes = rest;
                self.inside += part;
                if self.inside == run.bytes {
                    (self.run, self.inside) = (self.run + 1, 0);
                    self.in_pages = self.run < lane.runs.len();
                }
                continue;
            }
            let next = if self.header.is_empty() && bytes.len() >= HEADER_BYTES {
                let (header, rest) = bytes.split_at(HEADER_BYTES);
                bytes = rest;
                lane.take_header(header)
            } else {
                let part = (HEADER_BYTES - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                if self.header.len() < HEADER_BYTES {
                    return;
                }
                let next = lane.take_header(&self.header);
                self.header.clear();
                next
            };
            (self.run, self.inside) = (0, 0);
            self.in_pages = !lane.runs.is_empty();
            self.ended = next == Next::End;
            assert!(!self.ended || bytes.is_empty(), "bytes behind the end");
        }
    }
}

fn store(ram: &RamBlock, offset: u64, bytes: &[u8], copy: Copy) {
    if copy == Copy::Left {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if copy == Copy::Streaming && is_x86_feature_detected!("avx2") {
        let span = ram.span(offset, bytes.len() as u64).expect("inside the block");
        let to = span.as_ptr();
        let ahead = to.align_offset(32).min(bytes.len());
        let whole = (bytes.len() - ahead) / 32 * 32;
        // SAFETY: stream needs AVX2, whole bytes to read, and as many to write, aligned to 32.
        // - AVX2 was detected; ahead + whole is no more than the slice and the span have, and
        //   `to + ahead` is aligned (or whole is 0).
        unsafe { stream(to.wrapping_add(ahead), bytes[ahead..].as_ptr(), whole) };
        for (from, until) in [(0, ahead), (ahead + whole, bytes.len())] {
            ram.write(offset + from as u64, &bytes[from..until]);
        }
        return;
    }
    ram.write(offset, bytes);
}

/// # Safety
/// The CPU has AVX2; `from` is good for `bytes` to read, `to` for as many to write; `to` is aligned
/// to 32 bytes, `bytes` a multiple of 32, and the two do not overlap.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn stream(to: *mut u8, from: *const u8, bytes: usize) {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_stream_si256};
    for at in (0..bytes).step_by(32) {
        // SAFETY: an unaligned load needs 32 bytes to read: inside the caller's range.
        let value = unsafe { _mm256_loadu_si256(from.wrapping_add(at).cast::<__m256i>()) };
        // SAFETY: a streaming store needs 32 aligned bytes to write: inside the caller's range.
        unsafe { _mm256_stream_si256(to.wrapping_add(at).cast::<__m256i>(), value) };
    }
}
