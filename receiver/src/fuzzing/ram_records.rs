//! Sections of RAM on the main stream: every kind of item, into memory.

use std::io::Read;

use flate2::bufread::ZlibDecoder;

use super::memory::{BLOCKS, Memory, PAGE};
use super::model::Model;
use super::script::{Script, page_content};
use crate::codec::PageInflate;
use crate::main_stream::{
    CutPage, Event, INPUT_BYTES_MAX, MainStream, NextPage, Options, PageContent, Step,
};
use crate::migration::{MainPages, Placing};
use crate::stats::MainCounters;
use crate::wire::fuzzing::random_of;

/// Reads `script` as items of RAM sections, as they stand on the wire but for
/// the content of a PAGE item, which is one byte here: 0 for zero, 1 for zero
/// but for its end, any other for bytes made from it. After an EOS the section
/// ends and another begins.
///
/// The stream that comes of it goes through the main stream's machine and into
/// guest RAM twice: whole, and in pieces with the quick path. Memory, received
/// bits, counters, and whether and where the stream is refused must be what a
/// model has that knows only the tables of docs/wire-format.md.
///
/// # Panics
///
/// Where they differ.
pub fn ram_records(script: &[u8]) {
    let expected = Expected::of(script);
    let whole = run(&expected, &mut || usize::MAX, false);
    let mut random = random_of(script);
    let pieces = run(&expected, &mut || random.usize(..6000) + 1, true);
    assert_eq!(whole, pieces, "the pieces changed the meaning");
}

/// Scripts to begin from: each kind of item, and the observed XBZRLE record.
pub fn ram_records_seeds() -> Vec<Vec<u8>> {
    let xbzrle = b"\0\0\0\0\0\0\0\x60\x01\0\x07\x64\x01\x31\xeb\x0e\x01\x38";
    // One zlib stream of 4096 zeroes.
    let deflated =
        b"\x78\xda\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\x6d\x0f\x07\x14\0\0\0\xf0\x6e\x10\0\0\x01";
    let mut compressed = b"\0\0\0\0\0\0\x11\x20\0\0\0\x1a".to_vec();
    compressed.extend(deflated);
    let mem = b"\0\0\0\0\0\0\0\x02\x03mem\0\0\0\0\0\0\0\x10\x22\0".to_vec();
    let pages = b"\0\0\0\0\0\0\0\x08\x01a\x07\0\0\0\0\0\0\x20\x08\x15\
        0000:00:02.0/vga.vram\x09\0\0\0\0\0\0\x30\x28\0\0\0\0\0\0\0\x40\x28\x01";
    let flushes = b"\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x10";
    vec![
        [&mem[..], xbzrle].concat(),
        [&pages[..], &mem, flushes, pages].concat(),
        [&pages[..], xbzrle, &compressed].concat(),
        [&flushes[..], &mem, flushes].concat(),
        // A page behind the block's end, on the quick path; a byte behind the zlib stream.
        b"\0\0\0\0\0\0\0\x08\x01a\x07\0\0\0\0\0\0\x10\x22\0".to_vec(),
        [&mem[..], b"\0\0\0\0\0\0\x11\x20\0\0\0\x1b", deflated, b"\0"].concat(),
        // Up to the last byte of a page, one byte further, and a second run of nothing.
        b"\0\0\0\0\0\0\0\x40\x03mem\x01\0\x04\xff\x1f\x01\x09".to_vec(),
        b"\0\0\0\0\0\0\0\x40\x03mem\x01\0\x05\xff\x1f\x02\x09\x09".to_vec(),
        b"\0\0\0\0\0\0\0\x40\x03mem\x01\0\x06\0\x01\x07\0\x01\x08".to_vec(),
    ]
}

/// What must come of a script.
struct Expected {
    stream: Vec<u8>,
    model: Model,
    xbzrle: u64,
    /// Where the item begins that is refused.
    refused_at: Option<usize>,
}

/// Why the model reads no further.
enum Stop {
    Refused,
    Short,
}

