//! Main's bytes, record by record.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::Bytes;

/// What main said, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Command {
        id: u64,
        payload: Vec<u8>,
    },
    Blocks(Vec<(String, u64)>),
    Full {
        block: String,
        offset: u64,
        bytes: Vec<u8>,
    },
    Zero {
        block: String,
        offset: u64,
    },
    /// Unchanged and changed runs, still encoded.
    Xbzrle {
        block: String,
        offset: u64,
        runs: Vec<u8>,
    },
    /// A compressed page as it was before, and how many bytes it came in.
    Compressed {
        block: String,
        offset: u64,
        bytes: Vec<u8>,
        came_in: usize,
    },
    Flush,
    /// EOS of a ram section, with the section's type byte.
    Eos(u8),
    /// A section that is not iterable and came before the tail.
    Early(String),
    /// A section of `dirty-bitmap`, with its type byte.
    Bitmaps(u8),
    /// A section of `block`, with its type byte and the pieces of the disk in it: where they begin,
    /// and whether they came with bytes.
    Disk(u8, Vec<(u64, bool)>),
    /// The blocks' addresses, behind their list.
    Addresses(Vec<u64>),
}

/// What a test knows of the stream beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) page_bytes: usize,
    pub(crate) footers: bool,
    /// Bytes from the first section of the tail to the end of the stream.
    pub(crate) tail_and_ending_bytes: usize,
    pub(crate) tail_bytes: usize,
    /// Every block's entry names its page size.
    pub(crate) sized_blocks: bool,
    /// Every block's entry names its address.
    pub(crate) addressed_blocks: bool,
}

/// A whole main stream.
#[derive(Debug, Default)]
pub(crate) struct MainStream {
    pub(crate) machine: Option<String>,
    pub(crate) subsections: Vec<(String, Vec<u8>)>,
    pub(crate) events: Vec<Event>,
    pub(crate) tail: Vec<u8>,
    pub(crate) vmdesc: Option<String>,
}

pub(crate) fn main_stream(bytes: &[u8], known: Known) -> MainStream {
    let mut b = Bytes(bytes);
    let mut out = MainStream::default();
    assert_eq!((b.be(4), b.be(4)), (0x5145_564d, 3));
    configuration(&mut b, &mut out);
    let mut ids = (None, None, None);
    let mut last = String::new();
    while b.0.len() > known.tail_and_ending_bytes {
        let kind = b.byte();
        if kind == 8 {
            let (id, len) = (b.be(2), b.be(2) as usize);
            out.events.push(Event::Command { id, payload: b.take(len).to_vec() });
            continue;
        }
        let id = b.be(4);
        let name = matches!(kind, 1 | 4).then(|| {
            let name = b.counted();
            b.take(8);
            name
        });
        match name.as_deref() {
            Some("ram") => ids.0 = Some(id),
            Some("dirty-bitmap") => ids.1 = Some(id),
            Some("block") => ids.2 = Some(id),
            _ => {}
        }
        if ids.0 == Some(id) {
            ram(&mut b, kind, known, &mut last, &mut out.events);
        } else if ids.1 == Some(id) {
            bitmaps(&mut b);
            out.events.push(Event::Bitmaps(kind));
        } else if ids.2 == Some(id) {
            out.events.push(Event::Disk(kind, disk(&mut b)));
        } else {
            early(&mut b);
            out.events.push(Event::Early(name.expect("a section that was started")));
        }
        if known.footers {
            assert_eq!((b.byte(), b.be(4)), (0x7e, u64::from(id as u32)));
        }
    }
    out.tail = b.take(known.tail_bytes).to_vec();
    assert_eq!(b.byte(), 0, "EOF");
    if !b.0.is_empty() {
        assert_eq!(b.byte(), 6);
        let len = b.be(4) as usize;
        out.vmdesc = Some(String::from_utf8(b.take(len).to_vec()).expect("UTF-8"));
    }
    assert!(b.0.is_empty(), "{} bytes behind the end", b.0.len());
    out
}

