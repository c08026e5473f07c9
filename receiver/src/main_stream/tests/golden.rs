//! Bytes that real sources sent.

use super::*;
use crate::wire::{Command, PostcopyAdvise};

/// `QEVM` to the header of ram START, 10.0 with `-M q35`.
const START_10_0: &[u8] = b"\x51\x45\x56\x4d\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0\
    \x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01\
    \x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04";

/// The list of a 32 MiB guest with VGA, in all versions.
const BLOCKS: &[u8] = b"\0\0\0\0\x03\x09\x20\x04\
    \x03mem\0\0\0\0\x02\0\0\0\
    \x150000:00:01.0/vga.vram\0\0\0\0\x01\0\0\0\
    \x14/rom@etc/acpi/tables\0\0\0\0\0\x02\0\0\
    \x07pc.bios\0\0\0\0\0\x04\0\0\x06pc.rom\0\0\0\0\0\x02\0\0\
    \x140000:00:01.0/vga.rom\0\0\0\0\0\x01\0\0\
    \x15/rom@etc/table-loader\0\0\0\0\0\0\x10\0\
    \x12/rom@etc/acpi/rsdp\0\0\0\0\0\0\x10\0";

const EOS: &[u8] = b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01";

fn feed<'a>(stream: &mut MainStream, mut input: &'a [u8]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    while let Step::Event { consumed, event } = stream.step(input).unwrap() {
        input = &input[consumed..];
        events.push(event);
    }
    assert!(input.is_empty(), "{} bytes left", input.len());
    events
}

#[test]
fn the_observed_beginning_is_understood() {
    let mut stream = MainStream::new(Options::default());
    let beginning = feed(&mut stream, START_10_0);
    let [
        Event::Header { version: 3 },
        Event::Configuration(configuration),
        Event::Command(Command::OpenReturnPath),
        Event::Command(Command::Ping(1)),
        Event::SectionStart { section_type, section_id: 1, idstr: "ram", version_id: 4, .. },
    ] = &beginning[..]
    else {
        panic!("{beginning:?}")
    };
    assert_eq!(&*configuration.machine, "pc-q35-10.0");
    assert_eq!(*section_type, SectionType::START);

    let list = feed(&mut stream, BLOCKS);
    let [Event::RamBlocks(blocks)] = &list[..] else { panic!("{list:?}") };
    let total: u64 = blocks.iter().map(|block| block.used_bytes).sum();
    assert_eq!((blocks.len(), total), (8, 0x309_2000));
    assert_eq!((&*blocks[0].name, blocks[0].used_bytes), ("mem", 0x200_0000));
    assert_eq!(&*blocks[7].name, "/rom@etc/acpi/rsdp");

    let end = feed(&mut stream, EOS);
    assert!(matches!(end[..], [Event::RamEos { .. }, Event::SectionEnd { section_id: 1, .. }]));
    assert_eq!(stream.start_has_flush(), Some(false));
    assert_eq!(stream.footers(), Footers::On);

    let mut part = b"\x02\0\0\0\x01\0\0\0\0\0\0\0\x02\x03mem\0\
        \0\0\0\0\0\0\x10\x22\0\0\0\0\0\0\0\x20\x28"
        .to_vec();
    part.extend([0xcc; 4096]);
    let items = feed(&mut stream, &part);
    let [
        Event::SectionContinue { section_id: 1, .. },
        Event::Zero { block: 0, offset: 0 },
        Event::Zero { block: 0, offset: 0x1000 },
        Event::Page { block: 0, offset: 0x2000, bytes },
    ] = items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(bytes, [0xcc; 4096]);

    let switchover = b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01\x08\0\x0b\0\0\
        \x03\0\0\0\x01\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01\
        \x04\0\0\0\0\x05timer\0\0\0\0\0\0\0\x02";
    let events = feed(&mut stream, switchover);
    assert_eq!(events[2], Event::Command(Command::SwitchoverStart));
    assert_eq!(events.last(), Some(&Event::DeviceTail { appended: 19 }));
    assert!(stream.ram_ended());
}

