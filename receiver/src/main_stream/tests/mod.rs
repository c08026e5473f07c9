//! Whole streams, made by a small encoder from observed bytes.

mod devices;
mod encode;
mod golden;
mod hostile;
mod mapped_ram;
mod ram;

use super::fuzzing::{Outcome, run};
use super::*;
use encode::Source;

/// A small complete migration: two blocks, commands, every kind of page item
/// but compressed ones, three devices.
fn complete(footers: bool) -> Vec<u8> {
    let mut source = Source::new(footers);
    source.header().configuration("pc-q35-10.0").command(1, &[]).command(2, &[0, 0, 0, 1]);
    source.ram_start(1, &[("mem", 0x10_000), ("pc.bios", 0x2000)]).eos().footer(1);
    source.go_on(2, 1);
    source.zero("mem", 0).zero_continued(0x1000).page_continued(0x2000, 0x5a);
    source.page("pc.bios", 0x1000, 0x11).page_continued(0, 0x12).eos().footer(1);
    source.command(11, &[]);
    source.go_on(3, 1).page("mem", 0xf000, 0x77).eos().footer(1);
    source.device(0, "timer", 0, &[1; 24]);
    source.device(5, "globalstate", 0, &encode::global_state("running"));
    source.device(6, "slirp", 0, b"\0\x06\0\0\0\x20{\"");
    source.end();
    source.bytes
}

/// All events of `bytes` fed whole.
fn events(bytes: &[u8]) -> Outcome {
    pieces(bytes, usize::MAX)
}

/// All events of `bytes` fed in pieces.
fn pieces(bytes: &[u8], piece: usize) -> Outcome {
    run(bytes, Options::default(), || piece).0
}

#[test]
fn one_byte_at_a_time_gives_the_same_events_as_all_at_once() {
    for footers in [true, false] {
        let bytes = complete(footers);
        let whole = events(&bytes);
        assert_eq!(whole.end, Ok(End::Complete), "{:#?}", whole.log);
        for chunk in [1, 2, 3, 7, 64, 4095, 4096, 4097] {
            assert_eq!(pieces(&bytes, chunk), whole, "{chunk} bytes at a time");
        }
    }
}

#[test]
fn every_prefix_needs_more_and_ends_as_cut_off() {
    let bytes = complete(true);
    for cut in 0..bytes.len() {
        match events(&bytes[..cut]).end {
            Err(error) => assert!(error.is_truncated(), "cut at {cut}: {error}"),
            // Right behind the EOF byte.
            Ok(end) => assert_eq!((end, bytes[cut]), (End::WithoutDescription, 6)),
        }
    }
}

#[test]
fn every_flipped_bit_ends_in_an_answer() {
    let bytes = complete(true);
    let page = |at: usize| bytes[at] == 0x5a || bytes[at] == 0x11 || bytes[at] == 0x12;
    for at in (0..bytes.len()).filter(|&at| !page(at)) {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            // Must return; both answers are possible.
            let _ = events(&changed).end;
        }
    }
}

#[test]
fn the_end_is_certain_with_footers_and_needs_grace_without() {
    for (footers, certainty) in [(true, "Exact"), (false, "NeedsGrace")] {
        let log = events(&complete(footers)).log;
        assert_eq!(log.last().unwrap(), &format!("EndOfStream({certainty})"));
    }
}

#[test]
fn what_was_kept_can_be_taken_out() {
    let bytes = complete(true);
    let mut stream = MainStream::new(Options::default());
    let mut input = &bytes[..];
    while let Step::Event { consumed, .. } = stream.step(input).unwrap() {
        input = &input[consumed..];
    }
    assert_eq!(stream.position(), bytes.len() as u64);
    assert_eq!((stream.start_has_flush(), stream.zero_items()), (Some(false), 2));
    assert!(stream.ram_ended() && !stream.may_lack_description());
    let state = stream.take_device_state();
    assert_eq!(state.run_state.as_deref(), Some("running"));
    assert_eq!(state.configuration, bytes[8..24]);
    assert_eq!(state.vmdesc.first_chunk(), Some(b"{\""));
    assert!(bytes.ends_with(&state.vmdesc));
    assert_eq!(state.tail.last(), Some(&0));
    let names: Vec<_> = state.sections.iter().map(|section| &*section.idstr).collect();
    assert_eq!(names, ["timer", "globalstate", "slirp"]);
    assert_eq!(state.sections[0].body_bytes, 24);
    let whole: usize = state.sections.iter().map(|section| section.bytes).sum();
    assert_eq!(whole + 1, state.tail.len());
}

#[test]
fn only_record_boundaries_are_places_to_rest() {
    let bytes = complete(true);
    let mut stream = MainStream::new(Options::default());
    let (mut from, mut resting) = (0, Vec::new());
    for to in 0..=bytes.len() {
        loop {
            match stream.step(&bytes[from..to]).unwrap() {
                Step::Event { consumed, .. } => from += consumed,
                Step::Need { at_boundary: true } => {
                    assert_eq!(from, to);
                    resting.push(to);
                    break;
                }
                Step::Need { at_boundary: false } => break,
            }
        }
    }
    // After each of two commands; START before it is known whether there are
    // footers, and after its own; PART, command, END; after the EOF byte,
    // since a description might be suppressed; after the description.
    assert_eq!(resting[..4], [29, 38, resting[2], resting[2] + 5]);
    assert_eq!(bytes[resting[7]], 6);
    assert_eq!(resting[8..], [bytes.len()]);
}

#[test]
fn a_full_input_is_never_too_little() {
    // The longest things: pages of 64 KiB with the longest name.
    let name = "b".repeat(255);
    let mut source = Source::new(true);
    source.page_bytes = 65536;
    source.header().configuration_with_page_bits("virt-10.0", 16);
    source.ram_start(1, &[(&name, 0x4_0000)]).eos().footer(1);
    source.go_on(2, 1).page(&name, 0, 1).page_continued(0x3_0000, 2).eos().footer(1);
    let (outcome, effort) = run(&source.bytes, Options::default(), || 1000);
    assert_eq!(effort.consumed, source.bytes.len(), "{:?}", outcome.end);
    assert!((65536..INPUT_BYTES_MAX).contains(&effort.waiting_bytes_max));
    let pages = outcome.log.iter().filter(|line| line.starts_with("Page")).count();
    assert_eq!(pages, 2);
}
