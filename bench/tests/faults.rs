//! Synthetic sources that die, dawdle and lie, and a crowd at the door, against
//! a receiver over real sockets.

#[path = "faults_parts/host.rs"]
mod host;

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use landfall_bench::Version;
use landfall_bench::form::VmdescForm;
use landfall_bench::script::Stream;
use landfall_bench::send::{Cut, End, Fault, Progress};
use landfall_receiver::error::Family::Misbehaved;

use host::{failed, is_whole, listen, plan, receiver, run};

/// Where in a run of so many bytes a source dies.
fn twenty_points(inits: u64, all: u64) -> Vec<u64> {
    let mut points = vec![10, inits - 1, inits + 6, inits + 40, inits + 90];
    points.extend((1..10).map(|tenth| all * tenth / 10));
    // The last bytes are the description, before them the device state.
    points.extend([40_000, 20_000, 6_000, 600, 7, 1].map(|before| all - before));
    assert_eq!(points.len(), 20);
    points
}

#[test]
fn a_source_killed_at_twenty_points_of_a_run_harms_nobody_after_it() {
    let receiver = receiver(Duration::from_secs(20));
    let forms = [(Version::new(10, 0), "pc-q35-10.0"), (Version::new(7, 2), "pc-q35-7.2")];
    for (binary, machine) in forms {
        let plan = plan(12, CHANNELS, |config| {
            config.speak_as(binary, machine).expect("a machine");
        });
        let (migration, port) = listen(&receiver, Some(CHANNELS));
        let whole = run(&plan, port, None, vec![], &Progress::new());
        is_whole(&plan, &migration, &whole, machine);
        drop(migration);
        for after_bytes in twenty_points(u64::from(CHANNELS) * 64, whole.bytes) {
            let label = format!("{machine}, killed after {after_bytes} of {} bytes", whole.bytes);
            let (migration, port) = listen(&receiver, Some(CHANNELS));
            let progress = Progress::new();
            let killed = run(&plan, port, None, vec![Fault::Kill { after_bytes }], &progress);
            assert_eq!(killed.end, End::Killed, "{label}");
            if progress.stream_bytes(Stream::Main) >= 4 {
                let error = failed(&migration, &label);
                assert_eq!(error.family, Misbehaved, "{label}: {error}");
                drop(migration);
                let (next, port) = listen(&receiver, Some(CHANNELS));
                let outcome = run(&plan, port, None, vec![], &Progress::new());
                is_whole(&plan, &next, &outcome, &format!("the run after {label}"));
            } else {
                // There was no migration yet that could fail: the next source's it is, whatever
                // the dead one left at the door with the same UUID.
                let outcome = run(&plan, port, None, vec![], &Progress::new());
                is_whole(&plan, &migration, &outcome, &label);
            }
        }
    }
}