#[test]
fn a_flush_in_start_is_seen() {
    let mut stream = MainStream::new(Options::default());
    let flush = b"\0\0\0\0\0\0\x02\0";
    feed(&mut stream, &[START_10_0, BLOCKS].concat());
    assert_eq!(feed(&mut stream, flush), [Event::MultifdFlush]);
    assert_eq!(stream.start_has_flush(), None, "START goes on");
    feed(&mut stream, EOS);
    assert_eq!(stream.start_has_flush(), Some(true));
}

#[test]
fn the_observed_xbzrle_item_is_found() {
    let mut stream = MainStream::new(Options::default());
    feed(&mut stream, &[START_10_0, BLOCKS, EOS, b"\x02\0\0\0\x01"].concat());
    feed(&mut stream, b"\0\0\0\0\0\0\0\x02\x03mem\0");
    let item = b"\0\0\0\0\0\x40\0\x60\x01\0\x07\x64\x01\x31\xeb\x0e\x01\x38";
    let encoded = &item[11..];
    assert_eq!(feed(&mut stream, item), [Event::Xbzrle { block: 0, offset: 0x40_0000, encoded }]);
}

#[test]
fn a_7_2_source_differs_in_name_and_section_id_only() {
    let mut stream = MainStream::new(Options::default());
    let bytes = b"\x51\x45\x56\x4d\0\0\0\x03\x07\0\0\0\x0apc-q35-7.2\
        \x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04";
    assert_eq!(feed(&mut stream, bytes).len(), 5);
}

#[test]
fn the_observed_advise_is_understood() {
    let mut stream = MainStream::new(Options::default());
    let advise = b"\x08\0\x03\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0";
    let expected = PostcopyAdvise { page_bytes_summary: 0x1000, target_page_bytes: 0x1000 };
    let bytes = [&START_10_0[..24], advise].concat();
    let events = feed(&mut stream, &bytes);
    let Some(Event::Command(Command::PostcopyAdvise(Some(found)))) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(*found, expected);
    assert!(stream.postcopy_advised());
}

#[test]
fn the_observed_discard_and_package_name_the_capability_and_say_whose_guest_is_saved() {
    let discard =
        b"\x08\0\x06\0\x28\0\x150000:00:01.0/vga.vram\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0";
    let package = b"\x08\0\x07\0\x04\0\0\x40\0";
    for command in [&discard[..], package] {
        let mut stream = MainStream::new(Options::default());
        let advise = b"\x08\0\x03\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0";
        feed(&mut stream, &[&START_10_0[..24], advise].concat());
        let error = stream.step(command).unwrap_err();
        assert_eq!(error.family(), Family::Unsupported);
        let text = error.to_string();
        for part in [
            "on the source, turn the capability postcopy-ram off, or do not start postcopy. ",
            "closed here, at the first RAM_DISCARD, and that saves the guest of QEMU 10.0 and later",
            "the source resumes it (10.0 only if it has not yet written its device state, ",
            "7.2 has no safe point: its guest stays stopped",
        ] {
            assert!(text.contains(part), "no '{part}': {text}");
        }
    }
}

#[test]
fn a_mapped_ram_stream_that_is_no_file_is_refused_by_name() {
    let mut stream = MainStream::new(Options::default());
    let bytes = b"\x51\x45\x56\x4d\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0\
        \x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0amapped-ram\x01";
    stream.step(bytes).unwrap();
    let error = stream.step(&bytes[8..]).unwrap_err();
    assert_eq!(error.family(), Family::Unsupported);
    assert!(error.to_string().contains("mapped-ram"), "{error}");
}

#[test]
fn the_observed_page_size_of_an_arm_machine_is_understood() {
    // qemu-system-aarch64 7.2.22, -M virt.
    let mut stream = MainStream::new(Options::default());
    let bytes = b"\x51\x45\x56\x4d\0\0\0\x03\x07\0\0\0\x08virt-7.2\
        \x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c\
        \x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04";
    let events = feed(&mut stream, bytes);
    let [Event::Header { .. }, Event::Configuration(configuration), _] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (&*configuration.machine, configuration.page),
        ("virt-7.2", Some(PageBytes::DEFAULT))
    );
}

#[test]
fn machines_without_configuration_section_are_understood() {
    let mut stream = MainStream::new(Options::default());
    let bytes = b"\x51\x45\x56\x4d\0\0\0\x03\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04";
    let events = feed(&mut stream, bytes);
    assert!(matches!(events[..], [Event::Header { .. }, Event::SectionStart { .. }]));
}