impl Expected {
    fn of(script: &[u8]) -> Self {
        let mut expected =
            Self { stream: opening(), model: Model::new(), xbzrle: 0, refused_at: None };
        let mut script = Script(script);
        let mut block = None;
        loop {
            let at = expected.stream.len();
            match expected.item(&mut script, &mut block) {
                Ok(()) => {}
                Err(Stop::Short) => break,
                Err(Stop::Refused) => {
                    expected.refused_at = Some(at);
                    break;
                }
            }
        }
        // Nobody may look at what follows a refused item.
        expected.stream.extend_from_slice(script.0);
        expected
    }

    fn item(&mut self, script: &mut Script<'_>, last: &mut Option<usize>) -> Result<(), Stop> {
        let number = u64::from_be_bytes(self.copy(script, 8)?.try_into().expect("8 bytes"));
        let (flags, offset) = (number & 0xfff, number & !0xfff);
        match number {
            EOS => {
                self.stream.extend(b"\x7e\0\0\0\x01\x02\0\0\0\x01");
                return Ok(());
            }
            FLUSH => return Ok(()),
            _ => {}
        }
        let kind = flags & !CONTINUE;
        if ![ZERO, PAGE_ITEM, XBZRLE, COMPRESSED].contains(&kind) {
            return Err(Stop::Refused);
        }
        let index = if flags & CONTINUE != 0 {
            last.ok_or(Stop::Refused)?
        } else {
            let length = self.copy(script, 1)?[0];
            if length == 0 {
                return Err(Stop::Refused);
            }
            let name = self.copy(script, length.into())?;
            Model::find(&name).ok_or(Stop::Refused)?
        };
        let page = usize::try_from(offset / PAGE as u64).map_err(|_| Stop::Refused)?;
        if page >= self.model.block(index).page_count() {
            return Err(Stop::Refused);
        }
        match kind {
            ZERO => {
                if self.copy(script, 1)?[0] != 0 {
                    return Err(Stop::Refused);
                }
                self.model.block(index).make_zero(page);
            }
            PAGE_ITEM => {
                if script.is_empty() {
                    return Err(Stop::Short);
                }
                let content = page_content(script.byte());
                self.stream.extend_from_slice(content);
                self.full(index, page, content);
            }
            XBZRLE => {
                if self.copy(script, 1)?[0] != 1 {
                    return Err(Stop::Refused);
                }
                let length = u16::from_be_bytes(self.copy(script, 2)?.try_into().expect("2 bytes"));
                if usize::from(length) > PAGE {
                    return Err(Stop::Refused);
                }
                let encoded = self.copy(script, length.into())?;
                patch(self.model.block(index).page(page), &encoded).ok_or(Stop::Refused)?;
                self.model.block(index).normal(page);
                self.xbzrle += 1;
            }
            _ => {
                let length = u32::from_be_bytes(self.copy(script, 4)?.try_into().expect("4 bytes"));
                // compressBound() of zlib, for a page of 4096.
                if length > 4096 + 1 + 13 {
                    return Err(Stop::Refused);
                }
                let encoded = self.copy(script, length as usize)?;
                let content = inflate(&encoded).ok_or(Stop::Refused)?;
                self.full(index, page, &content);
            }
        }
        *last = Some(index);
        Ok(())
    }

    fn full(&mut self, index: usize, page: usize, content: &[u8]) {
        let block = self.model.block(index);
        block.page(page).copy_from_slice(content);
        block.normal(page);
        block.zero_sent_full += u64::from(block.is_zero(page));
    }

    /// Bytes that stand in the stream as in the script.
    fn copy(&mut self, script: &mut Script<'_>, count: usize) -> Result<Vec<u8>, Stop> {
        let bytes = script.take(count);
        self.stream.extend_from_slice(bytes);
        if bytes.len() < count { Err(Stop::Short) } else { Ok(bytes.to_vec()) }
    }
}

