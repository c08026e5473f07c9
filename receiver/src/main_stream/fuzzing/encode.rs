//! Events back to the bytes that they were, from the tables of
//! docs/wire-format.md.

use super::super::Event;
use crate::wire::{BlockInfo, Command, SectionType};

/// Checks that `bytes` are what `event` says. `listed` are all bytes since the
/// event before, as the list of RAM blocks may be taken in pieces.
///
/// # Panics
///
/// If they are not.
pub(super) fn check(event: &Event<'_>, blocks: &[BlockInfo], bytes: &[u8], listed: &[u8]) {
    // Whether the item names its block says the item.
    let named = bytes.get(7).is_some_and(|flags| flags & 0x20 == 0);
    let item = |block: usize, offset: u64, flag: u64| {
        let continued = if named { 0 } else { 0x20 };
        let mut item = (offset | flag | continued).to_be_bytes().to_vec();
        if named {
            let name = blocks.get(block).map_or("", |info| &*info.name);
            item.extend(cstr(name));
        }
        item
    };
    let expected = match *event {
        Event::Header { version } => [b"QEVM", &version.to_be_bytes()[..]].concat(),
        Event::Configuration(ref configuration) => {
            let length = u32::try_from(configuration.machine.len()).unwrap_or(0);
            let mut head = vec![7];
            head.extend(length.to_be_bytes());
            head.extend(configuration.machine.as_bytes());
            assert!(bytes.starts_with(&head), "{configuration:?}");
            let rest = bytes.get(head.len()..).unwrap_or_default();
            let some = configuration.uuid.is_some() || configuration.page.is_some();
            assert!(!some || rest.first() == Some(&5), "{configuration:?}");
            return;
        }
        Event::Command(command) => self::command(command),
        Event::SectionStart { section_type, section_id, idstr, instance_id, version_id } => {
            let mut head = vec![section_type.0];
            head.extend(section_id.to_be_bytes());
            head.extend(cstr(idstr));
            head.extend(instance_id.to_be_bytes());
            head.extend(version_id.to_be_bytes());
            head
        }
        Event::SectionContinue { section_type, section_id } => {
            [&[section_type.0], &section_id.to_be_bytes()[..]].concat()
        }
        Event::RamBlocks(ref blocks) => {
            assert_eq!(listed, list(blocks));
            return;
        }
        Event::Page { block, offset, bytes } => [&item(block, offset, 0x08)[..], bytes].concat(),
        Event::Zero { block, offset } => [&item(block, offset, 0x02)[..], &[0]].concat(),
        Event::Xbzrle { block, offset, encoded } => {
            let length = u16::try_from(encoded.len()).unwrap_or(0).to_be_bytes();
            [&item(block, offset, 0x40)[..], &[1], &length, encoded].concat()
        }
        Event::CompressedPage { block, offset, encoded } => {
            let length = u32::try_from(encoded.len()).unwrap_or(0).to_be_bytes();
            [&item(block, offset, 0x100)[..], &length, encoded].concat()
        }
        Event::MultifdFlush => 0x200u64.to_be_bytes().to_vec(),
        Event::RamEos { .. } => 0x10u64.to_be_bytes().to_vec(),
        Event::SectionEnd { section_id, .. } => {
            // A section that was searched ends together with its content.
            let footer = [&[SectionType::FOOTER.0], &section_id.to_be_bytes()[..]].concat();
            assert!(bytes.is_empty() || bytes.ends_with(&footer), "section {section_id}");
            return;
        }
        Event::Skipped | Event::Seek { .. } | Event::DeviceTail { .. } | Event::EndOfStream(_) => {
            return;
        }
    };
    assert!(expected == bytes, "{}, not {}", bytes.escape_ascii(), expected.escape_ascii());
}

/// The end of a complete stream: state, EOF, description.
pub(super) fn end(tail: &[u8], vmdesc: &[u8]) -> Vec<u8> {
    let length = u32::try_from(vmdesc.len()).unwrap_or(0).to_be_bytes();
    [tail, &[6], &length, vmdesc].concat()
}

fn command(command: Command<'_>) -> Vec<u8> {
    let (id, payload) = match command {
        Command::OpenReturnPath => (1u16, Vec::new()),
        Command::Ping(value) => (2, value.to_be_bytes().to_vec()),
        Command::PostcopyAdvise(None) => (3, Vec::new()),
        Command::PostcopyAdvise(Some(advise)) => {
            let sizes = [advise.page_bytes_summary, advise.target_page_bytes];
            (3, sizes.map(u64::to_be_bytes).concat())
        }
        Command::SwitchoverStart => (11, Vec::new()),
        other => unreachable!("{other:?} was let through"),
    };
    let length = u16::try_from(payload.len()).unwrap_or(0);
    [&[8], &id.to_be_bytes()[..], &length.to_be_bytes(), &payload].concat()
}

fn list(blocks: &[BlockInfo]) -> Vec<u8> {
    let total = blocks.iter().fold(0u64, |sum, block| sum.saturating_add(block.used_bytes));
    let mut bytes = (total | 0x04).to_be_bytes().to_vec();
    for block in blocks {
        bytes.extend(cstr(&block.name));
        bytes.extend(block.used_bytes.to_be_bytes());
        bytes.extend(block.page_bytes.map(u64::to_be_bytes).into_iter().flatten());
        bytes.extend(block.guest_phys_addr.map(u64::to_be_bytes).into_iter().flatten());
    }
    bytes
}

fn cstr(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or(0);
    [&[length], name.as_bytes()].concat()
}
