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
    /// Past the caches, as the receiver copies pages.
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
        // No page: for its fence, once for all, which waits until the stores have left.
        lane.ram.mark_received(std::iter::empty());
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
    match copy {
        Copy::Cached => {
            let span = ram.span(offset, bytes.len() as u64).expect("inside the block");
            span.patch(0, bytes);
        }
        Copy::Streaming => ram.write(offset, bytes),
        Copy::Left => {}
    }
}
