//! What is checked of a channel (docs/wire-format.md), rule by rule: the value
//! at the limit is taken, the next one refused with place, found and allowed.

use landfall_receiver::error::Family::{Malformed, Misbehaved};

use super::host::{CHANNELS, Host};
use super::rules::{Rule, hold, refused, taken};
use super::source::*;

#[test]
fn every_rule_of_a_channel_holds_at_its_limit_and_past_it() {
    hold(CHANNELS, &[starts(), counts(), payloads(), names(), offsets(), sync_points(), inits()]);
}

#[test]
fn flushes_of_a_source_without_multifd_are_waited_out_if_it_sends_its_pages_on_main() {
    // As 8.1.0 to 8.1.2 do it.
    let host = Host::new(60_000);
    let page = page_item(PAGE, 0, &[0x5a; 4096]);
    let zero = page_item(ZERO, 0, &[0]);
    for (items, is_whole) in [(page, true), (zero, false)] {
        let attacked = host.start(None);
        let part = [items, item(FLUSH)].concat();
        let mut source = Source::connect(attacked.port, 0);
        source.send(&Script::plain(start(BLOCK_BYTES), &part).steps).unwrap();
        let replies = source.replies();
        let error = &attacked.migration.wait().error;
        if is_whole {
            assert_eq!((error, replies), (&None, [PONG, SHUT_0].concat()));
        } else {
            let error = error.as_ref().expect("pages are missing");
            assert_eq!((error.family, &replies[..]), (Misbehaved, &PONG[..]), "{error}");
            assert!(error.text.contains("no multifd channel has come"), "{error}");
        }
    }
}

/// The legal script with another packet of data on channel 1.
fn sent(packet: Vec<u8>) -> Script {
    Script::legal(CHANNELS).replaced(To::Channel(1), 2, packet)
}

/// The same, and nothing after it: whoever waits for it there waits in vain.
fn spoilt(packet: Vec<u8>) -> Script {
    Script::legal(CHANNELS).spoilt(To::Channel(1), 2, packet)
}

/// A packet of pages 4 and 5 with one word of its header changed.
fn with_word(at: usize, word: u32) -> Vec<u8> {
    let mut bytes = packet(0, BLOCK, &[4, 5], &[6]);
    bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
    bytes
}

/// A packet of `normal` and `zero` pages, by offset in bytes.
fn at(normal: &[u64], zero: &[u64]) -> Vec<u8> {
    let mut bytes = header(0, BLOCK, &[], &[], normal.len() as u32);
    bytes[32..36].copy_from_slice(&(zero.len() as u32).to_be_bytes());
    for (offset, place) in normal.iter().chain(zero).zip(bytes[320..].chunks_mut(8)) {
        place.copy_from_slice(&offset.to_be_bytes());
    }
    bytes.extend(vec![0x5a; normal.len() * 4096]);
    bytes
}

fn starts() -> Rule {
    let flags = |flags: u32| with_word(8, flags);
    let no_meaning = || refused(Malformed, "which has no known meaning");
    Rule {
        name: "magic, version, flags",
        rows: vec![
            ("as they are", sent(flags(0)), taken()),
            ("another magic", spoilt(with_word(0, 0x1122_3345)), {
                refused(Malformed, "magic is 0x11223345, must be 0x11223344")
            }),
            ("version 2", spoilt(with_word(4, 2)), {
                refused(Malformed, "version is 0x2, must be 0x1")
            }),
            ("a flag past the last", spoilt(flags(0x80)), no_meaning()),
            ("all flags", spoilt(flags(u32::MAX)), no_meaning()),
            ("two compressions", spoilt(flags(0x06)), no_meaning()),
            ("device state with SYNC", spoilt(flags(0x41)), no_meaning()),
            ("device state without a name", spoilt(flags(0x40)), {
                refused(Malformed, "idstr is empty")
            }),
        ],
    }
}

fn counts() -> Rule {
    let pages = |count: u64| (0..count).map(|page| page % PAGES).collect::<Vec<_>>();
    let counted = |normal: u64, zero: u64| {
        let all = pages(normal + zero);
        let (normal, zero) = all.split_at(normal as usize);
        packet(0, BLOCK, normal, zero)
    };
    Rule {
        name: "counts",
        rows: vec![
            ("128 with data, some twice", sent(counted(128, 0)), taken()),
            ("129 with data", spoilt(header(0, BLOCK, &[], &[], 129)), {
                refused(Malformed, "normal_pages is 129, limit 128")
            }),
            ("4 billion with data", spoilt(header(0, BLOCK, &[], &[], u32::MAX)), {
                refused(Malformed, "normal_pages is 4294967295, limit 128")
            }),
            ("128 zero", sent(counted(0, 128)), taken()),
            ("129 zero", spoilt(with_word(32, 129)), {
                refused(Malformed, "zero_pages is 129, limit 126")
            }),
            ("127 and 1", sent(counted(127, 1)), taken()),
            ("2 and 127", spoilt(with_word(32, 127)), {
                refused(Malformed, "zero_pages is 127, limit 126")
            }),
            ("fewer places than pages", spoilt(with_word(12, 1)), {
                refused(Malformed, "normal_pages is 2, limit 1")
            }),
            ("129 places", spoilt(with_word(12, 129)), {
                refused(Malformed, "pages_alloc is 129, limit 128")
            }),
            ("none at all", sent(header(0, BLOCK, &[], &[], 0)), taken()),
        ],
    }
}