fn configuration(b: &mut Bytes<'_>, out: &mut MainStream) {
    if b.0[0] != 7 {
        return;
    }
    b.byte();
    let len = b.be(4) as usize;
    out.machine = Some(String::from_utf8(b.take(len).to_vec()).expect("UTF-8"));
    while b.0[0] == 5 {
        b.byte();
        let name = b.counted();
        assert_eq!(b.be(4), 1);
        let len = match name.as_str() {
            "configuration/uuid" => 16,
            "configuration/target-page-bits" => 4,
            "configuration/capabilities" => b.0[4] as usize + 5, // of one
            other => panic!("subsection {other}"),
        };
        out.subsections.push((name, b.take(len).to_vec()));
    }
}

fn ram(b: &mut Bytes<'_>, kind: u8, known: Known, last: &mut String, events: &mut Vec<Event>) {
    loop {
        let item = b.be(8);
        let (offset, flags) = (item & !0xfff, item & 0xfff);
        match flags & !0x20 {
            0x10 => return events.push(Event::Eos(kind)),
            0x200 => events.push(Event::Flush),
            0x4 => {
                let mut left = offset;
                let mut blocks = Vec::new();
                let mut addresses = Vec::new();
                while left > 0 {
                    let name = b.counted();
                    let bytes = b.be(8);
                    if known.sized_blocks {
                        b.be(8);
                    }
                    if known.addressed_blocks {
                        addresses.push(b.be(8));
                    }
                    left -= bytes;
                    blocks.push((name, bytes));
                }
                events.push(Event::Blocks(blocks));
                if known.addressed_blocks {
                    events.push(Event::Addresses(addresses));
                }
            }
            what @ (0x2 | 0x8 | 0x40 | 0x100) => {
                if flags & 0x20 == 0 {
                    *last = b.counted();
                }
                let block = last.clone();
                assert!(!block.is_empty(), "CONTINUE of nothing");
                events.push(match what {
                    0x2 => {
                        assert_eq!(b.byte(), 0, "fill byte");
                        Event::Zero { block, offset }
                    }
                    0x8 => {
                        let bytes = b.take(known.page_bytes).to_vec();
                        Event::Full { block, offset, bytes }
                    }
                    0x40 => {
                        assert_eq!(b.byte(), 1, "the encoding");
                        let len = b.be(2) as usize;
                        assert!(len <= known.page_bytes, "{len} bytes of runs");
                        Event::Xbzrle { block, offset, runs: b.take(len).to_vec() }
                    }
                    _ => {
                        let came_in = b.be(4) as usize;
                        let mut bytes = Vec::new();
                        let mut stream = ZlibDecoder::new(b.take(came_in));
                        stream.read_to_end(&mut bytes).expect("a whole stream");
                        assert_eq!(stream.total_in(), came_in as u64, "nothing behind it");
                        assert_eq!(bytes.len(), known.page_bytes);
                        Event::Compressed { block, offset, bytes, came_in }
                    }
                });
            }
            other => panic!("item flags {other:#x}"),
        }
    }
}

fn bitmaps(b: &mut Bytes<'_>) {
    loop {
        let flags = b.byte();
        if flags & 0x01 != 0 {
            return;
        }
        if flags & 0x08 != 0 {
            b.counted();
        }
        if flags & 0x04 != 0 {
            b.counted();
        }
        if flags & 0x10 != 0 {
            b.take(5);
        }
        if flags & 0x40 != 0 {
            b.take(12);
            if flags & 0x02 == 0 {
                let len = b.be(8) as usize;
                b.take(len);
            }
        }
    }
}

/// The pieces of a disk: where they begin, and whether they came with bytes.
fn disk(b: &mut Bytes<'_>) -> Vec<(u64, bool)> {
    let mut pieces = Vec::new();
    loop {
        let item = b.be(8);
        let (at, flags) = (item & !0x1ff, item & 0x1ff);
        match flags {
            0x2 => return pieces,
            0x4 => assert!(at >> 9 <= 100, "percent"),
            0x1 | 0x9 => {
                assert_eq!(b.counted(), "disk0");
                b.take(if flags == 0x1 { 1 << 20 } else { 0 });
                pieces.push((at, flags == 0x1));
            }
            other => panic!("item flags {other:#x}"),
        }
    }
}

/// The body of a virtio-mem device's early section.
fn early(b: &mut Bytes<'_>) {
    b.be(8);
    let (region, block) = (b.be(8), b.be(8));
    b.take(12);
    b.take((region / block).div_ceil(64) as usize * 8);
}
