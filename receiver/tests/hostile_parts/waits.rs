//! Peers that are late, slow, silent or gone: who is waited for, and how long.

use std::fs::read_link;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use landfall_receiver::error::Family::Misbehaved;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect as connect_fd, socket,
};

use super::host::{CHANNELS, Host};
use super::source::*;
use super::{MAIN, N, ONE};

#[test]
fn a_main_stream_that_goes_while_channels_are_missing_is_missed_at_once() {
    let mut host = Host::new(60_000);
    for (what, channels, ids, resets) in [
        ("closes, one channel missing", N, vec![0], false),
        ("closes, all missing", N, vec![], false),
        ("is reset, one missing", N, vec![0], true),
        ("closes, count derived", None, vec![], false),
        ("closes, count derived, with a gap", None, vec![1], false),
    ] {
        let since = Instant::now();
        let error = host.fails(what, channels, |attacked| {
            let mut source = Source::connect(attacked.port, ids.len());
            for (place, &id) in ids.iter().enumerate() {
                source.send(&[(To::Channel(place), init(7, id))]).unwrap();
            }
            source.send(&[(MAIN, start(BLOCK_BYTES))]).unwrap();
            attacked.wait_until("the blocks are known", |one| one.run.ram().is_some());
            if resets {
                source.reset(MAIN);
            } else {
                source.close(MAIN);
            }
            Some(source)
        });
        assert!(since.elapsed() < AT_ONCE, "{what}: {:?}", since.elapsed());
        assert_eq!(error.family, Misbehaved, "{what}: {error}");
        assert!(error.text.contains("main stream: closed by the source"), "{what}: {error}");
    }
}

#[test]
fn a_main_stream_that_goes_at_a_sync_point_is_missed_at_once() {
    let mut host = Host::new(60_000);
    let script = Script::legal(CHANNELS);
    for resets in [false, true] {
        let since = Instant::now();
        let error = host.fails("main goes at a sync point", N, |attacked| {
            let mut source = Source::connect(attacked.port, CHANNELS);
            source.send(&script.steps[..script.step(ONE, 2)]).unwrap();
            attacked.wait_until("the first sync point", |one| {
                one.run.sync().is_some_and(|sync| sync.passed() == 1)
            });
            if resets {
                source.reset(MAIN);
            } else {
                source.close(MAIN);
            }
            Some(source)
        });
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        assert_eq!(error.family, Misbehaved, "{error}");
        assert!(error.text.contains("main stream"), "{error}");
    }
}

/// Main's steps and the channels' of a source that needs no answers.
fn without_a_return_path() -> (Vec<Step>, Vec<Step>) {
    let list = [list(&[(BLOCK.as_bytes(), BLOCK_BYTES)]), item(FLUSH)].concat();
    let start = start_of(&configuration(MACHINE), &[], &list);
    let script = Script::legal(CHANNELS).replaced(MAIN, 0, start);
    script.steps.into_iter().partition(|(to, _)| *to == MAIN)
}

#[test]
fn without_a_return_path_channels_may_come_after_main_has_closed() {
    let host = Host::new(60_000);
    let attacked = host.start(N);
    let (of_main, of_channels) = without_a_return_path();
    let mut main = Source::connect(attacked.port, 0);
    main.send(&of_main).unwrap();
    main.close(MAIN);
    thread::sleep(Duration::from_millis(500));
    let mut channels = Source::connect(attacked.port, CHANNELS);
    channels.send(&of_channels).unwrap();
    assert_eq!(attacked.migration.wait().error, None);
}

#[test]
fn channels_that_have_sent_all_and_closed_wait_for_a_main_stream_that_came_before_them() {
    let host = Host::new(60_000);
    let attacked = host.start(N);
    let (of_main, of_channels) = without_a_return_path();
    let mut main = Source::connect(attacked.port, 0);
    let mut channels = Source::connect(attacked.port, CHANNELS);
    channels.send(&of_channels).unwrap();
    for channel in 0..CHANNELS {
        channels.close(To::Channel(channel));
    }
    thread::sleep(Duration::from_millis(500));
    main.send(&of_main).unwrap();
    main.close(MAIN);
    assert_eq!(attacked.migration.wait().error, None);
}

