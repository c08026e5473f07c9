//! Early sections, iterables, and where the device state begins and ends.

use super::*;

const EARLY: &str = "0000:00:04.0/virtio-mem-device-early";

fn early_body() -> Vec<u8> {
    let mut body = 0x1_0000_0000u64.to_be_bytes().to_vec();
    body.extend(0x1000_0000u64.to_be_bytes());
    body.extend(0x20_0000u64.to_be_bytes());
    body.extend([0; 4]);
    body.extend(0x800_0000u64.to_be_bytes());
    body.extend([0xff; 16]);
    body
}

fn both_ways(bytes: &[u8]) -> Outcome {
    let whole = events(bytes);
    assert_eq!(pieces(bytes, 1), whole);
    whole
}

fn names(outcome: &Outcome) -> Vec<&str> {
    outcome.sections.iter().map(|section| &*section.idstr).collect()
}

#[test]
fn early_sections_before_and_after_ram_start_are_not_the_device_state() {
    for before in [true, false] {
        let mut source = Source::new(true);
        source.header().configuration("pc-q35-11.1");
        if before {
            source.device(9, EARLY, 0, &early_body());
        }
        source.ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
        if !before {
            source.device(9, EARLY, 0, &early_body());
        }
        source.go_on(3, 1).eos().footer(1).device(4, "timer", 0, &[0; 24]).end();
        let outcome = both_ways(&source.bytes);
        assert_eq!(outcome.end, Ok(End::Complete));
        assert_eq!(names(&outcome), ["timer"]);
        assert_eq!(outcome.log.last().unwrap(), "EndOfStream(Exact)");
    }
}

#[test]
fn an_unknown_early_section_is_passed_by_its_footer() {
    for before in [true, false] {
        let mut source = Source::new(true);
        source.header().configuration("pc");
        // A false footer, and one without a record behind it, inside the body.
        let body = b"\x7e\0\0\0\x09\x02\0\0\0\x07\x7e\0\0\0\x09\xff\x7e\0\0";
        if before {
            source.device(9, "new-early", 3, body);
        }
        source.ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
        if !before {
            source.device(9, "new-early", 3, body);
        }
        source.command(11, &[]).go_on(3, 1).eos().footer(1);
        source.device(4, "timer", 0, &[0; 24]).end();
        let outcome = both_ways(&source.bytes);
        assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
        assert_eq!(names(&outcome), ["timer"]);
    }
}

#[test]
fn a_background_snapshot_has_devices_without_an_end_of_ram() {
    for footers in [true, false] {
        let mut source = Source::new(footers);
        source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
        source.go_on(2, 1).page("mem", 0, 1).eos().footer(1);
        source.device(4, "timer", 0, &[0; 24]).device(5, "apic", 0, &[3; 100]).end();
        let outcome = both_ways(&source.bytes);
        assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
        assert_eq!(names(&outcome), ["timer", "apic"]);
    }
}

#[test]
fn a_background_snapshot_with_one_device_is_whole() {
    let mut source = Source::new(true);
    source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source.device(4, "timer", 0, &[0; 24]).end();
    let outcome = both_ways(&source.bytes);
    assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
    assert_eq!(names(&outcome), ["timer"]);
}

#[test]
fn ends_forged_inside_a_device_do_not_end_the_stream() {
    let good = br#"{"page_size": 4096, "devices": []}"#;
    let mut body = vec![0x55; 8];
    for round in 0..52u32 {
        body.push(0x7e);
        body.extend(round.to_be_bytes());
        body.extend([0, 6]);
        match round % 4 {
            // A whole description that fits nothing.
            0 => {
                body.extend(u32::try_from(good.len()).unwrap().to_be_bytes());
                body.extend(good);
            }
            // One that would reach far past the true end.
            1 => body.extend(b"\x03\0\0\0{\""),
            // One cut by a control byte, one that is too short.
            2 => body.extend(b"\0\0\0\x20{\"abc\0"),
            _ => body.extend(b"\0\0\0\x02{\""),
        }
    }
    for footers in [true, false] {
        let mut source = Source::new(footers);
        source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
        source.go_on(3, 1).eos().footer(1).device(4, "e1000", 0, &body);
        source.device(5, "timer", 0, &[0; 24]).end();
        let outcome = both_ways(&source.bytes);
        assert_eq!(outcome.end, Ok(End::Complete));
        assert_eq!(names(&outcome), ["e1000", "timer"]);
        let ends = outcome.log.iter().filter(|line| line.starts_with("EndOf"));
        assert_eq!(ends.collect::<Vec<_>>(), ["EndOfStream(NeedsGrace)"]);
    }
}