/// Applies an XBZRLE record; `None` where it is wrong.
fn patch(page: &mut [u8], encoded: &[u8]) -> Option<()> {
    let (mut read, mut write) = (0, 0);
    while read < encoded.len() {
        let mut length = || {
            let low = usize::from(*encoded.get(read)?);
            read += 1;
            if low < 128 {
                return Some(low);
            }
            let high = usize::from(*encoded.get(read)?);
            read += 1;
            (high < 128).then_some(low - 128 + high * 128)
        };
        let first = write == 0;
        let unchanged = length()?;
        if unchanged == 0 && !first {
            return None;
        }
        let changed = length()?;
        if changed == 0 {
            return None;
        }
        write += unchanged;
        let bytes = encoded.get(read..read + changed)?;
        page.get_mut(write..write + changed)?.copy_from_slice(bytes);
        read += changed;
        write += changed;
    }
    Some(())
}

/// The one page that `encoded` is a zlib stream of; `None` if it is not.
fn inflate(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = ZlibDecoder::new(encoded);
    let mut page = Vec::new();
    decoder.by_ref().take(PAGE as u64 + 1).read_to_end(&mut page).ok()?;
    (page.len() == PAGE && decoder.get_ref().is_empty()).then_some(page)
}

/// Everything before the first item: RAM's START with the list of blocks, and
/// a PART.
fn opening() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04".to_vec();
    let total: usize = BLOCKS.iter().map(|(_, pages)| pages * PAGE).sum();
    bytes.extend((total as u64 | 4).to_be_bytes());
    for (name, pages) in BLOCKS {
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
        bytes.extend(((pages * PAGE) as u64).to_be_bytes());
    }
    bytes.extend(EOS.to_be_bytes());
    bytes.extend(b"\x7e\0\0\0\x01\x02\0\0\0\x01");
    bytes
}

/// Takes the stream into memory as the main thread does; returns how it ended.
fn run(expected: &Expected, piece: &mut dyn FnMut() -> usize, quick: bool) -> Option<String> {
    let memory = Memory::new();
    let main = MainCounters::default();
    let placing = Placing { ram: &memory.ram, main: &main, blocks: &memory.counters };
    let mut stream = MainStream::new(Options::default());
    let mut pages = MainPages::new(12, true);
    let mut inflate = PageInflate::default();
    let (mut from, mut to) = (0, 0);
    let error = loop {
        let input = &expected.stream[from..to];
        if quick && let Some(page) = stream.next_page(input) {
            let NextPage { block, offset, content, consumed } = page;
            if let Err(error) = pages.take(&placing, block, offset, content) {
                assert_eq!(expected.refused_at, Some(from), "no page: {error}");
                break Some(error.to_string());
            }
            from += consumed;
            continue;
        }
        let (consumed, event) = match stream.step(input) {
            Err(error) => {
                let refused_at = expected.refused_at.expect("refused what is fine");
                let at = error.position();
                let item = refused_at as u64..=expected.stream.len() as u64;
                assert!(item.contains(&at), "refused at {at}, not at {refused_at}: {error}");
                break Some(error.to_string());
            }
            Ok(Step::Need { .. }) if to == expected.stream.len() => break None,
            Ok(Step::Need { .. }) if quick && let Some(cut) = stream.cut_page(input) => {
                // As the main thread does: its parts go into place as they come.
                let CutPage { block, offset, bytes, consumed } = cut;
                pages.put_part(&placing, block, offset, bytes);
                let mut have = bytes.len();
                from += consumed;
                while have < PAGE && to < expected.stream.len() {
                    to = expected.stream.len().min(to + piece());
                    let part = &expected.stream[from..to.min(from + PAGE - have)];
                    pages.put_part(&placing, block, offset + have as u64, part);
                    have += part.len();
                    from += part.len();
                }
                if have < PAGE {
                    break None;
                }
                pages.take_whole(&placing, block, offset);
                stream.passed_page();
                continue;
            }
            Ok(Step::Need { .. }) => {
                let room = INPUT_BYTES_MAX - input.len();
                to = expected.stream.len().min(to + piece().min(room));
                continue;
            }
            Ok(Step::Event { consumed, event }) => (consumed, event),
        };
        let placed = match event {
            Event::Page { block, offset, bytes } => Ok((block, offset, PageContent::Full(bytes))),
            Event::Zero { block, offset } => Ok((block, offset, PageContent::Zero)),
            Event::Xbzrle { block, offset, encoded } => {
                Ok((block, offset, PageContent::Xbzrle(encoded)))
            }
            Event::CompressedPage { block, offset, encoded } => inflate
                .page(encoded, PAGE)
                .map(|page| (block, offset, PageContent::Full(page)))
                .map_err(|error| error.to_string()),
            _ => {
                from += consumed;
                continue;
            }
        };
        let placed = placed.and_then(|(block, offset, content)| {
            let taken = pages.take(&placing, block, offset, content);
            taken.map_err(|error| error.to_string())
        });
        if let Err(error) = placed {
            assert_eq!(expected.refused_at, Some(from), "no page: {error}");
            break Some(error);
        }
        from += consumed;
    };
    pages.mark(&placing);
    assert_eq!(error.is_some(), expected.refused_at.is_some(), "refused at {from}: {error:?}");
    memory.check(&expected.model);
    let blocks = expected.model.blocks();
    let main_counted = [main.normal.get(), main.zero.get(), main.xbzrle.get()];
    let normal: u64 = blocks.iter().map(|block| block.normal).sum();
    let zero: u64 = blocks.iter().map(|block| block.zero).sum();
    assert_eq!(main_counted, [normal, zero, expected.xbzrle]);
    assert_eq!(stream.zero_items(), zero);
    error
}

