//! The ring against plain receives: same bytes, same RAM, with every set of
//! features that `LANDFALL_RING_MASK` can make.

#[path = "ring_parts/script.rs"]
mod script;
#[path = "ring_parts/walk.rs"]
mod walk;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use landfall_receiver::place::Run;
use landfall_receiver::ring::{Expected, HEADERS_BYTES, Operation, ReaderRing, RingFeatures};
use landfall_receiver::wake::Wake;

use script::{Script, bytes_of};
use walk::{Outcome, Ram, Stream, arm_away, attach, plainly, send_in_cuts, through_ring};

#[test]
fn random_receives_bring_the_same_through_the_ring_as_plainly() {
    let seed = landfall_seed::printed();
    let (ram, plain_ram) = (Ram::new(), Ram::new());
    for (number, (mask, kind)) in masks_and_kinds().enumerate() {
        for case in 0..CASES {
            let mut random = Rng::with_seed(seed ^ (number as u64) << 32 ^ case).fork();
            let script = Script::random(&mut random, kind);
            // One in three streams breaks off somewhere.
            let whole = script.bytes();
            let bytes = if case % 3 == 2 { random.usize(..whole + 1) } else { whole };
            let content = bytes_of(&mut random, bytes);
            let label = format!("mask '{mask}', {kind:?}, case {case}, {bytes} of {whole} bytes");
            let plain = with_stream(kind, &content, &mut random, |socket| {
                plain_ram.clear();
                plainly(socket, &script, &plain_ram, kind)
            });
            let found = with_stream(kind, &content, &mut random, |socket| {
                ram.clear();
                within(&label, || through_ring(features(mask), socket, &script, &ram, kind))
            });
            assert_eq!(found, plain, "{label}");
            assert!(ram.content() == plain_ram.content(), "RAM differs: {label}");
        }
    }
}

#[test]
fn an_end_at_any_byte_is_seen_where_it_is() {
    let (ram, plain_ram) = (Ram::new(), Ram::new());
    for (mask, kind) in masks_and_kinds() {
        let script = Script::small();
        for bytes in 0..=script.bytes() {
            let mut random = Rng::with_seed(bytes as u64);
            let content = bytes_of(&mut random, bytes);
            let label = format!("mask '{mask}', {kind:?}, cut after {bytes} bytes");
            ram.clear();
            plain_ram.clear();
            let plain = with_stream(kind, &content, &mut random, |socket| {
                plainly(socket, &script, &plain_ram, kind)
            });
            let found = with_stream(kind, &content, &mut random, |socket| {
                within(&label, || through_ring(features(mask), socket, &script, &ram, kind))
            });
            assert_eq!(found, plain, "{label}");
            assert_eq!(found.taken, bytes, "{label}");
            assert!(ram.content() == plain_ram.content(), "RAM differs: {label}");
        }
    }
}

#[test]
fn a_receive_that_an_end_makes_short_brings_nothing_of_the_header_behind_it() {
    for (mask, kind) in masks_and_kinds() {
        let ram = Ram::new();
        let (mut source, socket) = kind.pair();
        let mut ring = ring(mask, 1);
        ring.set_ram(ram.blocks());
        let slot = attach(&mut ring, Arc::new(socket), kind);
        source.write_all(&[7; 5000]).unwrap();
        thread::sleep(Duration::from_millis(5));
        source.shutdown(Shutdown::Write).unwrap();
        let mut brought = 0;
        let mut ended = false;
        within(&format!("mask '{mask}', {kind:?}"), || {
            while !ended {
                let left = 8192 - brought as u64;
                match kind.away() {
                    Some(truncate) => arm_away(&mut ring, slot, left, truncate, Some(64)),
                    None => {
                        let rest = Run { offset: brought as u64, bytes: left };
                        ring.arm_pages(slot, 0, &[rest], Some(64), 0);
                    }
                }
                ring.wait().unwrap();
                while let Some(completion) = ring.completion() {
                    match (completion.operation, completion.result) {
                        (Operation::Pages(0), Ok(0)) => ended = true,
                        (Operation::Pages(0), Ok(bytes)) => brought += bytes,
                        other => panic!("{other:?}, mask '{mask}', {kind:?}"),
                    }
                }
            }
        });
        assert_eq!(brought, 5000, "mask '{mask}', {kind:?}");
    }
}