#[test]
fn bytes_after_an_end_make_it_none_and_the_search_goes_on() {
    // The forged description fits: it lists what stands before it.
    let mut source = Source::new(true);
    source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source.go_on(3, 1).eos().footer(1);
    let mut inner = Source::new(true);
    inner.device(4, "timer", 0, &[0; 24]).end();
    let forged = inner.bytes[b"\x04____\x05timer________".len()..].to_vec();
    source.device(4, "timer", 0, &forged).end();
    let outcome = both_ways(&source.bytes);
    assert_eq!(outcome.end, Ok(End::Complete));
    let ends: Vec<_> = outcome.log.iter().filter(|line| line.starts_with("EndOf")).collect();
    assert_eq!(ends, ["EndOfStream(Exact)", "EndOfStream(NeedsGrace)"]);
    assert_eq!(outcome.sections[0].body_bytes, forged.len());
}

#[test]
fn without_a_description_the_end_is_reported_as_such() {
    for footers in [true, false] {
        let mut source = Source::new(footers);
        source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
        source.go_on(3, 1).eos().footer(1).device(4, "timer", 0, &[1; 24]).raw(&[0]);
        let outcome = both_ways(&source.bytes);
        assert_eq!(outcome.end, Ok(End::WithoutDescription));
        assert!(outcome.sections.is_empty());
    }
}

#[test]
fn only_the_footer_of_a_device_may_end_a_stream_in_silence() {
    let with_tail = |tail: &[u8]| {
        let mut source = Source::new(true);
        source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
        source.go_on(3, 1).eos().footer(1).raw(tail);
        let mut stream = MainStream::new(Options::default());
        let mut input = &source.bytes[..];
        while let Step::Event { consumed, .. } = stream.step(input).unwrap() {
            input = &input[consumed..];
        }
        stream.may_end_in_silence()
    };
    let mut two = Source::new(true);
    two.device(4, "timer", 0, &[1; 24]).device(0x0102, "apic", 0, &[2; 9]);
    let two = two.bytes;
    assert!(with_tail(&[&two[..], &[0]].concat()));
    assert!(!with_tail(&two), "no EOF byte");
    for cut in 1..two.len() {
        let cut_short = [&two[..cut], &[0]].concat();
        let ends = cut_short[..cut].ends_with(b"\x7e\0\0\0\x04");
        assert_eq!(with_tail(&cut_short), ends, "cut at {cut}");
    }
    let mut other = [&two[..], &[0]].concat();
    let id = other.len() - 2;
    other[id] ^= 1;
    assert!(!with_tail(&other), "no such device");
    assert!(!with_tail(&[0]), "no device at all");
}

#[test]
fn a_description_that_does_not_fit_is_named_at_the_end() {
    let mut source = Source::new(true);
    source.header().configuration("pc").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source.go_on(3, 1).eos().footer(1).device(4, "timer", 0, &[1; 24]);
    source.describe("ghost", 0, 4).end();
    let error = both_ways(&source.bytes).end.unwrap_err();
    assert!(error.to_string().contains("entry 1 of the description"), "{error}");
    assert_eq!(error.family(), Family::Malformed);
}