fn payloads() -> Rule {
    let mut stale = sync();
    stale[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
    stale[64..320].fill(0xee);
    stale[320..].fill(0xee);
    let stale = Script::legal(CHANNELS).replaced(To::Channel(1), 3, stale);
    let sized = |bytes: u32| spoilt(with_word(20, bytes));
    let compressed = |bytes: u32| {
        let mut packet = with_word(20, bytes);
        packet[11] = 0x02;
        spoilt(packet)
    };
    Rule {
        name: "next_packet_size",
        rows: vec![
            ("of the pages", sent(with_word(20, 8192)), taken()),
            ("a byte less", sized(8191), {
                refused(Malformed, "next_packet_size is 0x1fff, must be 0x2000")
            }),
            ("a byte more", sized(8193), {
                refused(Malformed, "next_packet_size is 0x2001, must be 0x2000")
            }),
            ("4 GiB", sized(u32::MAX), {
                refused(Malformed, "next_packet_size is 0xffffffff, must be 0x2000")
            }),
            ("stale, without pages", stale, taken()),
            ("compressed, nothing", compressed(0), {
                refused(Malformed, "next_packet_size is 0, at least 1 needed")
            }),
            ("compressed, 1 MiB and a byte", compressed(1_048_577), {
                refused(Malformed, "next_packet_size is 1048577, limit 1048576")
            }),
        ],
    }
}

fn names() -> Rule {
    let named = |name: &[u8]| {
        let mut bytes = packet(0, "", &[4, 5], &[6]);
        bytes[64..64 + name.len()].copy_from_slice(name);
        bytes
    };
    let unknown = || refused(Malformed, "RAM block");
    Rule {
        name: "ramblock",
        rows: vec![
            ("the block's", sent(named(b"mem")), taken()),
            ("with bytes behind its NUL", sent(named(b"mem\0\xff\xff")), taken()),
            ("another", spoilt(named(b"men")), unknown()),
            ("none", spoilt(named(b"")), unknown()),
            ("without NUL", spoilt(named(&[b'm'; 256])), unknown()),
        ],
    }
}

fn offsets() -> Rule {
    let last = BLOCK_BYTES - 4096;
    let past = || refused(Malformed, "offset is 262144, limit 258048");
    let unaligned = || refused(Malformed, "offset is 0x1001, not a multiple of 0x1000");
    Rule {
        name: "offsets",
        rows: vec![
            ("the last page", sent(at(&[last], &[])), taken()),
            ("the page past it", spoilt(at(&[0, BLOCK_BYTES], &[])), past()),
            ("the last page, zero", sent(at(&[], &[last])), taken()),
            ("the page past it, zero", spoilt(at(&[], &[0, BLOCK_BYTES])), past()),
            ("off a page", spoilt(at(&[0x1001], &[])), unaligned()),
            ("off a page, zero", spoilt(at(&[], &[0x1001])), unaligned()),
            ("past everything", spoilt(at(&[u64::MAX - 4095], &[])), {
                refused(Malformed, "offset is 18446744073709547520, limit 258048")
            }),
            ("one page twice", sent(at(&[0, 0], &[0, 0])), taken()),
        ],
    }
}

fn sync_points() -> Rule {
    let legal = Script::legal(CHANNELS);
    // All that channels send before main says anything.
    let mut leading = legal.clone();
    leading.steps.sort_by_key(|(to, _)| *to == To::Main);
    // One SYNC cut, and main waits: what is told is the cut.
    let mut cut = sync();
    cut[0] = 0x12;
    Rule {
        name: "sync points",
        rows: vec![
            ("as many as main", legal.clone(), taken()),
            ("all of them before main's first", leading, taken()),
            ("one that is none", legal.spoilt(To::Channel(1), 3, cut), {
                refused(Malformed, "magic is 0x12223344, must be 0x11223344")
            }),
        ],
    }
}

fn inits() -> Rule {
    let with_id = |id: u8| Script::legal(CHANNELS).replaced(To::Channel(1), 0, init(7, id));
    let too_large = "has id 2, but the channel count is 2";
    Rule {
        name: "Init",
        rows: vec![
            ("the last id", with_id(1), taken()),
            ("the id past it", with_id(2), refused(Misbehaved, too_large)),
            ("the largest id", with_id(255), refused(Misbehaved, "has id 255")),
            ("an id twice", with_id(0), refused(Misbehaved, "two multifd channels have id 0")),
        ],
    }
}
