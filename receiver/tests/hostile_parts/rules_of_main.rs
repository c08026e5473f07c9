//! Rules of the main stream: header, list of blocks, sections, commands, end.

use landfall_receiver::error::Family::{Environment, Malformed, Misbehaved, Unsupported};

use super::host::Host;
use super::rules::{RAM_BYTES_MAX, Rule, one_block, part, refused, taken};
use super::source::*;

fn beginning(configuration: &[u8]) -> Script {
    Script::plain(start_of(configuration, &commands(), &one_block()), &[])
}

pub(super) fn header() -> Rule {
    let version = |version: u8| {
        let mut bytes = start_of(&configuration(MACHINE), &commands(), &one_block());
        bytes[7] = version;
        Script::plain(bytes, &[])
    };
    let named = |name: &[u8]| beginning(&configuration(name));
    Rule {
        name: "header",
        rows: vec![
            ("version 2", version(2), refused(Malformed, "version is 0x2, must be 0x3")),
            ("version 3", version(3), taken()),
            ("version 4", version(4), refused(Malformed, "version is 0x4, must be 0x3")),
            ("no configuration", beginning(&[]), taken()),
            ("no name", named(b""), refused(Malformed, "machine name is empty")),
            ("a name of 1 byte", named(b"x"), taken()),
            ("a name of 255 bytes", named(&[b'x'; 255]), taken()),
            (
                "a name of 256 bytes",
                named(&[b'x'; 256]),
                refused(Malformed, "machine name length is 256, limit 255"),
            ),
            ("a name of 4 GiB", beginning(b"\x07\xff\xff\xff\xff"), {
                refused(Malformed, "machine name length is 4294967295, limit 255")
            }),
            ("the last printable bytes", named(b" ~"), taken()),
            ("a byte before", named(b"pc\x1f"), refused(Malformed, "the byte 0x1f")),
            ("a byte behind", named(b"pc\x7f"), refused(Malformed, "the byte 0x7f")),
        ],
    }
}

pub(super) fn subsections() -> Rule {
    let with = |parts: &[Vec<u8>]| beginning(&[&[configuration(MACHINE)], parts].concat().concat());
    let bits =
        |bits: u32| with(&[subsection("configuration/target-page-bits", 1, &bits.to_be_bytes())]);
    let names = |count: u32, names: &[&str]| {
        let mut body = count.to_be_bytes().to_vec();
        for name in names {
            body.push(name.len() as u8);
            body.extend(name.as_bytes());
        }
        subsection("configuration/capabilities", 1, &body)
    };
    let uuid = || subsection("configuration/uuid", 1, &[7; 16]);
    let shared = [list(&[(BLOCK.as_bytes(), BLOCK_BYTES)]), vec![0; 8]].concat();
    let shared = start_of(
        &[configuration(MACHINE), names(1, &["x-ignore-shared"])].concat(),
        &commands(),
        &shared,
    );
    Rule {
        name: "subsections",
        rows: vec![
            ("a known name", with(&[uuid()]), taken()),
            (
                "an unknown name",
                with(&[subsection("configuration/uuie", 1, &[7; 16])]),
                refused(Malformed, "configuration subsection"),
            ),
            (
                "another version",
                with(&[subsection("configuration/uuid", 2, &[7; 16])]),
                refused(Malformed, "subsection version is 0x2, must be 0x1"),
            ),
            ("one twice", with(&[uuid(), uuid()]), refused(Malformed, "occurs twice")),
            ("an empty name", with(&[subsection("", 1, &[])]), {
                refused(Malformed, "subsection name is empty")
            }),
            ("no capability", with(&[names(0, &[])]), taken()),
            ("a capability with a meaning", Script::plain(shared, &[]), taken()),
            ("64 capabilities", with(&[names(64, &["x-new"; 64])]), {
                refused(Unsupported, "capability x-new")
            }),
            ("65 capabilities", with(&[names(65, &["x-new"; 65])]), {
                refused(Malformed, "capability count is 65, limit 64")
            }),
            ("mapped-ram", with(&[names(1, &["mapped-ram"])]), {
                refused(Unsupported, "mapped-ram in a stream that is no file")
            }),
            (
                "pages of 2 KiB",
                bits(11),
                refused(Malformed, "target-page-bits is 11, at least 12 needed"),
            ),
            ("pages of 4 KiB", bits(12), taken()),
            ("pages of 64 KiB", bits(16), taken()),
            ("pages of 128 KiB", bits(17), refused(Malformed, "target-page-bits is 17, limit 16")),
        ],
    }
}

