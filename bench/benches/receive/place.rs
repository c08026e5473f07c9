//! What a header says: where the pages behind it go.

use std::net::TcpStream;

use landfall_pagepool::RamBlock;

use crate::stream::{FLAG_SYNC, HEADER_BYTES, MAGIC, OFFSETS_AT, PACKET_PAGES, PAGE_BYTES, Stream};

/// One channel at the receiver.
pub(crate) struct Lane<'a> {
    /// Where its bytes come from.
    pub(crate) socket: &'a TcpStream,
    /// Where its pages go.
    pub(crate) ram: &'a RamBlock,
    base: u64,
    stream: &'a Stream,
    packets: usize,
    /// The runs of the packet whose header was taken last.
    pub(crate) runs: Vec<Run>,
}

/// Bytes that lie together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From the block's start.
    pub(crate) offset: u64,
    /// How many.
    pub(crate) bytes: u64,
}

/// What a header announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// So many bytes of pages.
    Pages(usize),
    /// Nothing more.
    End,
}

impl<'a> Lane<'a> {
    /// A channel whose region begins at `base`.
    pub(crate) fn new(
        socket: &'a TcpStream,
        ram: &'a RamBlock,
        base: u64,
        stream: &'a Stream,
    ) -> Self {
        Self { socket, ram, base, stream, packets: 0, runs: Vec::with_capacity(RUNS_MAX) }
    }

    /// How many packets have come.
    pub(crate) fn packets(&self) -> usize {
        self.packets
    }

    /// A part of the region.
    pub(crate) fn run_at(&self, at: u64, bytes: u64) -> Run {
        Run { offset: self.base + at, bytes }
    }

    /// Takes a whole header.
    pub(crate) fn take_header(&mut self, header: &[u8]) -> Next {
        assert_eq!((header.len(), be32(header, 0)), (HEADER_BYTES, MAGIC), "no header");
        if be32(header, 8) & FLAG_SYNC != 0 {
            return Next::End;
        }
        let normal = be32(header, 16) as usize;
        assert!(normal <= PACKET_PAGES, "{normal} pages");
        let lap = self.packets / self.stream.packets();
        let window = self.base + (lap * self.stream.window_bytes()) as u64;
        let order = self.stream.order();
        let piece = order.piece_bytes();
        self.runs.clear();
        for entry in header[OFFSETS_AT..].chunks_exact(8).take(normal) {
            let page = window + u64::from_be_bytes(entry.try_into().expect("8 bytes"));
            for at in (0..PAGE_BYTES / piece).rev() {
                let offset = page + (at * piece) as u64;
                match self.runs.last_mut() {
                    Some(run) if order.merges() && run.offset + run.bytes == offset => {
                        run.bytes += piece as u64;
                    }
                    _ => self.runs.push(Run { offset, bytes: piece as u64 }),
                }
            }
        }
        self.packets += 1;
        Next::Pages(normal * PAGE_BYTES)
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// `UIO_MAXIOV`, less one for the header behind the pages.
pub(crate) const RUNS_MAX: usize = 1023;
