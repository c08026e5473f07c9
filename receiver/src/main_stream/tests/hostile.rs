//! Illegal moments, and noise.

use super::*;
use crate::main_stream::fuzzing;
use crate::wire::fuzzing::mutate;

/// A command's number and payload.
type Sent<'a> = (u16, &'a [u8]);

/// Adds what is not allowed.
type Spoil = fn(&mut Source);

fn family(source: &Source) -> Family {
    let whole = events(&source.bytes);
    assert_eq!(pieces(&source.bytes, 1), whole);
    let error = whole.end.unwrap_err();
    assert!(!error.is_truncated(), "{error}");
    error.family()
}

fn base() -> Source {
    let mut source = Source::new(true);
    source.header().configuration("pc");
    source
}

fn in_ram() -> Source {
    let mut source = base();
    source.ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
    source
}

#[test]
fn what_is_no_migration_is_refused_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"QEVM\0\0\0\x02", b"\x11\x22\x33\x44\0\0\0\x01"] {
        let error = events(bytes).end.unwrap_err();
        assert_eq!((error.family(), error.place()), (Family::Malformed, &Place::Header));
    }
}

#[test]
fn commands_at_illegal_moments_are_refused() {
    let cases: &[(&[Sent<'_>], Family)] = &[
        (&[(1, &[]), (1, &[])], Family::Misbehaved),
        (&[(3, &[]), (3, &[])], Family::Misbehaved),
        (&[(11, &[]), (11, &[])], Family::Misbehaved),
        (&[(6, &[0])], Family::Misbehaved),
        (&[(7, &[0, 0, 0, 9])], Family::Misbehaved),
        (&[(4, &[])], Family::Misbehaved),
        (&[(5, &[])], Family::Misbehaved),
        (&[(9, &[])], Family::Misbehaved),
        (&[(10, &[1, b'a'])], Family::Misbehaved),
        (&[(8, &[])], Family::Unsupported),
        (&[(0, &[])], Family::Malformed),
        (&[(12, &[])], Family::Malformed),
    ];
    for (commands, expected) in cases {
        let mut source = base();
        for (id, payload) in *commands {
            source.command(*id, payload);
        }
        assert_eq!(family(&source), *expected, "{commands:?}");
    }
    let mut late = in_ram();
    late.advise(0x1000);
    assert_eq!(family(&late), Family::Misbehaved);
}

#[test]
fn a_package_of_any_length_is_refused_wherever_it_comes_with_its_length_and_before_its_bytes() {
    let advised = |advised: bool| {
        let mut source = base();
        if advised {
            source.advise(0x1000);
        }
        source
    };
    let places: &[(&str, Spoil)] = &[
        ("before RAM", |_| {}),
        ("after the list of RAM", |s| _ = s.ram_start(1, &[("mem", 0x4000)]).eos().footer(1)),
        ("after some pages", |s| {
            s.ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
            s.go_on(2, 1).zero("mem", 0).eos().footer(1);
        }),
        ("after RAM", |s| {
            s.ram_start(1, &[("mem", 0x4000)]).eos().footer(1);
            s.go_on(3, 1).eos().footer(1);
        }),
    ];
    let mut alone = Source::new(true);
    alone.header();
    let mut all = vec![("alone", Family::Misbehaved, alone)];
    for (place, go_there) in places {
        for (is_advised, family) in [(false, Family::Misbehaved), (true, Family::Unsupported)] {
            let mut source = advised(is_advised);
            go_there(&mut source);
            all.push((place, family, source));
        }
    }
    for (place, family, before) in all {
        for bytes in [0, 1, 1 << 24, u32::MAX] {
            let mut source = Source::new(true);
            source.raw(&before.bytes).command(7, &bytes.to_be_bytes());
            // Nothing stands behind it, and nothing is waited for.
            let (last, prefix) = source.bytes.split_last().unwrap();
            assert!(events(prefix).end.unwrap_err().is_truncated(), "{place}, {last}");
            let whole = events(&source.bytes);
            assert_eq!(pieces(&source.bytes, 1), whole, "{place}");
            let error = whole.end.unwrap_err();
            assert_eq!((error.family(), error.place()), (family, &Place::Command), "{place}");
            assert_eq!(error.position(), before.bytes.len() as u64, "{place}: {error}");
            let named = format!("PACKAGED of {bytes} bytes (allowed: none)");
            assert!(error.to_string().contains(&named), "{place}: {error}");
        }
    }
}

#[test]
fn colo_is_refused_by_its_capability() {
    let mut source = base();
    source.command(8, &[]);
    let error = events(&source.bytes).end.unwrap_err();
    assert!(error.to_string().contains("x-colo"), "{error}");
}

#[test]
fn section_rules_are_kept() {
    let cases: &[(Spoil, Family)] = &[
        (|s| _ = s.go_on(2, 7), Family::Misbehaved),
        (|s| _ = s.start(1, 1, "dirty-bitmap", 0, 1), Family::Misbehaved),
        (|s| _ = s.start(1, 5, "ram", 0, 4), Family::Misbehaved),
        (|s| _ = s.start(4, 5, "ram", 0, 4), Family::Misbehaved),
        (|s| _ = s.raw(&[0]), Family::Misbehaved),
        (|s| _ = s.raw(&[6]), Family::Malformed),
        (|s| _ = s.raw(&[7]), Family::Malformed),
        (|s| _ = s.raw(&[5]), Family::Malformed),
        (|s| _ = s.raw(&[0x7e]), Family::Malformed),
        (|s| _ = s.go_on(2, 1).eos().raw(&[0x7e]).be32(2), Family::Malformed),
        (|s| _ = s.go_on(2, 1).eos().go_on(2, 1), Family::Malformed),
        (|s| _ = s.go_on(3, 1).eos().footer(1).go_on(2, 1), Family::Misbehaved),
    ];
    for (index, (spoil, expected)) in cases.iter().enumerate() {
        let mut source = in_ram();
        spoil(&mut source);
        assert_eq!(family(&source), *expected, "case {index}");
    }
    let mut version = base();
    version.start(1, 1, "ram", 0, 3);
    assert_eq!(family(&version), Family::Unsupported);
    let mut both = Source::new(true);
    both.header().configuration_with_capability("pc", "x-ignore-shared");
    both.advise(0x1000).start(1, 1, "ram", 0, 4);
    assert_eq!(family(&both), Family::Misbehaved);
}

#[test]
fn page_sizes_that_contradict_each_other_are_refused() {
    let mut source = Source::new(true);
    source.header().configuration_with_page_bits("virt", 16).advise(0x1000);
    assert_eq!(family(&source), Family::Unsupported);
}

#[test]
fn too_many_sections_are_refused() {
    let mut source = base();
    for id in 0..4097 {
        source.start(1, id, "s390-storage_attributes", 0, 0).be64(1).footer(id);
    }
    assert_eq!(family(&source), Family::Malformed);
}

#[test]
fn noise_and_changed_streams_give_the_same_answer_in_any_pieces() {
    let mut random = landfall_seed::random();
    let base = [complete(true), complete(false)];
    for _ in 0..400 {
        let mut bytes = base[random.usize(..2)].clone();
        mutate(&mut random, &mut bytes);
        fuzzing::main_stream(&bytes);
    }
}

#[test]
fn a_command_behind_a_footer_is_one_in_any_pieces() {
    // Found by fuzzing, made shorter: RECV_BITMAP with a name that cannot be one,
    // behind an unknown section. Without its payload it was taken for a record.
    let bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x01p\x01\0\0\0\x01\x03ral\xfe\0\0\x01\0\0\0\0\
        \x7e\0\0\0\x01\x08\0\x0a\0\x10\0\0Wnode\x03b\x7e\x10\0W\x03bit";
    let whole = events(bytes);
    assert!(whole.log.last().is_some_and(|last| last.starts_with("SectionEnd")), "{whole:?}");
    for piece in 1..bytes.len() {
        assert_eq!(pieces(bytes, piece), whole, "{piece} bytes at a time");
    }
}