pub(super) fn block_list() -> Rule {
    let with =
        |list: &[u8]| Script::plain(start_of(&configuration(MACHINE), &commands(), list), &[]);
    let total = |total: u64, blocks: &[(&[u8], u64)]| {
        with(&[item(total | MEM_SIZE), entries(blocks)].concat())
    };
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|index| format!("b{index}")).collect();
        let blocks: Vec<_> = names.iter().map(|name| (name.as_bytes(), 4096)).collect();
        with(&list(&blocks))
    };
    let named = |name: &[u8]| with(&list(&[(name, 4096)]));
    let sized = |bytes: u64| total(8192, &[(b"a", bytes), (b"b", 4096)]);
    Rule {
        name: "MEM_SIZE",
        rows: vec![
            ("twice in START", with(&[one_block(), one_block()].concat()), {
                refused(Misbehaved, "may come only once")
            }),
            ("again in PART", part(&one_block()), refused(Misbehaved, "may come only once")),
            ("not at all", with(&[]), refused(Misbehaved, "before the list of RAM blocks")),
            ("total 0", total(0, &[]), refused(Malformed, "list of RAM blocks is empty")),
            ("total as the sum", total(8192, &[(b"a", 4096), (b"b", 4096)]), taken()),
            ("total below the sum", total(4096, &[(b"a", 8192)]), {
                refused(Malformed, "used_length 0x2000 of block 'a' is past the 0x1000 bytes left")
            }),
            ("total past the sum", total(8192, &[(b"a", 4096)]), {
                refused(Malformed, "block name is empty")
            }),
            ("a block of 0 bytes", sized(0), {
                refused(Malformed, "used_length is 0, at least 4096 needed")
            }),
            ("a block of a page", sized(4096), taken()),
            ("a block of a byte more", sized(4097), {
                refused(Malformed, "used_length is 0x1001, not a multiple of 0x1000")
            }),
            ("all RAM that is allowed", with(&list(&[(b"a", RAM_BYTES_MAX)])), taken()),
            ("a page more", with(&list(&[(b"a", RAM_BYTES_MAX), (b"b", 4096)])), {
                refused(Environment, "--max-ram, 16777216 bytes")
            }),
            ("16 EiB", with(&list(&[(b"a", u64::MAX - 4095)])), refused(Environment, "--max-ram")),
            ("4096 blocks", many(4096), taken()),
            ("4097 blocks", many(4097), {
                refused(Malformed, "number of RAM blocks is 4097, limit 4096")
            }),
            ("one name twice", with(&list(&[(b"a", 4096), (b"a", 4096)])), {
                refused(Malformed, "block 'a' is in the list twice")
            }),
            ("a name of 255 bytes", named(&[b'x'; 255]), taken()),
            ("a name without a byte", named(b""), refused(Malformed, "block name is empty")),
            ("a name with NUL", named(b"a\0b"), refused(Malformed, "the byte 0x00")),
            ("a name with a line break", named(b"a\nb"), refused(Malformed, "the byte 0x0a")),
            ("a name that is a way up", named(b"../../a"), taken()),
        ],
    }
}

