//! The payload of RAM sections: the list of blocks, then items.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::StreamFault;
use super::event::Event;
use crate::wire::{
    BlockInfo, FileExtent, MappedRamHeader, PageBytes, RamFlags, RamItem, Reader, SectionType,
    WireError, WireFault,
};

/// What is known of RAM so far.
#[derive(Debug, Default)]
pub(super) struct Ram {
    /// The complete list, once it is.
    blocks: Option<Arc<[BlockInfo]>>,
    by_name: HashMap<Box<str>, usize>,
    /// The list while it comes.
    list: Option<List>,
    /// The block of the item before, and its used length.
    current: Option<(usize, u64)>,
    flush_in_start: bool,
    start_ended: bool,
    zero_items: u64,
    /// Where the stream goes on, behind the pages of a mapped-ram file.
    seek: Option<u64>,
}

/// The list of blocks while it comes.
#[derive(Debug)]
struct List {
    left: u64,
    blocks: Vec<BlockInfo>,
}

/// What the parts of the stream before RAM said about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) page: PageBytes,
    pub(super) ram_bytes_max: u64,
    /// The summary of page sizes in POSTCOPY_ADVISE.
    pub(super) page_bytes_summary: Option<u64>,
    pub(super) x_ignore_shared: bool,
    /// The file, and where in it the input begins, with mapped-ram.
    pub(super) mapped_ram: Option<(FileExtent, u64)>,
}

/// What [`Ram::step`] took off the reader.
pub(super) enum Taken<'a> {
    /// An event.
    Event(Event<'a>),
    /// The end of the payload; an event too.
    Eos,
    /// The stream goes on at this offset of its file; an event too.
    Seek(u64),
    /// Something that is no event by itself.
    Nothing,
}

/// Why an item was not taken.
pub(super) enum Refused {
    Wire(WireError),
    /// Where in the input, and what.
    Fault(usize, StreamFault),
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl Ram {
    /// Takes one item, or one entry of the list, off `reader`; short if it is
    /// not whole.
    pub(super) fn step<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        shape: Shape,
        section_type: SectionType,
    ) -> Result<Taken<'a>, Refused> {
        if let Some(file_offset) = self.seek.take() {
            return Ok(Taken::Seek(file_offset));
        }
        if self.list.is_some() {
            return self.entry(reader, shape);
        }
        let at = reader.at();
        let item = RamItem::parse(reader, shape.page)?;
        let fault = |fault| Err(Refused::Fault(at, fault));
        if item.flags == RamFlags::MEM_SIZE {
            if self.blocks.is_some() || section_type != SectionType::START {
                return fault(StreamFault::BlocksAgain);
            }
            return self.begin_list(item.address, at, shape);
        }
        if self.blocks.is_none() {
            return fault(StreamFault::BlocksMissing);
        }
        match item.flags {
            RamFlags::EOS => {
                self.start_ended = true;
                Ok(Taken::Eos)
            }
            _ if shape.mapped_ram.is_some() => fault(StreamFault::Misplaced {
                what: "pages of a mapped-ram file have their places, none may be in the stream",
            }),
            RamFlags::MULTIFD_FLUSH => {
                self.flush_in_start |= section_type == SectionType::START;
                Ok(Taken::Event(Event::MultifdFlush))
            }
            RamFlags::HOOK => fault(StreamFault::Unsupported {
                what: "rdma (a HOOK item)".into(),
                remedy: "migrate to a tcp: or unix: address",
            }),
            _ => self.page_item(reader, shape.page, item, at).map(Taken::Event),
        }
    }

    fn begin_list<'a>(
        &mut self,
        total: u64,
        at: usize,
        shape: Shape,
    ) -> Result<Taken<'a>, Refused> {
        let fault = if total == 0 {
            StreamFault::NoBlocks
        } else if total > shape.ram_bytes_max {
            let (found, limit) = (total, shape.ram_bytes_max);
            StreamFault::OverLimit { what: "bytes of RAM", found, limit }
        } else {
            self.list = Some(List { left: total, blocks: Vec::new() });
            return Ok(Taken::Nothing);
        };
        Err(Refused::Fault(at, fault))
    }

    fn entry<'a>(&mut self, reader: &mut Reader<'a>, shape: Shape) -> Result<Taken<'a>, Refused> {
        let Some(list) = &mut self.list else { return Ok(Taken::Nothing) };
        let at = reader.at();
        let mut block = BlockInfo::parse(reader, shape.page)?;
        let Some(left) = list.left.checked_sub(block.used_bytes) else {
            let BlockInfo { name, used_bytes, .. } = block;
            let fault = StreamFault::BlocksPastTotal { name, used_bytes, left: list.left };
            return Err(Refused::Fault(at, fault));
        };
        if let Some(summary) = shape.page_bytes_summary {
            block.parse_page_bytes(reader, shape.page, summary, left == 0)?;
        }
        if shape.x_ignore_shared {
            block.parse_guest_phys_addr(reader)?;
        }
        if let Some((file, input_at)) = shape.mapped_ram {
            let header_at = reader.at();
            let Shape { page, x_ignore_shared, .. } = shape;
            block.mapped =
                MappedRamHeader::parse(reader, page, block.used_bytes, input_at, x_ignore_shared)?;
            let end = block.mapped.map_or(0, |mapped| mapped.pages_end);
            if end > file.bytes {
                let fault =
                    StreamFault::PastEndOfFile { block: block.name, end, bytes: file.bytes };
                return Err(Refused::Fault(header_at, fault));
            }
        }
        // From here on the entry is taken: nothing above has changed anything.
        let index = list.blocks.len();
        if index >= BLOCK_COUNT_MAX {
            let fault = StreamFault::OverLimit {
                what: "number of RAM blocks",
                found: number(index).saturating_add(1),
                limit: number(BLOCK_COUNT_MAX),
            };
            return Err(Refused::Fault(at, fault));
        }
        if self.by_name.insert(block.name.clone(), index).is_some() {
            return Err(Refused::Fault(at, StreamFault::BlockTwice { name: block.name }));
        }
        self.seek = block.mapped.map(|mapped| mapped.pages_end);
        list.blocks.push(block);
        list.left = left;
        if left > 0 {
            return Ok(Taken::Nothing);
        }
        let blocks: Arc<[BlockInfo]> = std::mem::take(&mut list.blocks).into();
        self.list = None;
        self.blocks = Some(Arc::clone(&blocks));
        Ok(Taken::Event(Event::RamBlocks(blocks)))
    }

    fn page_item<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        page: PageBytes,
        item: RamItem,
        at: usize,
    ) -> Result<Event<'a>, Refused> {
        let (block, used_bytes) = self.block_of(reader, item, at)?;
        let offset = item.address;
        // Both are multiples of the page size.
        if offset >= used_bytes {
            let name = self.blocks.as_deref().and_then(|blocks| blocks.get(block));
            let block = name.map_or_else(Box::default, |info| info.name.clone());
            let fault = StreamFault::PageOutside { block, offset, used_bytes };
            return Err(Refused::Fault(at, fault));
        }
        let event = match item.flags.without_continue() {
            RamFlags::PAGE => {
                Event::Page { block, offset, bytes: reader.bytes("page", page.as_usize())? }
            }
            RamFlags::ZERO => {
                let fill_at = reader.at();
                let fill = reader.byte("fill byte")?;
                if fill != 0 {
                    let fault = WireFault::Mismatch { found: fill.into(), expected: 0 };
                    return Err(reader.fault_at("fill byte", fill_at, fault).into());
                }
                self.zero_items = self.zero_items.saturating_add(1);
                Event::Zero { block, offset }
            }
            RamFlags::XBZRLE => Event::Xbzrle { block, offset, encoded: xbzrle(reader, page)? },
            _ => Event::CompressedPage { block, offset, encoded: compressed(reader, page)? },
        };
        self.current = Some((block, used_bytes));
        Ok(event)
    }

    /// Index and used length of the block that an item is about.
    fn block_of(
        &self,
        reader: &mut Reader<'_>,
        item: RamItem,
        at: usize,
    ) -> Result<(usize, u64), Refused> {
        if item.flags.has(RamFlags::CONTINUE) {
            return self.current.ok_or(Refused::Fault(at, StreamFault::NoPreviousBlock));
        }
        let name = reader.cstr("block name")?;
        self.by_name
            .get(name)
            .and_then(|&index| Some((index, self.blocks.as_deref()?.get(index)?.used_bytes)))
            .ok_or_else(|| Refused::Fault(at, StreamFault::UnknownBlock { name: name.into() }))
    }

    /// The list of blocks, once it is complete.
    pub(super) fn blocks(&self) -> Option<&Arc<[BlockInfo]>> {
        self.blocks.as_ref()
    }

    /// The block that a CONTINUE item is about, and its used length.
    pub(super) fn current(&self) -> Option<(usize, u64)> {
        self.current
    }

    /// Whether START had a MULTIFD_FLUSH; `None` until its EOS.
    pub(super) fn start_has_flush(&self) -> Option<bool> {
        self.start_ended.then_some(self.flush_in_start)
    }

    /// ZERO items so far.
    pub(super) fn zero_items(&self) -> u64 {
        self.zero_items
    }

    /// Counts a ZERO item that was taken elsewhere.
    #[inline]
    pub(super) fn count_zero_item(&mut self) {
        self.zero_items = self.zero_items.wrapping_add(1);
    }
}