#[test]
fn iterables_are_walked_and_unknown_ones_searched() {
    let mut source = Source::new(true);
    source.header().configuration("pc");
    source.start(1, 8, "block", 0, 1).be64(2).footer(8);
    source.ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source.start(1, 2, "dirty-bitmap", 0, 1).raw(b"\x1c\x04disk\x02b0\0\x01\0\0\x01\x01").footer(2);
    source.start(1, 3, "some-iterable", 0, 7).raw(&[0x7e; 300]).footer(3);
    source.go_on(2, 1).page("mem", 0, 1).eos().footer(1);
    source.go_on(2, 3).raw(b"\x7e\0\0\0\x03\x7e\0").footer(3);
    source.go_on(2, 2).raw(&[1]).footer(2);
    source.go_on(3, 8).be64(2).footer(8);
    source.go_on(3, 1).eos().footer(1);
    source.go_on(3, 3).footer(3).go_on(3, 2).raw(&[1]).footer(2);
    source.device(4, "timer", 0, &[1; 24]).end();
    let outcome = both_ways(&source.bytes);
    assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
    let starts = outcome.log.iter().filter(|line| line.starts_with("SectionStart"));
    assert_eq!(starts.count(), 4);
}

const VFIO: &str = "0000:00:05.0/vfio";

/// A stream up to ram's END with a VFIO device beside it, as `hw/vfio/migration.c` writes it.
fn with_vfio(footers: bool) -> Source {
    let tag = |last: u8| [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, last];
    let mut source = Source::new(footers);
    source.header().configuration("pc-q35-9.2").ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source.start(1, 7, VFIO, 0, 1).raw(&tag(3)).raw(&tag(1)).footer(7);
    source.go_on(2, 1).page("mem", 0, 1).eos().footer(1);
    source.go_on(2, 7).raw(&tag(4)).be64(300).raw(&[0x7e; 300]).raw(&tag(5)).footer(7);
    source.command(11, &[]).go_on(3, 1).eos().footer(1);
    source.go_on(3, 7).raw(&tag(4)).be64(5).raw(&[9; 5]).raw(&tag(1)).footer(7);
    source
}

#[test]
fn a_device_that_was_an_iterable_has_its_state_under_the_same_id() {
    for footers in [true, false] {
        let mut source = with_vfio(footers);
        source.device(4, "timer", 0, &[1; 24]).device(7, VFIO, 0, &[6; 272]).end();
        let outcome = both_ways(&source.bytes);
        assert_eq!(outcome.end, Ok(End::Complete), "{:#?}", outcome.log);
        assert_eq!(names(&outcome), ["timer", VFIO]);
    }
}

#[test]
fn the_id_of_another_section_is_refused_in_the_device_state() {
    let devices: [&[(u32, &str, u32)]; 5] = [
        // Another instance, another name, ram, an early device, and the same one twice.
        &[(7, VFIO, 1)],
        &[(7, "0000:00:06.0/vfio", 0)],
        &[(1, "ram", 0)],
        &[(9, EARLY, 0)],
        &[(7, VFIO, 0), (7, VFIO, 0)],
    ];
    for devices in devices {
        let mut source = Source::new(true);
        source.header().configuration("pc").device(9, EARLY, 0, &early_body());
        source.bytes.extend(&with_vfio(true).bytes[8 + 5 + "pc-q35-9.2".len()..]);
        for &(id, idstr, instance) in devices {
            source.device(id, idstr, instance, &[6; 30]);
        }
        let error = both_ways(&source.end().bytes).end.unwrap_err();
        assert!(error.to_string().contains("the section's id is in use already"), "{error}");
    }
}

#[test]
fn an_unknown_iterable_without_footers_is_refused_by_name() {
    let mut source = Source::new(false);
    source.header().ram_start(1, &[("mem", 0x4000)]).eos();
    source.start(1, 3, "some-iterable", 0, 7);
    let error = both_ways(&source.bytes).end.unwrap_err();
    assert_eq!(error.family(), Family::Unsupported);
    assert!(error.to_string().contains("some-iterable"), "{error}");
}

#[test]
fn more_device_state_than_allowed_is_refused() {
    let mut source = Source::new(true);
    source.header().ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source.go_on(3, 1).eos().footer(1).device(4, "gpu", 0, &[1; 5000]).end();
    for (limit, fits) in [(4000, false), (6000, true)] {
        let options = Options { tail_bytes_max: limit, ..Options::default() };
        let whole = run(&source.bytes, options, || usize::MAX).0;
        assert_eq!(run(&source.bytes, options, || 1).0, whole);
        assert_eq!(whole.end.is_ok(), fits, "{:?}", whole.end);
    }
}