#[test]
fn channels_of_a_source_that_is_gone_are_no_rivals_of_the_next_ones() {
    let host = Host::new(60_000);
    for channels in [N, None] {
        let attacked = host.start(channels);
        // Whoever is silent may be the main stream of those who come after.
        let silent = TcpStream::connect(("127.0.0.1", attacked.port)).unwrap();
        let mut dead = Source::connect(attacked.port, CHANNELS);
        let script = Script::legal(CHANNELS);
        dead.send(&script.steps[..CHANNELS]).unwrap();
        drop(dead);
        attacked.wait_until("its channels came", |one| {
            one.run.arrivals().waiting().count() == CHANNELS
        });
        let mut next = Source::connect(attacked.port, CHANNELS);
        next.send(&script.steps).unwrap();
        assert_eq!(attacked.migration.wait().error, None, "channels {channels:?}");
        drop(silent);
    }
}

/// Sends the legal script with the last bytes of one step one at a time.
fn trickle(source: &mut Source, script: &Script, step: usize, bytes: usize) -> io::Result<()> {
    source.send(&script.steps[..step])?;
    let (to, whole) = &script.steps[step];
    let (most, last) = whole.split_at(whole.len() - bytes);
    source.send(&[(*to, most.to_vec())])?;
    for byte in last {
        thread::sleep(STALL / 3);
        source.send(&[(*to, vec![*byte])])?;
    }
    source.send(&script.steps[step + 1..])
}

#[test]
fn a_byte_now_and_then_is_no_stall_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix = format!("unix:{}", path.display());
    let host = Host::with(|config| config.stall = STALL);
    let script = Script::legal(CHANNELS);
    let header_alone = Script::legal(CHANNELS).replaced(ONE, 2, sync()).replaced(
        ONE,
        3,
        packet(0, BLOCK, &[], &[9]),
    );
    let mut start_in_two = script.clone();
    let at = script.step(MAIN, 0);
    let rest = start_in_two.steps[at].1.split_off(60);
    start_in_two.steps.insert(at + 1, (MAIN, rest));
    for over_unix in [false, true] {
        for (what, script, step) in [
            ("in a page", &script, script.step(ONE, 2)),
            ("in a header", &header_alone, script.step(ONE, 2)),
            ("in main's START", &start_in_two, at),
            ("in the device state", &script, script.steps.len() - 1),
        ] {
            let label = format!("{what}, unix {over_unix}");
            let address = if over_unix { &unix } else { "tcp:127.0.0.1:0" };
            let attacked = host.start_at(address, N);
            let mut source = if over_unix {
                Source::connect_unix(&path, CHANNELS)
            } else {
                Source::connect(attacked.port, CHANNELS)
            };
            let since = Instant::now();
            let sent = trickle(&mut source, script, step, 6);
            let end = attacked.migration.wait();
            assert_eq!(end.error, None, "{label}: {sent:?}");
            assert!(since.elapsed() > STALL * 3 / 2, "{label}: too quick to prove anything");
        }
    }
}

#[test]
fn a_silence_inside_a_packet_is_a_stall_over_unix_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let host = Host::with(|config| config.stall = STALL);
    let script = Script::legal(CHANNELS);
    for bytes in [100, HEADER_BYTES + 5000] {
        let attacked = host.start_at(&format!("unix:{}", path.display()), N);
        let mut source = Source::connect_unix(&path, CHANNELS);
        let step = script.step(ONE, 2);
        source.send(&script.steps[..step]).unwrap();
        source.send(&[(ONE, script.steps[step].1[..bytes].to_vec())]).unwrap();
        let since = Instant::now();
        let error = attacked.migration.wait().error.clone().expect("it stalls");
        assert_eq!(error.family, Misbehaved, "{error}");
        // Main waits for both, and may be the first to say so.
        assert!(error.text.contains("channel"), "{error}");
        assert!(since.elapsed() < 10 * STALL, "after {:?}", since.elapsed());
    }
    host.is_at_rest("silences over unix");
}