pub(super) fn sections() -> Rule {
    // Behind ram's START; whoever is taken is one that a source can have.
    let behind = |bytes: &[u8]| {
        let start = start_of(&configuration(MACHINE), &commands(), &one_block());
        Script::plain([&start, bytes].concat(), &[])
    };
    let bitmaps = |kind: u8, id: u8| {
        let name = if kind == 1 { &b"\x0cdirty-bitmap\0\0\0\0\0\0\0\x01"[..] } else { &[] };
        [&[kind, 0, 0, 0, id][..], name, &[1, 0x7e, 0, 0, 0, id]].concat()
    };
    let ram_version = |version: u8| {
        let mut bytes = start_of(&configuration(MACHINE), &commands(), &one_block());
        let at = bytes.windows(3).position(|name| name == b"ram").unwrap();
        bytes[at + 10] = version;
        Script::plain(bytes, &[])
    };
    let footer =
        |kind: u8, id: u8| {
            Script::plain(start_of(&configuration(MACHINE), &commands(), &one_block()), &[])
                .replaced(To::Main, 1, [section(2), item(EOS), vec![kind, 0, 0, 0, id]].concat())
        };
    let closed = [bitmaps(1, 2), bitmaps(3, 2), bitmaps(2, 2)].concat();
    Rule {
        name: "sections",
        rows: vec![
            ("a new id", behind(&[bitmaps(1, 2), bitmaps(3, 2)].concat()), taken()),
            ("ram's id again", behind(&bitmaps(1, 1)), {
                refused(Misbehaved, "section id 1 is in use already")
            }),
            ("an open id", behind(&[bitmaps(1, 2), bitmaps(2, 2), bitmaps(3, 2)].concat()), {
                taken()
            }),
            ("an id that nobody started", behind(b"\x02\0\0\0\x05"), {
                refused(Misbehaved, "belongs to section 5, which is not open")
            }),
            ("the end of such an id", behind(b"\x03\0\0\0\x05"), {
                refused(Misbehaved, "belongs to section 5, which is not open")
            }),
            ("an id that has ended", behind(&closed), {
                refused(Misbehaved, "belongs to section 2, which is not open")
            }),
            ("ram a second time", behind(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04"), {
                refused(Misbehaved, "a second RAM section starts")
            }),
            ("ram version 3", ram_version(3), refused(Unsupported, "version 3 of section ram")),
            ("ram version 4", ram_version(4), taken()),
            ("ram version 5", ram_version(5), refused(Unsupported, "version 5 of section ram")),
            ("the section's footer", footer(0x7e, 1), taken()),
            ("another's footer", footer(0x7e, 2), {
                refused(Malformed, "the footer has section id 2, must be 1")
            }),
            ("no footer", footer(2, 1), refused(Malformed, "where the section's footer must be")),
            ("a record of no type", behind(&[9]), refused(Malformed, "record 0x09")),
            ("the end before ram's", behind(&[0]), {
                refused(Misbehaved, "the sections end before RAM has ended")
            }),
        ],
    }
}