const ZERO: u64 = 0x2;
const PAGE_ITEM: u64 = 0x8;
const EOS: u64 = 0x10;
const CONTINUE: u64 = 0x20;
const XBZRLE: u64 = 0x40;
const COMPRESSED: u64 = 0x100;
const FLUSH: u64 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_to_begin_from_place_pages_of_every_kind() {
        let all: Vec<Expected> =
            ram_records_seeds().iter().map(|seed| Expected::of(seed)).collect();
        let refused = all.iter().filter(|expected| expected.refused_at.is_some());
        assert_eq!(refused.count(), 4);
        let sum = |count: fn(&super::super::model::ModelBlock) -> u64| -> u64 {
            all.iter().flat_map(|expected| expected.model.blocks()).map(count).sum()
        };
        assert_eq!(all.iter().map(|expected| expected.xbzrle).sum::<u64>(), 3);
        // Four full pages three times and one, three deltas, one compressed page of zeroes.
        assert_eq!(sum(|block| block.normal), 4 * 3 + 1 + 3 + 1);
        assert_eq!(sum(|block| block.zero_sent_full), 3 + 1);
        assert!(sum(|block| block.zero) > 4);
    }

    #[test]
    fn the_model_of_xbzrle_knows_its_rules() {
        let mut page = vec![0; PAGE];
        assert!(patch(&mut page, &[0x64, 1, 0x31, 0xeb, 0x0e, 1, 0x38]).is_some());
        assert_eq!((page[100], page[2000]), (0x31, 0x38));
        for wrong in [&[0, 0][..], &[0, 1, 7, 0, 1, 8], &[0xff, 0x1f, 2, 9, 9], &[1], &[0x80, 0x80]]
        {
            assert!(patch(&mut page, wrong).is_none(), "{wrong:x?}");
        }
    }

    #[test]
    fn a_wrong_byte_in_memory_is_found() {
        let memory = Memory::new();
        memory.check(&Model::new());
        memory.ram[2].lend(4..5);
        memory.ram[2].write(4 * PAGE as u64 + 9, &[1]);
        let found = std::panic::catch_unwind(|| memory.check(&Model::new()));
        assert!(found.is_err());
    }
}
