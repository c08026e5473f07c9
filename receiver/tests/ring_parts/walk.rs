//! The same script received in two ways.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};
use landfall_receiver::place::{Run, advance};
use landfall_receiver::ring::{Expected, Operation, ReaderRing, RingFeatures, STAGING_BYTES};
use landfall_receiver::wake::Wake;

use super::Kind;
use super::script::{BLOCK_PAGES, BLOCKS, Packet, RUNS_MAX, Script};

/// What came, apart from RAM.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// All bytes of headers.
    pub(crate) headers: Bytes,
    /// All bytes that came through staging memory.
    pub(crate) staged: Bytes,
    /// All bytes that were taken from the socket.
    pub(crate) taken: usize,
    /// The stream ended before the script did.
    pub(crate) ended: bool,
}

/// Bytes, of which a failure shows the end.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = &self.0[self.0.len().saturating_sub(16)..];
        write!(f, "{} bytes, the last {end:02x?}", self.0.len())
    }
}

/// Receives `script` with plain reads.
pub(crate) fn plainly(socket: OwnedFd, script: &Script, ram: &Ram, kind: Kind) -> Outcome {
    let mut socket = file_of(&socket);
    let mut outcome = Outcome::default();
    let mut fill = |buffer: &mut [u8]| {
        let mut have = 0;
        while have < buffer.len() {
            match socket.read(&mut buffer[have..]) {
                Ok(0) => break,
                Ok(bytes) => have += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(50));
                }
                Err(error) => panic!("read: {error}"),
            }
        }
        have
    };
    for packet in &script.0 {
        let mut header = vec![0; packet.header];
        let have = fill(&mut header);
        outcome.headers.0.extend(&header[..have]);
        outcome.taken += have;
        if have < header.len() {
            return Outcome { ended: true, ..outcome };
        }
        for run in &packet.runs {
            let mut pages = vec![0; run.bytes as usize];
            let have = fill(&mut pages);
            match kind.away() {
                None => ram.write(packet.block, run.offset, &pages[..have]),
                Some(false) => outcome.staged.0.extend(&pages[..have]),
                Some(true) => {}
            }
            outcome.taken += have;
            if have < pages.len() {
                return Outcome { ended: true, ..outcome };
            }
        }
    }
    outcome
}

/// Attaches as a reader does, with staging memory where `kind` needs some.
pub(crate) fn attach(ring: &mut ReaderRing, socket: Arc<OwnedFd>, kind: Kind) -> usize {
    let slot = ring.attach(socket, RUNS_MAX);
    if kind.away() == Some(false) {
        ring.give_staging(slot, STAGING_BYTES);
    }
    slot
}

/// Receives bytes that do not go to RAM: dropped by the kernel, or through staging
/// memory.
pub(crate) fn arm_away(
    ring: &mut ReaderRing,
    slot: usize,
    bytes: u64,
    truncate: bool,
    then_header: Option<usize>,
) {
    if truncate {
        ring.arm_truncate(slot, bytes, 0);
    } else {
        ring.arm_payload(slot, bytes, then_header, 0);
    }
}

/// Receives `script` through a ring, as a reader does.
pub(crate) fn through_ring(
    features: RingFeatures,
    socket: OwnedFd,
    script: &Script,
    ram: &Ram,
    kind: Kind,
) -> Outcome {
    let wake = Wake::new().unwrap();
    let mut ring = ReaderRing::new(features, 1, wake.fd()).unwrap();
    ring.set_ram(ram.blocks());
    let slot = attach(&mut ring, Arc::new(socket), kind);
    let mut walk = Walk {
        ring,
        slot,
        kind,
        header_left: None,
        pages_left: 0,
        runs: Vec::new(),
        outcome: Outcome::default(),
    };
    walk.ring.arm_wake();
    wake.wake();
    for (packet, next) in
        script.0.iter().zip(script.0.iter().skip(1).map(Some).chain(std::iter::once(None)))
    {
        if !walk.header(packet) || !walk.pages(packet, next) {
            walk.outcome.ended = true;
            break;
        }
    }
    walk.outcome
}

struct Walk {
    ring: ReaderRing,
    slot: usize,
    kind: Kind,
    /// Of the header, some of which may have come behind the pages before it.
    header_left: Option<usize>,
    pages_left: usize,
    runs: Vec<Run>,
    outcome: Outcome,
}

impl Walk {
    /// Takes all of a packet's header; false at the end of the stream.
    fn header(&mut self, packet: &Packet) -> bool {
        while *self.header_left.get_or_insert(packet.header) > 0 {
            if let Some(left) = self.header_left.filter(|_| !self.ring.is_busy(self.slot)) {
                self.ring.arm_header(self.slot, left, Expected::default());
            }
            if !self.turn() {
                return false;
            }
        }
        self.header_left = None;
        true
    }