pub(super) fn commands_in_their_place() -> Rule {
    let first = |bytes: &[u8]| {
        let before = [&commands(), bytes].concat();
        Script::plain(start_of(&configuration(MACHINE), &before, &one_block()), &[])
    };
    let later = |bytes: &[u8]| {
        let start = start_of(&configuration(MACHINE), &commands(), &one_block());
        Script::plain([&start, bytes].concat(), &[])
    };
    let long = |id: u16, length: usize| first(&command(id, &vec![0; length]));
    let twice = |id: u16| first(&[command(id, &[]), command(id, &[])].concat());
    let advise = || [0x1000u64.to_be_bytes(), 0x1000u64.to_be_bytes()].concat();
    let discard = || command(6, b"\0\x03mem\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0");
    Rule {
        name: "commands",
        rows: vec![
            ("number 0", long(0, 0), refused(Malformed, "command is 0x0, which has no known")),
            ("number 11", long(11, 0), taken()),
            ("number 12", long(12, 0), refused(Malformed, "command is 0xc, which has no known")),
            ("PING of 3 bytes", long(2, 3), refused(Malformed, "length is 0x3, must be 0x4")),
            ("PING of 4 bytes", long(2, 4), taken()),
            ("PING of 5 bytes", long(2, 5), refused(Malformed, "length is 0x5, must be 0x4")),
            ("PING of 64 KiB", long(2, 65535), {
                refused(Malformed, "length is 0xffff, must be 0x4")
            }),
            ("SWITCHOVER_START of 1 byte", long(11, 1), {
                refused(Malformed, "length is 0x1, must be 0x0")
            }),
            ("ADVISE of 8 bytes", long(3, 8), refused(Malformed, "length is 0x8, must be 0x10")),
            ("ADVISE for bitmaps alone", long(3, 0), taken()),
            ("ADVISE before ram", first(&command(3, &advise())), taken()),
            ("ADVISE twice", first(&[command(3, &advise()), command(3, &advise())].concat()), {
                refused(Misbehaved, "POSTCOPY_ADVISE comes twice")
            }),
            ("ADVISE after ram", later(&command(3, &advise())), {
                refused(Misbehaved, "POSTCOPY_ADVISE comes after RAM")
            }),
            ("OPEN_RETURN_PATH twice", first(&command(1, &[])), {
                refused(Misbehaved, "OPEN_RETURN_PATH comes twice")
            }),
            ("SWITCHOVER_START twice", twice(11), {
                refused(Misbehaved, "SWITCHOVER_START comes twice")
            }),
            ("DISCARD without ADVISE", later(&discard()), {
                refused(Misbehaved, "POSTCOPY_RAM_DISCARD comes without POSTCOPY_ADVISE")
            }),
            ("DISCARD", first(&[command(3, &advise()), discard()].concat()), {
                refused(Unsupported, "postcopy")
            }),
            ("LISTEN", later(&command(4, &[])), {
                refused(Misbehaved, "POSTCOPY_LISTEN comes outside a package")
            }),
            ("RUN", later(&command(5, &[])), {
                refused(Misbehaved, "POSTCOPY_RUN comes outside a package")
            }),
            ("RESUME", later(&command(9, &[])), {
                refused(Misbehaved, "POSTCOPY_RESUME comes although no postcopy is paused")
            }),
            ("RECV_BITMAP", later(&command(10, b"\x03mem")), {
                refused(Misbehaved, "RECV_BITMAP comes although no postcopy is paused")
            }),
            ("COLO", first(&command(8, &[])), refused(Unsupported, "x-colo")),
        ],
    }
}

pub(super) fn packages() -> Rule {
    let advise = [0x1000u64.to_be_bytes(), 0x1000u64.to_be_bytes()].concat();
    let package = |bytes: u32| {
        let start = start_of(
            &configuration(MACHINE),
            &[commands(), command(3, &advise)].concat(),
            &one_block(),
        );
        Script::plain([start, command(7, &bytes.to_be_bytes())].concat(), &[])
    };
    let none = start_of(&configuration(MACHINE), &commands(), &one_block());
    let none = Script::plain([none, command(7, &[0, 0, 0, 9])].concat(), &[]);
    let alone = [MAIN_MAGIC_3, &command(7, &[0xff; 4])].concat();
    let without = start_of(
        &configuration(MACHINE),
        &[commands(), command(3, &advise)].concat(),
        &one_block(),
    );
    Rule {
        name: "PACKAGED",
        rows: vec![
            ("none, though advised", Script::plain(without, &[]), taken()),
            ("without ADVISE", none, {
                refused(Misbehaved, "PACKAGED of 9 bytes (allowed: none) comes without")
            }),
            ("of no bytes", package(0), {
                refused(Unsupported, "postcopy, which begins with this PACKAGED of 0 bytes")
            }),
            ("of 4 GiB", package(u32::MAX), {
                refused(Unsupported, "PACKAGED of 4294967295 bytes (allowed: none)")
            }),
            ("alone, of 4 GiB", Script::plain(alone, &[]), {
                refused(Misbehaved, "PACKAGED of 4294967295 bytes (allowed: none) comes without")
            }),
        ],
    }
}