#[test]
fn a_channel_that_is_reset_is_missed_at_once_wherever_it_is() {
    let mut host = Host::new(60_000);
    let script = Script::legal(CHANNELS);
    for (what, step, bytes) in [
        ("behind its Init", script.step(ONE, 0), 64),
        ("in a header", script.step(ONE, 1), 100),
        ("in a page", script.step(ONE, 2), HEADER_BYTES + 5000),
        ("before its last SYNC", script.step(ONE, 3), HEADER_BYTES),
    ] {
        let since = Instant::now();
        let error = host.fails(what, N, |attacked| {
            let mut source = Source::connect(attacked.port, CHANNELS);
            source.send(&script.steps[..step]).unwrap();
            source.send(&[(ONE, script.steps[step].1[..bytes].to_vec())]).unwrap();
            let others = script.steps[step + 1..].iter().filter(|(to, _)| *to != ONE);
            let others: Vec<_> = others.cloned().collect();
            // Main may say all it has: without the channel there is no end.
            source.send(&others).unwrap();
            attacked.wait_until("the channels are known", |one| one.run.sync().is_some());
            source.reset(ONE);
            Some(source)
        });
        assert!(since.elapsed() < AT_ONCE, "{what}: {:?}", since.elapsed());
        assert_eq!(error.family, Misbehaved, "{what}: {error}");
        assert!(error.text.contains("channel 1"), "{what}: {error}");
    }
}

#[test]
fn more_syncs_than_sync_points_fail_the_run() {
    let mut host = Host::new(10_000);
    let mut script = Script::legal(CHANNELS);
    let last = script.step(ONE, 4);
    script.steps.insert(last + 1, (ONE, sync()));
    let error = host.fails("one SYNC more", N, |attacked| {
        let mut source = Source::connect(attacked.port, CHANNELS);
        let device_state = script.steps.len() - 1;
        source.send(&script.steps[..device_state]).unwrap();
        attacked.wait_until("it came", |one| {
            one.run.channels().get(1).is_some_and(|channel| channel.counters.syncs.get() == 4)
        });
        source.send(&script.steps[device_state..]).unwrap();
        Some(source)
    });
    assert_eq!(error.family, Misbehaved, "{error}");
    assert!(error.text.contains("channel 1: 4 SYNC packets, but main had 3"), "{error}");
}

#[test]
fn a_channel_that_comes_after_the_count_was_derived_fails_the_run_loudly() {
    let mut host = Host::new(60_000);
    let legacy = || {
        start_of(
            &configuration(b"pc-q35-7.2"),
            &commands(),
            &list(&[(BLOCK.as_bytes(), BLOCK_BYTES)]),
        )
    };
    for (what, here, late, start) in [
        ("sync points by EOS, none was here", 0, 0, legacy()),
        ("sync points by EOS, one was here", 1, 1, legacy()),
        ("sync points by FLUSH", 1, 1, start(BLOCK_BYTES)),
    ] {
        let error = host.fails(what, None, |attacked| {
            let mut source = Source::connect(attacked.port, here);
            for id in 0..here {
                let channel = To::Channel(id);
                source.send(&[(channel, init(7, id as u8)), (channel, sync())]).unwrap();
            }
            source.send(&[(MAIN, start)]).unwrap();
            attacked.wait_until("the count is derived", |one| one.run.sync().is_some());
            connect(attacked.port).write_all(&init(7, late)).unwrap();
            Some(source)
        });
        assert_eq!(error.family, Misbehaved, "{what}: {error}");
        let wanted = format!("has id {late}, but the channel count is {here}");
        assert!(error.text.contains(&wanted), "{what}: {error}");
    }
}

#[test]
fn a_derived_count_waits_for_who_is_at_the_door_and_has_not_spoken() {
    let host = Host::new(60_000);
    let attacked = host.start(None);
    let script = Script::legal(CHANNELS);
    let mut source = Source::connect(attacked.port, CHANNELS);
    let init_of_one = script.step(ONE, 0);
    let main_start = script.step(MAIN, 0);
    source.send(&script.steps[..init_of_one]).unwrap();
    source.send(&script.steps[main_start..=main_start]).unwrap();
    thread::sleep(Duration::from_millis(600));
    source.send(&script.steps[init_of_one..=init_of_one]).unwrap();
    source.send(&script.steps[main_start + 1..]).unwrap();
    host.completed(attacked, source, "an Init after 600 ms");
}