#[test]
fn a_hope_that_is_not_met_is_given_up() {
    for mask in MASKS {
        let (mut source, socket) = Kind::Tcp.pair();
        let mut ring = ring(mask, 1);
        let slot = ring.attach(Arc::new(socket), 128);
        // A SYNC packet alone, where a packet with many pages was likely.
        ring.arm_header(slot, 1344, Expected { surely: 0, packet: 513 * 1024 });
        source.write_all(&[5; 1344]).unwrap();
        let mut brought = 0;
        within(&format!("mask '{mask}'"), || {
            while brought < 1344 {
                ring.wait().unwrap();
                while let Some(completion) = ring.completion() {
                    assert_eq!(completion.operation, Operation::Header(slot), "mask '{mask}'");
                    brought += completion.result.unwrap();
                }
                if brought < 1344 && !ring.is_busy(slot) {
                    ring.arm_header(slot, 1344 - brought, Expected::default());
                }
            }
        });
        assert_eq!(ring.headers(slot, 0..100), [5; 100], "mask '{mask}'");
    }
}

#[test]
fn several_packets_are_waited_for_until_somebody_is_in_a_hurry() {
    for mask in MASKS.iter().filter(|mask| features(mask).poll_first) {
        let (mut source, socket) = Kind::Tcp.pair();
        let mut ring = ring(mask, 1);
        let slot = ring.attach(Arc::new(socket), 128);
        let expected = Expected { surely: 0, packet: 1344 };
        let mut came = Vec::new();
        // A hope for one packet, which is met, then one for two.
        for packets in [1, 2, 1] {
            ring.arm_header(slot, HEADERS_BYTES, expected);
            for _ in 0..packets {
                source.write_all(&[5; 1344]).unwrap();
            }
            let began = Instant::now();
            within(&format!("mask '{mask}'"), || {
                while ring.is_busy(slot) {
                    // In the last turn four are hoped for and one comes.
                    if came.len() == 2 {
                        ring.hurry();
                    }
                    ring.wait().unwrap();
                    while let Some(completion) = ring.completion() {
                        came.push(completion.result.unwrap());
                    }
                }
            });
            assert!(began.elapsed() < Duration::from_secs(5), "mask '{mask}'");
        }
        assert_eq!(came, [1344, 2 * 1344, 1344], "mask '{mask}'");
    }
}