/// The one device of the state.
const TIMER: &str = r#"{"name": "timer", "instance_id": 0, "fields": [{"size": 24}]}"#;

pub(super) fn descriptions() -> Rule {
    let with = |text: &str| {
        let start = start_of(&configuration(MACHINE), &commands(), &one_block());
        Script::plain(start, &[]).replaced(To::Main, 3, described(text.as_bytes()))
    };
    let devices =
        |devices: &str| with(&format!(r#"{{"page_size": 4096, "devices": [{devices}]}}"#));
    let timer = |fields: &str| {
        devices(&format!(r#"{{"name": "timer", "instance_id": 0, "fields": [{fields}]}}"#))
    };
    let not_understood = || refused(Malformed, "the description is not understood at line 1");
    // What nobody looks into is passed without recursion.
    let nested = |levels: usize| {
        let (open, shut) = ("[".repeat(levels), "]".repeat(levels));
        with(&format!(r#"{{"x": {open}{shut}, "devices": [{TIMER}]}}"#))
    };
    let subsections = |levels: usize| {
        let open = r#", "subsections": [{"vmsd_name": "a", "version": 1"#.repeat(levels);
        let shut = "}]".repeat(levels);
        let fields = r#""fields": [{"size": 24}]"#;
        devices(&format!(r#"{{"name": "timer", "instance_id": 0, {fields}{open}{shut}}}"#))
    };
    Rule {
        name: "vmdesc",
        rows: vec![
            ("all of the state", timer(r#"{"size": 24}"#), taken()),
            ("in three pieces", timer(r#"{"size": 4, "array_len": 5}, {"size": 4}"#), taken()),
            // Sources up to 9.2 count wrong: the footer is there all the same.
            ("a byte less", timer(r#"{"size": 23}"#), taken()),
            ("a byte more", timer(r#"{"size": 25}"#), taken()),
            ("more than there is", timer(r#"{"size": 1099511627776}"#), taken()),
            ("a device more", devices(&format!("{TIMER}, {TIMER}")), {
                refused(Malformed, "the state ends inside the section")
            }),
            ("a negative size", timer(r#"{"size": -1}"#), not_understood()),
            ("sizes past 64 bits", timer(r#"{"size": 9223372036854775808, "array_len": 2}"#), {
                not_understood()
            }),
            ("another device", devices(r#"{"name": "rimet", "instance_id": 0, "size": 24}"#), {
                refused(Malformed, "another device's section is here")
            }),
            ("no device", devices(""), {
                refused(Malformed, "the description ends before the state")
            }),
            ("no list of devices", with(r#"{"page_size": 4096}"#), not_understood()),
            ("a million levels of nothing", nested(1 << 20), taken()),
            ("50 subsections in each other that are not there", subsections(50), taken()),
            ("100 of them", subsections(100), not_understood()),
            ("100,000 of them", subsections(100_000), not_understood()),
        ],
    }
}

#[test]
fn a_description_that_fits_nothing_ends_a_run_long_before_a_stall() {
    let mut host = Host::new(60_000);
    let text = br#"{"page_size": 4096, "devices": [{"name": "timer", "instance_id": 1}]}"#;
    let mut script = part(&[]);
    script.steps.last_mut().expect("the device state").1 = described(text);
    let attacked = host.start(Some(0));
    let mut source = Source::connect(attacked.port, 0);
    source.send(&script.steps).unwrap();
    let error = host.failed("a description that does not fit", attacked, Some(source));
    assert!(error.text.contains("another device's section is here"), "{error}");
}
