//! Main's bytes, record by record.

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
    Flush,
    /// EOS of a ram section, with the section's type byte.
    Eos(u8),
    /// A section that is not iterable and came before the tail.
    Early(String),
    /// A section of `dirty-bitmap`, with its type byte.
    Bitmaps(u8),
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
    let mut ids = (None, None);
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
            _ => {}
        }
        if ids.0 == Some(id) {
            ram(&mut b, kind, known, &mut last, &mut out.events);
        } else if ids.1 == Some(id) {
            bitmaps(&mut b);
            out.events.push(Event::Bitmaps(kind));
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
                while left > 0 {
                    let name = b.counted();
                    let bytes = b.be(8);
                    if known.sized_blocks {
                        b.be(8);
                    }
                    left -= bytes;
                    blocks.push((name, bytes));
                }
                events.push(Event::Blocks(blocks));
            }
            what @ (0x2 | 0x8) => {
                if flags & 0x20 == 0 {
                    *last = b.counted();
                }
                let block = last.clone();
                assert!(!block.is_empty(), "CONTINUE of nothing");
                if what == 0x2 {
                    assert_eq!(b.byte(), 0, "fill byte");
                    events.push(Event::Zero { block, offset });
                } else {
                    let bytes = b.take(known.page_bytes).to_vec();
                    events.push(Event::Full { block, offset, bytes });
                }
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

/// The body of a virtio-mem device's early section.
fn early(b: &mut Bytes<'_>) {
    b.be(8);
    let (region, block) = (b.be(8), b.be(8));
    b.take(12);
    b.take((region / block).div_ceil(64) as usize * 8);
}