    /// Takes all of a packet's pages, and perhaps some of the next header.
    fn pages(&mut self, packet: &Packet, next: Option<&Packet>) -> bool {
        self.runs.clone_from(&packet.runs);
        self.pages_left = packet.page_bytes();
        while self.pages_left > 0 {
            if !self.ring.is_busy(self.slot) {
                let link = packet.link && self.kind.links();
                let then_header = next.filter(|_| link).map(|next| next.header);
                self.header_left = then_header;
                match self.kind.away() {
                    None => {
                        let (slot, block) = (self.slot, packet.block);
                        self.ring.arm_pages(slot, block, &self.runs, then_header, 0);
                    }
                    Some(truncate) => {
                        let bytes = self.pages_left as u64;
                        arm_away(&mut self.ring, self.slot, bytes, truncate, then_header);
                    }
                }
            }
            if !self.turn() {
                return false;
            }
        }
        true
    }

    /// Takes what the kernel has; false at the end of the stream.
    fn turn(&mut self) -> bool {
        self.ring.wait().unwrap();
        while let Some(completion) = self.ring.completion() {
            match (completion.operation, completion.result) {
                (Operation::Wake, Ok(8)) => self.ring.arm_wake(),
                (Operation::Header(_) | Operation::Pages(_), Ok(0)) => return false,
                (Operation::Header(slot), Ok(bytes)) => {
                    assert_eq!(self.pages_left, 0, "a header before its pages");
                    let left = self.header_left.as_mut().expect("a header is wanted");
                    *left = left.checked_sub(bytes).expect("no more than the header");
                    self.outcome.headers.0.extend(self.ring.headers(slot, 0..bytes));
                    self.outcome.taken += bytes;
                }
                (Operation::Pages(slot), Ok(bytes)) => {
                    let pages = bytes.min(self.pages_left);
                    if self.kind.away() == Some(false) {
                        self.outcome.staged.0.extend(self.ring.staging(slot, pages));
                    }
                    self.pages_left -= pages;
                    advance(&mut self.runs, pages as u64);
                    let behind = bytes - pages;
                    if behind > 0 {
                        let left = self.header_left.as_mut().expect("a header is wanted");
                        *left = left.checked_sub(behind).expect("no more than the header");
                        self.outcome.headers.0.extend(self.ring.headers(slot, 0..behind));
                    }
                    self.outcome.taken += bytes;
                }
                other => panic!("{other:?}"),
            }
        }
        true
    }
}

/// The source's end of a connection.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// A socket pair.
    pub(crate) fn unix() -> (Self, OwnedFd) {
        let (source, socket) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Self::Unix(source), socket.into())
    }

    /// A connection over loopback that sends at once what it is given.
    pub(crate) fn tcp() -> (Self, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        source.set_nodelay(true).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Self::Tcp(source), socket.into())
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.shutdown(how),
            Self::Tcp(socket) => socket.shutdown(how),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends in pieces of all sizes, with pauses, and ends the stream.
pub(crate) fn send_in_cuts(mut source: Stream, mut content: &[u8], mut random: Rng) {
    while !content.is_empty() {
        let most = [1, 7, 300, 1344, 5000, 100_000][random.usize(..6)];
        let bytes = (1 + random.usize(..most)).min(content.len());
        // A receiver that has its script together no longer listens.
        if source.write_all(&content[..bytes]).is_err() {
            return;
        }
        content = &content[bytes..];
        match random.usize(..8) {
            0 => thread::sleep(Duration::from_micros(random.u64(..300))),
            1..4 => thread::yield_now(),
            _ => {}
        }
    }
    let _ = source.shutdown(Shutdown::Write);
}

/// The socket, for plain reads.
pub(crate) fn file_of(socket: &OwnedFd) -> File {
    File::from(socket.try_clone().unwrap())
}

/// RAM blocks to receive into.
pub(crate) struct Ram {
    blocks: Arc<RamBlocks>,
}

impl Ram {
    pub(crate) fn new() -> Self {
        let config = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).unwrap();
        let requests = (0..BLOCKS).map(|index| BlockRequest {
            name: BlockName::try_from(format!("block-{index}").as_str()).unwrap(),
            bytes: BLOCK_PAGES as u64 * 4096,
        });
        let requests: Vec<_> = requests.collect();
        let blocks = pool.carve(&requests, 4096, &|_, _| {}).unwrap();
        Self { blocks: Arc::new(blocks) }
    }

    pub(crate) fn blocks(&self) -> Arc<RamBlocks> {
        for block in &*self.blocks {
            block.lend(0..block.pages());
        }
        Arc::clone(&self.blocks)
    }

    /// Who holds the blocks, this included.
    pub(crate) fn users(&self) -> usize {
        Arc::strong_count(&self.blocks)
    }

    pub(crate) fn write(&self, block: usize, offset: u64, bytes: &[u8]) {
        let block = &self.blocks[block];
        block.lend(0..block.pages());
        block.write(offset, bytes);
    }

    pub(crate) fn clear(&self) {
        let zeros = vec![0; BLOCK_PAGES * 4096];
        (0..BLOCKS).for_each(|block| self.write(block, 0, &zeros));
    }

    pub(crate) fn content(&self) -> Vec<Vec<u8>> {
        let read = |block: &landfall_pagepool::RamBlock| {
            let mut bytes = vec![0; block.bytes() as usize];
            block.read(0, &mut bytes);
            bytes
        };
        self.blocks.iter().map(read).collect()
    }
}