/// Header and bytes of an XBZRLE item (`migration/ram.c`, `load_xbzrle`).
fn xbzrle<'a>(reader: &mut Reader<'a>, page: PageBytes) -> Result<&'a [u8], WireError> {
    let at = reader.at();
    let kind = reader.byte("xbzrle encoding")?;
    if kind != XBZRLE_ENCODING {
        let fault = WireFault::Mismatch { found: kind.into(), expected: XBZRLE_ENCODING.into() };
        return Err(reader.fault_at("xbzrle encoding", at, fault));
    }
    let at = reader.at();
    let length = u64::from(reader.be16("xbzrle length")?);
    take_bounded(reader, "xbzrle length", at, length, page.as_u64())
}

/// Length and bytes of a COMPRESS_PAGE item.
fn compressed<'a>(reader: &mut Reader<'a>, page: PageBytes) -> Result<&'a [u8], WireError> {
    let at = reader.at();
    let length = u64::from(reader.be32("compressed length")?);
    let page = page.as_u64();
    // zlib's compressBound().
    let limit = page.saturating_add(page >> 12).saturating_add(page >> 14).saturating_add(13);
    take_bounded(reader, "compressed length", at, length, limit)
}

fn take_bounded<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    at: usize,
    found: u64,
    limit: u64,
) -> Result<&'a [u8], WireError> {
    if found > limit {
        return Err(reader.fault_at(field, at, WireFault::OverLimit { found, limit }));
    }
    reader.bytes(field, usize::try_from(found).unwrap_or(usize::MAX))
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// `ENCODING_FLAG_XBZRLE`, the only one.
pub(super) const XBZRLE_ENCODING: u8 = 1;

/// RAM blocks of one guest. Ordinary ones have about ten, and one more for
/// each PCI device with a ROM or memory of its own.
const BLOCK_COUNT_MAX: usize = 4096;