#[test]
fn pages_are_waited_for_and_the_header_behind_them_is_not() {
    for mask in MASKS {
        let ram = Ram::new();
        let (mut source, socket) = Kind::Tcp.pair();
        let mut ring = ring(mask, 1);
        ring.set_ram(ram.blocks());
        let slot = ring.attach(Arc::new(socket), 128);
        ring.arm_pages(slot, 0, &[Run { offset: 0, bytes: 8192 }], Some(64), 0);
        let sender = thread::spawn(move || {
            for _ in 0..8 {
                source.write_all(&[9; 1024]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
            source
        });
        let mut brought = 0;
        let mut completions = 0;
        within(&format!("mask '{mask}'"), || {
            while brought < 8192 {
                if !ring.is_busy(slot) {
                    let rest = Run { offset: brought as u64, bytes: 8192 - brought as u64 };
                    ring.arm_pages(slot, 0, &[rest], Some(64), 0);
                }
                ring.wait().unwrap();
                while let Some(completion) = ring.completion() {
                    brought += completion.result.unwrap();
                    completions += 1;
                }
            }
        });
        // No header came, and none was waited for.
        assert_eq!(brought, 8192, "mask '{mask}'");
        if features(mask).poll_first {
            assert_eq!(completions, 1, "mask '{mask}': woken for a part");
        }
        drop(sender.join().unwrap());
    }
}

#[test]
fn after_a_drop_the_kernel_writes_nothing_and_takes_nothing() {
    for (mask, kind) in masks_and_kinds() {
        let ram = Ram::new();
        let wake = Wake::new().unwrap();
        let mut ring = ReaderRing::new(features(mask), CHANNELS, wake.fd()).unwrap();
        ring.set_ram(ram.blocks());
        ring.arm_wake();
        let mut sources = Vec::new();
        for channel in 0..CHANNELS {
            let (mut source, socket) = kind.pair();
            let socket = Arc::new(socket);
            let slot = attach(&mut ring, Arc::clone(&socket), kind);
            let run = Run { offset: channel as u64 * 4096, bytes: 4096 };
            match (channel % 3, kind.away()) {
                (0, _) => ring.arm_header(slot, 100, Expected::default()),
                (_, Some(truncate)) => arm_away(&mut ring, slot, 4096, truncate, Some(100)),
                (1, None) => ring.arm_pages(slot, 0, &[run], Some(100), 0),
                (_, None) => ring.arm_pages(slot, 0, &[run], None, 0),
            }
            if channel % 2 == 1 {
                // A receive under way has taken these already.
                source.write_all(&[1; 50]).unwrap();
            }
            sources.push((source, socket));
        }
        let label = format!("mask '{mask}', {kind:?}");
        within(&label, || {
            // All is submitted with the first wait.
            wake.wake();
            ring.wait().unwrap();
            drop(ring);
        });
        let before = ram.content();
        assert_eq!(ram.users(), 1, "{label}");
        for (source, socket) in &mut sources {
            source.write_all(&[2; 4096]).unwrap();
            let mut bytes = Vec::new();
            source.shutdown(Shutdown::Write).unwrap();
            assert_eq!(Arc::strong_count(socket), 1, "{label}");
            walk::file_of(socket).read_to_end(&mut bytes).unwrap();
            assert!(bytes.ends_with(&[2; 4096]), "{label}: something took bytes after the drop");
        }
        assert!(ram.content() == before, "{label}: RAM written after the drop");
    }
}

#[test]
fn a_drop_ends_whatever_the_kernel_is_at() {
    let seed = landfall_seed::printed();
    let ram = Ram::new();
    for (number, (mask, kind)) in masks_and_kinds().enumerate() {
        let mut random = Rng::with_seed(seed ^ number as u64);
        for case in 0..DROPS {
            let mut ring = ring(mask, 2);
            ring.set_ram(ram.blocks());
            ring.arm_wake();
            let (mut source, socket) = kind.pair();
            let slot = attach(&mut ring, Arc::new(socket), kind);
            match kind.away() {
                Some(truncate) => arm_away(&mut ring, slot, 4096, truncate, Some(100)),
                None => ring.arm_pages(slot, 0, &[Run { offset: 0, bytes: 4096 }], Some(100), 0),
            }
            // Exactly the pages: the header behind them begins to wait about now.
            let bytes = [0, 4095, 4096, 4096, 4096, 4097][random.usize(..6)];
            let early = random.bool();
            let looks = bytes >= 4096 && random.bool();
            if early {
                source.write_all(&vec![1; bytes]).unwrap();
            }
            let pause = Duration::from_micros(random.u64(..60));
            let writer = thread::spawn(move || {
                thread::sleep(pause);
                if !early {
                    // The drop may have closed the other end.
                    let _ = source.write_all(&vec![1; bytes]);
                }
                source
            });
            let label = format!("mask '{mask}', {kind:?}, case {case}, {bytes} bytes");
            within(&label, || {
                if looks {
                    ring.wait().unwrap();
                }
                drop(ring);
            });
            drop(writer.join().unwrap());
        }
    }
}

#[test]
fn every_wake_up_ends_a_wait() {
    for mask in MASKS {
        let wake = Wake::new().unwrap();
        let mut ring = ReaderRing::new(features(mask), 1, wake.fd()).unwrap();
        ring.arm_wake();
        // Before the wait: it ends at once.
        wake.wake();
        within("early", || expect_wake(&mut ring));
        for round in 0..20 {
            let other = wake.clone();
            let waker = thread::spawn(move || {
                thread::sleep(Duration::from_millis(round % 3));
                other.wake();
            });
            within(&format!("mask '{mask}', round {round}"), || expect_wake(&mut ring));
            waker.join().unwrap();
        }
        // Several at once are one.
        (0..5).for_each(|_| wake.wake());
        within("several", || expect_wake(&mut ring));
    }
}

#[test]
fn channels_come_while_pages_of_others_are_on_their_way() {
    let ram = Ram::new();
    let mut ring = ring("", 2);
    ring.set_ram(ram.blocks());
    let (_first, socket) = Kind::Unix.pair();
    let slot = ring.attach(Arc::new(socket), 4);
    ring.arm_pages(slot, 0, &[Run { offset: 0, bytes: 4096 }], None, 0);
    // What a reader does for each channel it is given.
    ring.set_ram(ram.blocks());
    let (_second, socket) = Kind::Unix.pair();
    assert_eq!(ring.attach(Arc::new(socket), 4), 1);
}

#[test]
fn a_mask_is_obeyed() {
    for mask in MASKS {
        let found = features(mask);
        for name in mask.split(',').filter(|name| !name.is_empty()) {
            assert!(!found.names().contains(&name), "mask '{mask}' gives {found}");
        }
        println!("mask '{mask}': {:?}", found.names());
    }
}

fn expect_wake(ring: &mut ReaderRing) {
    ring.wait().unwrap();
    let completion = ring.completion().expect("a completion");
    assert_eq!(completion.operation, Operation::Wake);
    assert_eq!(completion.result.unwrap(), 8);
    assert!(ring.completion().is_none());
    ring.arm_wake();
}

/// What carries the bytes, and how pages are taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unix,
    Tcp,
    /// To staging memory.
    Staged,
    /// Dropped by TCP.
    Dropped,
}

impl Kind {
    /// Both ends; the receiver's does not block, as the door leaves it.
    fn pair(self) -> (Stream, OwnedFd) {
        match self {
            Self::Unix | Self::Staged => Stream::unix(),
            Self::Tcp | Self::Dropped => Stream::tcp(),
        }
    }

    /// Whether pages do not go to RAM, and then whether TCP drops them.
    fn away(self) -> Option<bool> {
        match self {
            Self::Unix | Self::Tcp => None,
            Self::Staged => Some(false),
            Self::Dropped => Some(true),
        }
    }

    /// Whether header bytes may come right behind the pages.
    fn links(self) -> bool {
        self != Self::Dropped
    }
}

fn masks_and_kinds() -> impl Iterator<Item = (&'static str, Kind)> {
    let kinds = [Kind::Unix, Kind::Tcp, Kind::Staged, Kind::Dropped];
    MASKS.into_iter().flat_map(move |mask| kinds.map(|kind| (mask, kind)))
}

fn features(mask: &str) -> RingFeatures {
    RingFeatures::probe_masked(mask).unwrap()
}

fn ring(mask: &str, channels: usize) -> ReaderRing {
    ReaderRing::new(features(mask), channels, Wake::new().unwrap().fd()).unwrap()
}

/// Sends `content` in random cuts, then ends the stream, while `receive` works
/// at the other end.
fn with_stream(
    kind: Kind,
    content: &[u8],
    random: &mut Rng,
    receive: impl FnOnce(OwnedFd) -> Outcome,
) -> Outcome {
    let (source, socket) = kind.pair();
    let cuts = random.fork();
    thread::scope(|scope| {
        scope.spawn(|| send_in_cuts(source, content, cuts));
        receive(socket)
    })
}

/// Fails, rather than hangs, if `work` takes longer than any host needs.
fn within<T>(label: &str, work: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let since = Instant::now();
            if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("hangs for {} s: {label}", since.elapsed().as_secs());
                std::process::abort();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// `LANDFALL_RING_MASK`, so that every feature is missing once, and all are.
const MASKS: [&str; 6] =
    ["", "defer_taskrun", "single_issuer", "coop_taskrun", "poll_first", "all"];
const CASES: u64 = 12;
const DROPS: usize = 150;
const CHANNELS: usize = 24;
const PATIENCE: Duration = Duration::from_secs(30);