#[test]
fn strangers_who_never_stop_knocking_do_not_hold_up_a_derived_count() {
    let host = Host::new(60_000);
    let attacked = host.start(None);
    let port = attacked.port;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                drop(TcpStream::connect(("127.0.0.1", port)));
                thread::sleep(Duration::from_millis(30));
            }
        });
        let since = Instant::now();
        let mut source = Source::connect(port, CHANNELS);
        source.send(&Script::legal(CHANNELS).steps).unwrap();
        host.completed(attacked, source, "among strangers");
        over.store(true, Relaxed);
        assert!(since.elapsed() < Duration::from_secs(15), "after {:?}", since.elapsed());
    });
}

#[test]
fn silence_tells_the_end_of_a_stream_without_a_description() {
    let host = Host::new(1_000);
    let with_end = |end: Vec<u8>| {
        let script = Script::legal(CHANNELS);
        let end_of_all = script.step(MAIN, 4);
        script.replaced(MAIN, 4, end).steps.split_at(end_of_all + 1).0.to_vec()
    };
    let send = |steps: &[(To, Vec<u8>)]| {
        let attacked = host.start(N);
        let mut source = Source::connect(attacked.port, CHANNELS);
        source.send(steps).unwrap();
        (attacked, source)
    };
    let since = Instant::now();
    let (attacked, source) = send(&with_end(undescribed()));
    host.completed(attacked, source, "no description");
    let took = since.elapsed();
    assert!((2_000..15_000).contains(&took.as_millis()), "{took:?}");

    // Another second is not enough, and what comes then counts.
    let (attacked, mut source) = send(&with_end(undescribed()));
    thread::sleep(Duration::from_millis(1200));
    let description = device_state()[undescribed().len()..].to_vec();
    source.send(&[(MAIN, description)]).unwrap();
    let migration = attacked.migration.clone();
    host.completed(attacked, source, "a late description");
    assert!(!migration.wait().received.device_state.vmdesc.is_empty());
    drop(migration);

    // The footer of a section that is none of the state ends nothing.
    let mut other = undescribed();
    let id = other.len() - 2;
    other[id] = 9;
    let (attacked, _source) = send(&with_end(other));
    let error = attacked.migration.wait().error.clone().expect("no end");
    assert!(error.text.contains("nothing came for"), "{error}");
}

#[test]
fn a_host_without_descriptors_refuses_strangers_and_not_the_run() {
    let host = Host::new(10_000);
    let attacked = host.start(N);
    let unconnected =
        || socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let strays: Vec<_> = (0..60).map(|_| unconnected()).collect();
    let ours: Vec<_> = (0..=CHANNELS).map(|_| unconnected()).collect();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_ring = |target: &Path| target.to_string_lossy().contains("io_uring");
    // The reader makes its ring on its own thread.
    attacked.wait_until("there is a ring", |_| {
        descriptors().filter_map(|entry| read_link(entry.path()).ok()).any(|to| is_ring(&to))
    });
    let highest = descriptors().count() as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, highest + 12, hard).unwrap();
    let knock = |fds: Vec<OwnedFd>| -> Vec<TcpStream> {
        fds.into_iter()
            .map(|fd| {
                let address = SockaddrIn::new(127, 0, 0, 1, attacked.port);
                connect_fd(fd.as_raw_fd(), &address).unwrap();
                fd.into()
            })
            .collect()
    };
    let strays = knock(strays);
    let mut source = Source::of(knock(ours));
    source.send(&Script::legal(CHANNELS).steps).unwrap();
    let ended = attacked.migration.wait_for(Duration::from_secs(20));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(ended, "still waiting, {} strays refused", attacked.strays());
    host.completed(attacked, source, "without descriptors");
    drop(strays);
    host.is_at_rest("without descriptors");
}

/// What is a stall where slowness is tried.
const STALL: Duration = Duration::from_secs(1);
/// Far less than the stall timeout of those who ask, and more than a loaded
/// machine needs.
const AT_ONCE: Duration = Duration::from_secs(8);