#[test]
fn channels_that_end_dawdle_or_lie_are_told_apart() {
    let plan = plan(4, CHANNELS, |config| config.uuid = [7; 16]);
    let receiver = receiver(STALL);
    let (migration, port) = listen(&receiver, Some(CHANNELS));
    let progress = Progress::new();
    let whole = run(&plan, port, None, vec![], &progress);
    is_whole(&plan, &migration, &whole, "no fault");
    drop(migration);
    let one = Stream::Channel(1);
    let of_one = progress.stream_bytes(one);
    let cut = |after_bytes: u64, how: Cut| vec![Fault::Cut { stream: one, after_bytes, how }];
    let late = Duration::from_millis(400);
    let by_the_second = Cut::Slow { bytes: 1, pause: Duration::from_secs(1) };
    for (what, faults, wanted) in [
        ("closes in a packet", cut(of_one / 2, Cut::Close), Fate::Fails("channel 1")),
        ("closes before its last SYNC", cut(of_one - 1344, Cut::Close), Fate::Fails("channel 1")),
        // A reset takes back what nobody has read yet: its Init too where all threads are slow.
        ("is reset", cut(of_one / 2, Cut::Reset), Fate::Fails("channel")),
        ("is silent for ever", cut(of_one / 2, Cut::Silence), Fate::Fails("channel")),
        ("gives a byte a second at the end", cut(of_one - 5, by_the_second), Fate::Completes),
        ("comes late", vec![Fault::LateConnect { channel: 1, delay: late }], Fate::Completes),
        // This source says nothing on main before it has all its channels.
        ("never comes", vec![Fault::NeverConnect { channel: 1 }], Fate::NeverBegins),
        ("id too large", vec![Fault::WrongId { channel: 1, id: 2 }], Fate::Fails("has id 2")),
        ("another's id", vec![Fault::WrongId { channel: 1, id: 0 }], Fate::Fails("have id 0")),
        (
            "another guest's",
            vec![Fault::WrongUuid { channel: 1, uuid: [9; 16] }],
            Fate::Fails("multifd channels connected after"),
        ),
    ] {
        let (migration, port) = listen(&receiver, Some(CHANNELS));
        let progress = Progress::new();
        thread::scope(|scope| {
            let sending = scope.spawn(|| run(&plan, port, None, faults, &progress));
            if let Fate::Fails(wanted) = wanted {
                let error = failed(&migration, what);
                assert_eq!(error.family, Misbehaved, "{what}: {error}");
                assert!(error.text.contains(wanted), "{what}: '{wanted}' is not in: {error}");
            }
            let mut outcome = sending.join().expect("the source");
            if wanted == Fate::NeverBegins {
                assert!(migration.ended().is_none(), "{what}: nothing had begun");
                wait_until(what, || migration.run.arrivals().waiting().count() == 0);
                outcome = run(&plan, port, None, vec![], &Progress::new());
            }
            match wanted {
                Fate::Fails(_) => assert_ne!(outcome.end, End::Completed, "{what}"),
                _ => is_whole(&plan, &migration, &outcome, what),
            }
        });
    }
}

/// What becomes of a run with a fault.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// It fails with this in its text.
    Fails(&'static str),
    Completes,
    /// Whoever comes next has it.
    NeverBegins,
}

#[test]
fn a_second_source_during_a_run_is_refused_and_the_first_completes() {
    let receiver = receiver(Duration::from_secs(20));
    for second_uuid in [[7; 16], [9; 16]] {
        let first = plan(8, CHANNELS, |config| config.uuid = [7; 16]);
        let second = plan(8, CHANNELS, |config| config.uuid = second_uuid);
        let (migration, port) = listen(&receiver, Some(CHANNELS));
        let progress = Progress::new();
        thread::scope(|scope| {
            let sending = scope.spawn(|| run(&first, port, Some(8 << 20), vec![], &progress));
            wait_until("pages flow", || migration.run.sync().is_some());
            let refused = run(&second, port, None, vec![], &Progress::new());
            assert!(!matches!(refused.end, End::Completed), "{:?}", refused.end);
            assert_eq!(refused.replies.shut, None, "a second source was told that it is done");
            assert!(migration.ended().is_none(), "the first had ended by then");
            let outcome = sending.join().expect("the source");
            is_whole(&first, &migration, &outcome, "beside a second source");
        });
    }
}

#[test]
fn forged_ends_inside_the_device_state_end_nothing() {
    let receiver = receiver(Duration::from_secs(20));
    for footers in [true, false] {
        let plan = plan(4, CHANNELS, |config| {
            config.devices.forged_tails = 52;
            config.form.footers = footers;
        });
        let (migration, port) = listen(&receiver, Some(CHANNELS));
        let outcome = run(&plan, port, None, vec![], &Progress::new());
        is_whole(&plan, &migration, &outcome, "forged ends");
        let state = &migration.wait().received.device_state;
        assert_eq!(state.vmdesc, plan.vmdesc().expect("it has one").as_bytes());
        assert_eq!(state.sections.len(), 6 + 3, "footers {footers}");
    }
}

