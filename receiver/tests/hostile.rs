//! Hostile and dying peers, over real sockets: each ends as it must, and the
//! next migration completes.

#[path = "hostile_parts/bombs.rs"]
mod bombs;
#[path = "hostile_parts/given.rs"]
mod given;
#[path = "hostile_parts/host.rs"]
mod host;
#[path = "hostile_parts/late_devices.rs"]
mod late_devices;
#[path = "hostile_parts/limits.rs"]
mod limits;
#[path = "hostile_parts/masks.rs"]
mod masks;
#[path = "hostile_parts/own_panics.rs"]
mod own_panics;
#[path = "hostile_parts/rules.rs"]
mod rules;
#[path = "hostile_parts/rules_of_channels.rs"]
mod rules_of_channels;
#[path = "hostile_parts/rules_of_main.rs"]
mod rules_of_main;
#[path = "hostile_parts/rules_of_pages.rs"]
mod rules_of_pages;
#[path = "hostile_parts/source.rs"]
mod source;
#[path = "hostile_parts/waits.rs"]
mod waits;

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use landfall_receiver::error::Family::{self, Environment, Malformed, Misbehaved, Unsupported};
use landfall_receiver::migration::Sink;
use landfall_receiver::receiver::Incoming;

use host::{CHANNELS, Host};
use source::*;

const MAIN: To = To::Main;
const ONE: To = To::Channel(1);
const N: Option<u8> = Some(CHANNELS as u8);

/// Which step of a stream has other bytes, and these.
type Spoilt = (To, usize, Vec<u8>);