#[test]
fn silence_ends_a_source_without_a_description() {
    let receiver = receiver(Duration::from_secs(20));
    for (channels, machine) in [(0, "pc-q35-10.0"), (CHANNELS, "pc-q35-7.2")] {
        let plan = plan(4, channels, |config| {
            config.speak_as(Version::of_machine(machine).expect("one"), machine).expect("one");
            config.form.vmdesc = VmdescForm::Absent;
        });
        let (migration, port) = listen(&receiver, Some(channels));
        let since = Instant::now();
        let outcome = run(&plan, port, None, vec![], &Progress::new());
        is_whole(&plan, &migration, &outcome, machine);
        assert!(since.elapsed() > Duration::from_secs(2), "{machine}: {:?}", since.elapsed());
    }
}

#[test]
fn ten_thousand_strays_change_neither_the_time_nor_the_result_of_a_run() {
    // A busy host may need longer to make so many: then the run is slower.
    let connected = [16, 8, 4].map(|mib| mib << 20).into_iter().map(among_strays);
    assert!(
        connected.into_iter().any(|connected| connected >= STRAYS),
        "strays had not the time to connect"
    );
}

/// A run at `rate` bytes a second, alone and among strays; returns how many of
/// these there were.
fn among_strays(rate: u64) -> u64 {
    let receiver = receiver(Duration::from_secs(20));
    let plan = plan(64, CHANNELS, |config| config.uuid = [7; 16]);
    let rate = Some(rate);
    let (migration, port) = listen(&receiver, Some(CHANNELS));
    let alone = run(&plan, port, rate, vec![], &Progress::new());
    is_whole(&plan, &migration, &alone, "alone");
    drop(migration);

    let (migration, port) = listen(&receiver, Some(CHANNELS));
    let (over, connected) = (AtomicBool::new(false), AtomicU64::new(0));
    let among = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // The first main stream to come is the run's, whoever sends it.
                wait_until("main comes", || migration.run.arrivals().has_main());
                crowd(port, &over, &connected);
            });
        }
        let among = run(&plan, port, rate, vec![], &Progress::new());
        over.store(true, Relaxed);
        among
    });
    is_whole(&plan, &migration, &among, "among strays");
    let (strays, connected) = (migration.run.strays.load(Relaxed), connected.load(Relaxed));
    println!(
        "alone {:?}, among {connected} strays {:?}, {strays} of them counted",
        alone.elapsed, among.elapsed
    );
    // Those that came after the last look at the door go unseen.
    assert!(strays >= connected * 9 / 10, "only {strays} of {connected} strays were counted");
    let limit = alone.elapsed.mul_f64(1.2) + Duration::from_millis(500);
    assert!(among.elapsed <= limit, "{:?} alone, {:?} among strays", alone.elapsed, among.elapsed);
    connected
}

/// Strays of every kind, one after the other, until it is `over` or there have been enough.
fn crowd(port: u16, over: &AtomicBool, connected: &AtomicU64) {
    let mut init = [&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1][..], &[9; 16], &[3]].concat();
    init.resize(64, 0);
    let kinds: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: vm\r\n\r\n",
        &init[..32],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
        &init,
        b"QEVM\0\0\0\x03",
    ];
    // Whoever stays connected.
    let mut silent = VecDeque::new();
    for kind in kinds.into_iter().cycle() {
        if over.load(Relaxed) || connected.load(Relaxed) >= STRAYS {
            return;
        }
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        // It may have been refused already.
        let _ = socket.write_all(kind);
        connected.fetch_add(1, Relaxed);
        silent.push_back(socket);
        if silent.len() > 100 {
            silent.pop_front();
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: it does not come to that");
        thread::sleep(Duration::from_millis(1));
    }
}

const CHANNELS: u8 = 2;
const STRAYS: u64 = 10_000;
/// More than the pauses that are legal here.
const STALL: Duration = Duration::from_millis(2500);