/// What nobody who migrates would send first.
fn strays(port: u16) -> Vec<(&'static str, TcpStream)> {
    let mut strays = Vec::new();
    for (what, bytes) in [
        ("garbage", b"GET / HTTP/1.1\r\nHost: vm\r\n\r\n".to_vec()),
        ("silence", vec![]),
        ("one byte", vec![0x51]),
        ("half an Init", init(7, 0)[..32].to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("an Init of version 2", [&init(7, 0)[..7], &[2], &[0; 56]].concat()),
    ] {
        let mut socket = connect(port);
        // Refused on its first bytes, it may be closed before the last.
        let _ = socket.write_all(&bytes);
        strays.push((what, socket));
    }
    drop(connect(port)); // closed at once
    strays
}

#[test]
fn strays_before_and_during_a_run_disturb_nobody() {
    let host = Host::new(10_000);
    for channels in [N, None] {
        let label = format!("channels {channels:?}");
        let attacked = host.start(channels);
        let port = attacked.port;
        let before = strays(port);
        let mut other = connect(port);
        other.write_all(&init(9, 1)).unwrap();
        attacked.wait_until("the closed one is noticed", |_| attacked.strays() >= 4);

        let script = Script::legal(CHANNELS);
        let mut source = Source::connect(port, CHANNELS);
        let half = script.step(MAIN, 2);
        source.send(&script.steps[..half]).unwrap();
        attacked.wait_until("the first sync point", |one| {
            one.run.sync().is_some_and(|sync| sync.passed() > 0)
        });
        let during = strays(port);
        let mut late = connect(port);
        late.write_all(&init(9, 5)).unwrap();
        let mut twice = connect(port);
        twice.write_all(&init(7, 0)).unwrap();
        let mut second = connect(port);
        second.write_all(&start(BLOCK_BYTES)).unwrap();
        for (what, socket) in
            [("another UUID", late), ("an id twice", twice), ("a second main", second)]
        {
            assert!(is_closed(&mut { socket }), "{label}: {what} is kept");
        }
        source.send(&script.steps[half..]).unwrap();
        host.completed(attacked, source, &label);
        for (what, mut socket) in before.into_iter().chain(during) {
            assert!(is_closed(&mut socket), "{label}: {what} is kept after the end");
        }
        assert!(is_closed(&mut other), "{label}: another UUID is kept after the end");
        drop(other);
        host.is_at_rest(&label);
    }
}

#[test]
fn a_uuid_that_was_given_must_be_the_one_that_the_source_says() {
    let host = Host::new(10_000);
    let subsection = subsection("configuration/uuid", 1, &7u128.to_be_bytes());
    let configuration = [configuration(MACHINE), subsection].concat();
    let script = Script::plain(start_of(&configuration, &commands(), &rules::one_block()), &[]);
    for (given, is_right) in [(None, true), (Some(7), true), (Some(8), false)] {
        let uuid = given.map(uuid::Uuid::from_u128);
        let incoming = Incoming { channels: Some(0), uuid, ..Incoming::default() };
        let attacked = host.start_for("tcp:127.0.0.1:0", incoming);
        let mut source = Source::connect(attacked.port, 0);
        let _ = source.send(&script.steps);
        let error = attacked.migration.wait().error.clone();
        assert_eq!(error.is_none(), is_right, "{given:?}: {error:?}");
        if let Some(error) = error {
            let wanted = "UUID received is 00000000-0000-0000-0000-000000000007 and local is \
                          00000000-0000-0000-0000-000000000008";
            assert_eq!(error.family, Misbehaved, "{error}");
            assert!(error.text.contains(wanted), "{error}");
        }
    }
}

#[test]
fn a_source_that_dies_anywhere_leaves_a_receiver_that_goes_on() {
    let mut host = Host::new(2_000);
    let script = Script::legal(CHANNELS);
    let mut places: Vec<usize> = Vec::new();
    let mut at = 0usize;
    for (_, bytes) in &script.steps {
        places.extend([at.saturating_sub(1), at, at + 1]);
        at += bytes.len();
    }
    let mut random = landfall_seed::random();
    places.extend((0..25).map(|_| random.usize(..script.bytes())));
    places.sort_unstable();
    places.dedup();
    // Before main has said what it is there is no migration that could fail.
    let main_at: usize =
        script.steps[..script.step(MAIN, 0)].iter().map(|(_, one)| one.len()).sum();
    for place in places.into_iter().filter(|&place| place >= main_at + 4) {
        let label = format!("a death after {place} of {} bytes", script.bytes());
        let error = host.fails(&label, N, |attacked| {
            let mut source = Source::connect(attacked.port, CHANNELS);
            source.send_bytes(&script.steps, place).unwrap();
            None
        });
        assert_eq!(error.family, Misbehaved, "{label}: {error}");
    }
}

#[test]
fn half_a_packet_of_one_guest_is_nothing_to_the_next() {
    let mut host = Host::with(|config| config.memory.pool_bytes = 2 << 20);
    let pages: Vec<u64> = (0..20).collect();
    let mut packet = packet(0, BLOCK, &pages, &[]);
    packet.truncate(HEADER_BYTES + 13 * 4096 + 100);
    let script = Script::legal(CHANNELS).spoilt(ONE, 2, packet);
    // The next run, which `fails` makes and checks, announces zero for two of
    // these pages and nothing for most of the others.
    let error = host.fails("a packet cut inside a page", N, |attacked| {
        let mut source = Source::connect(attacked.port, CHANNELS);
        source.send(&script.steps).unwrap();
        source.close(ONE);
        Some(source)
    });
    assert!(error.text.contains("closed by the source inside a packet"), "{error}");
}

#[test]
fn what_is_wrong_is_told_and_the_next_run_completes() {
    let mut host = Host::with(|config| config.memory.max_ram_bytes = Some(1 << 20));
    let part = |bytes: Vec<u8>| [section(SECTION_PART), bytes].concat();
    let page_item = |offset: u64, flags: u64| {
        [item(offset | flags), vec![3], BLOCK.as_bytes().to_vec(), vec![0; 4096]].concat()
    };
    let of_main = |bytes: Vec<u8>| (MAIN, 1, bytes);
    let of_one = |bytes: Vec<u8>| (ONE, 2, bytes);
    let cases: Vec<(Family, &str, Spoilt)> = vec![
        (Environment, "--max-ram", (MAIN, 0, start(2 << 20))),
        (Malformed, "version", (MAIN, 0, b"QEVM\0\0\0\x02".to_vec())),
        (Malformed, "0x09", of_main(vec![9; 64])),
        (Misbehaved, "section 5", of_main(b"\x02\0\0\0\x05".to_vec())),
        (Malformed, "past", of_main(part(page_item(BLOCK_BYTES, PAGE)))),
        (Malformed, "", of_main(part(item(0x1000 | PAGE | ZERO)))),
        (Misbehaved, "continues", of_main(part(item(PAGE | CONTINUE)))),
        (
            Malformed,
            "xbzrle changed run",
            of_main(part([item(XBZRLE), vec![3], b"mem\x01\0\x01\0".to_vec()].concat())),
        ),
        (Unsupported, "x-colo", of_main(command(8, &[]))),
        (Malformed, "command", of_main(command(77, &[1, 2, 3]))),
        (Malformed, "normal_pages is 129, limit 128", of_one(header(0, BLOCK, &[], &[], 129))),
        (Malformed, "magic", of_one(vec![0x55; HEADER_BYTES])),
        (Malformed, "RAM block", of_one(packet(0, "nvram", &[1], &[]))),
        (Malformed, "channel 1", of_one(packet(0, BLOCK, &[PAGES], &[]))),
        (Malformed, "channel 1", of_one(packet(0, BLOCK, &[], &[u64::MAX / 4096]))),
        (
            Misbehaved,
            "zstd, the run's packets before had none",
            // Behind a packet of its own: the other channel may be slower.
            of_one([packet(0, BLOCK, &[4, 5], &[6]), header(4, BLOCK, &[1], &[], 1)].concat()),
        ),
        (Malformed, "idstr", of_one(header(0x40, "", &[], &[], 0))),
    ];
    for (family, part, (to, nth, bytes)) in cases {
        let label = format!("{family} '{part}' on {to:?}");
        let script = Script::legal(CHANNELS).spoilt(to, nth, bytes);
        let error = host.fails(&label, N, |attacked| {
            let mut source = Source::connect(attacked.port, CHANNELS);
            // It may be refused before all of it is written.
            let _ = source.send(&script.steps);
            Some(source)
        });
        assert_eq!(error.family, family, "{label}: {error}");
        assert!(error.text.contains(part), "{label}: {error}");
    }
}

#[test]
fn channels_that_cannot_be_are_fatal() {
    let mut host = Host::new(600);
    for (what, ids, channels, wanted) in [
        ("an id too large", vec![0, 2], N, "id 2, but the channel count is 2"),
        ("an id twice", vec![1, 1], N, "two multifd channels have id 1"),
        ("one too few", vec![0], N, "1 of 2 multifd channels connected"),
        ("one too many", vec![0, 1, 2], N, "id 2, but the channel count is 2"),
        ("any without multifd", vec![0], Some(0), "the channel count is 0"),
        ("a gap, count derived", vec![0, 2], None, "channel 1 is missing"),
    ] {
        let error = host.fails(what, channels, |attacked| {
            let mut source = Source::connect(attacked.port, ids.len());
            for (place, id) in ids.into_iter().enumerate() {
                source.send(&[(To::Channel(place), init(7, id))]).unwrap();
            }
            let _ = source.send(&[(MAIN, start(BLOCK_BYTES))]);
            Some(source)
        });
        assert_eq!(error.family, Misbehaved, "{what}: {error}");
        assert!(error.text.contains(wanted), "{what}: {error}");
    }
    let error = host.fails("a channel too many during the run", N, |attacked| {
        let script = Script::legal(CHANNELS);
        let mut source = Source::connect(attacked.port, CHANNELS);
        source.send(&script.steps[..script.step(MAIN, 1)]).unwrap();
        attacked.wait_until("the channels are known", |one| one.run.sync().is_some());
        connect(attacked.port).write_all(&init(7, 2)).unwrap();
        Some(source)
    });
    assert!(error.text.contains("id 2, but the channel count is 2"), "{error}");
}

#[test]
fn silence_inside_anything_is_a_stall() {
    let mut host = Host::new(600);
    let script = Script::legal(CHANNELS);
    let packet_step = script.step(ONE, 2);
    let part_step = script.step(MAIN, 1);
    let last_sync = script.step(ONE, 4);
    let cut = |step: usize, bytes: usize| {
        let mut steps = script.steps[..=step].to_vec();
        steps[step].1.truncate(bytes);
        // Main is silent between two records, which is legal, while a channel is inside a packet.
        steps
            .retain(|(to, bytes)| step != packet_step || *to != MAIN || bytes.starts_with(b"QEVM"));
        steps
    };
    for (what, steps, wanted) in [
        ("in a packet's header", cut(packet_step, 100), "channel 1, packet 1"),
        ("in a page", cut(packet_step, HEADER_BYTES + 5000), "channel 1, packet 2"),
        ("in an item of ram", cut(part_step, 9), "main stream"),
        ("in main's magic and version", cut(script.step(MAIN, 0), 6), "main stream"),
        ("before a SYNC", cut(last_sync, 0), "sync point 3: channels 1"),
        ("in the device state", cut(script.steps.len() - 1, 30), "main stream"),
    ] {
        let error = host.fails(what, N, |attacked| {
            let mut source = Source::connect(attacked.port, CHANNELS);
            source.send(&steps).unwrap();
            if what == "before a SYNC" {
                source.send(&script.steps[last_sync + 1..]).unwrap();
            }
            Some(source)
        });
        assert_eq!(error.family, Misbehaved, "{what}: {error}");
        assert!(error.text.contains(wanted), "{what}: {error}");
    }
}

#[test]
fn silence_between_records_is_legal() {
    let host = Host::new(500);
    let attacked = host.start(N);
    let script = Script::legal(CHANNELS);
    let mut source = Source::connect(attacked.port, CHANNELS);
    let pause = script.step(MAIN, 3); // before ram's END, as with pause-before-switchover
    source.send(&script.steps[..pause]).unwrap();
    thread::sleep(Duration::from_millis(1_500));
    source.send(&script.steps[pause..]).unwrap();
    host.completed(attacked, source, "a pause of three stalls");
}

#[test]
fn a_channel_that_ends_early_is_missed_at_once() {
    let mut host = Host::new(10_000);
    let script = Script::legal(CHANNELS);
    let since = Instant::now();
    let error = host.fails("a channel closed before its last SYNC", N, |attacked| {
        let mut source = Source::connect(attacked.port, CHANNELS);
        let last_sync = script.step(ONE, 4);
        source.send(&script.steps[..last_sync]).unwrap();
        source.close(ONE);
        source.send(&script.steps[last_sync + 1..]).unwrap();
        Some(source)
    });
    assert!(since.elapsed() < Duration::from_secs(5), "waited for a stall");
    assert_eq!(error.family, Misbehaved);
    assert!(error.text.contains("channel 1: closed by the source before SYNC 3"), "{error}");
}

#[test]
fn a_crowd_of_silent_connections_shuts_nobody_out() {
    let host = Host::new(10_000);
    let attacked = host.start(N);
    let crowd: Vec<TcpStream> = (0..300).map(|_| connect(attacked.port)).collect();
    let script = Script::legal(CHANNELS);
    let mut source = Source::connect(attacked.port, CHANNELS);
    source.send(&script.steps).unwrap();
    host.completed(attacked, source, "a crowd");
    drop(crowd);
    host.is_at_rest("a crowd");
}

#[test]
fn a_handshake_that_stops_is_refused_and_the_run_goes_on() {
    let host = Host::new(600);
    let attacked = host.start(N);
    let mut half = connect(attacked.port);
    half.write_all(&init(7, 0)[..32]).unwrap();
    let mut silent = connect(attacked.port);
    attacked.wait_until("both are refused", |_| attacked.strays() == 2);
    assert!(is_closed(&mut half) && is_closed(&mut silent));
    let mut source = Source::connect(attacked.port, CHANNELS);
    source.send(&Script::legal(CHANNELS).steps).unwrap();
    host.completed(attacked, source, "two handshakes that stopped");
}

#[test]
fn one_reader_serves_sixteen_channels() {
    let host = Host::new(10_000);
    for channels in [Some(16), None] {
        let attacked = host.start(channels);
        let mut source = Source::connect(attacked.port, 16);
        source.send(&Script::legal(16).steps).unwrap();
        host.completed(attacked, source, &format!("channels {channels:?}"));
    }
}

#[test]
fn a_discarding_receiver_counts_what_comes_in_bits_and_never_takes_the_guest() {
    let host = Host::with(|config| config.sink = Sink::Discard);
    let attacked = host.start(N);
    let script = Script::legal(CHANNELS);
    let mut source = Source::connect(attacked.port, CHANNELS);
    for (to, bytes) in &script.steps {
        for piece in bytes.chunks(if *to == MAIN { 64 } else { 700 }) {
            source.send(&[(*to, piece.to_vec())]).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
    }
    let migration = attacked.migration.clone();
    host.completed(attacked, source, "discarded");
    let pages: Vec<u64> =
        migration.run.channels().iter().map(|channel| channel.counters.normal.get()).collect();
    assert_eq!(pages, [2, 2]);
}
