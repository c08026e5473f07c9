//! Over real sockets the bytes are those of the script, and the outcome is the one that the
//! destination gave.

mod naive;

use std::{
    collections::HashMap,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    thread,
    time::{Duration, Instant},
};

use landfall_bench::{
    Plan, SourceConfig, Version,
    script::Stream,
    send::{Cut, End, Fault, Outcome, Progress, SendOptions, Shut, Stop, Target, send},
};
use naive::Wire;

fn config(channels: u8) -> SourceConfig {
    let mut config = SourceConfig::new(42, 6 << 20, channels);
    config.blocks.truncate(1);
    config.devices.devices = 3;
    config
}

fn plan(channels: u8, change: impl FnOnce(&mut SourceConfig)) -> Plan {
    let mut config = config(channels);
    change(&mut config);
    Plan::new(config).expect("possible")
}

/// What the destination does with the return path.
#[derive(Clone, Copy)]
enum Answer {
    /// SHUT with this value once main sent as many bytes as the script has.
    Shut(u32),
    /// SHUT with this value before anything was read.
    ShutAtOnce(u32),
    /// Reads all and closes.
    Close,
    /// These bytes before anything was read, then SHUT 0 at the end.
    Say(&'static [u8]),
}

/// A destination that keeps the bytes of every connection. Main is told by its magic.
struct Destination {
    listener: TcpListener,
}

/// The bytes of main and of each channel by the id in its Init.
type Received = (Vec<u8>, HashMap<u8, Vec<u8>>);

impl Destination {
    fn new() -> (Self, Target) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        (Self { listener }, Target::Tcp { host: "127.0.0.1".to_owned(), port })
    }

    /// The next connection; `None` once the source is `done` and none is left.
    fn accept(&self, done: &AtomicBool) -> Option<TcpStream> {
        self.listener.set_nonblocking(true).expect("told so");
        loop {
            let was_done = done.load(Acquire);
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).expect("told so");
                    return Some(socket);
                }
                Err(_) if was_done => return None,
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Takes every connection and reads each to its end.
    fn receive(&self, done: &AtomicBool, main_bytes: usize, answer: Answer) -> Received {
        let mut readers = Vec::new();
        while let Some(socket) = self.accept(done) {
            readers.push(thread::spawn(move || read_one(socket, main_bytes, answer)));
        }
        let mut main = Vec::new();
        let mut channels = HashMap::new();
        for reader in readers {
            let bytes = reader.join().expect("a reader");
            if bytes.starts_with(b"QEVM") {
                main = bytes;
            } else if bytes.len() > 24 {
                channels.insert(bytes[24], bytes);
            }
        }
        (main, channels)
    }
}

fn read_one(mut socket: TcpStream, main_bytes: usize, answer: Answer) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    if socket.read_exact(&mut bytes).is_err() {
        return Vec::new();
    }
    let is_main = bytes == b"QEVM";
    let shut = |socket: &mut TcpStream, value: u32| {
        let message = [&[0, 1, 0, 4][..], &value.to_be_bytes()].concat();
        socket.write_all(&message).expect("SHUT");
    };
    if is_main {
        match answer {
            Answer::ShutAtOnce(value) => shut(&mut socket, value),
            Answer::Say(words) => socket.write_all(words).expect("words"),
            Answer::Shut(_) | Answer::Close => {}
        }
    }
    let mut piece = vec![0; 64 * 1024];
    loop {
        if is_main && bytes.len() == main_bytes {
            match answer {
                Answer::Shut(value) => shut(&mut socket, value),
                Answer::Say(_) => shut(&mut socket, 0),
                Answer::Close => return bytes,
                Answer::ShutAtOnce(_) => {}
            }
        }
        match socket.read(&mut piece) {
            Ok(taken) if taken > 0 => bytes.extend_from_slice(&piece[..taken]),
            _ => return bytes,
        }
    }
}

fn run(plan: &Plan, answer: Answer, options: &SendOptions) -> (Outcome, Received) {
    let (destination, target) = Destination::new();
    let done = AtomicBool::new(false);
    let main_bytes = plan.sent().main_bytes as usize;
    thread::scope(|scope| {
        let receiving = scope.spawn(|| destination.receive(&done, main_bytes, answer));
        let outcome = send(plan, &target, options, &Progress::new());
        done.store(true, Release);
        (outcome, receiving.join().expect("the destination"))
    })
}

#[test]
fn every_stream_carries_exactly_the_script() {
    for (channels, threads) in [(0, None), (1, None), (4, None), (9, Some(2)), (255, None)] {
        let plan = plan(channels, |_| {});
        let options = SendOptions { threads, ..SendOptions::default() };
        let (outcome, (main, by_id)) = run(&plan, Answer::Shut(0), &options);
        assert_eq!(outcome.end, End::Completed, "{channels} channels");
        assert_eq!(outcome.replies.shut, Some(Shut { value: 0, early: false }));
        let wire = Wire::of(&plan);
        assert_eq!(outcome.bytes, plan.sent().bytes());
        assert!(main == wire.main, "main differs");
        assert_eq!(by_id.len(), usize::from(channels));
        for (id, bytes) in by_id {
            assert!(bytes == wire.channels[usize::from(id)], "channel {id} differs");
        }
    }
}

#[test]
fn unix_sockets_carry_it_as_well() {
    let plan = plan(2, |config| config.return_path = false);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bound");
    let (outcome, total) = thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let read = |_| {
                let (mut socket, _) = listener.accept().expect("a connection");
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    socket.read_to_end(&mut bytes).expect("read");
                    bytes.len()
                })
            };
            let readers: Vec<_> = (0..3).map(read).collect();
            readers.into_iter().map(|reader| reader.join().expect("a reader")).sum::<usize>()
        });
        let target = Target::Unix(path);
        let outcome = send(&plan, &target, &SendOptions::default(), &Progress::new());
        (outcome, receiving.join().expect("the destination"))
    });
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(total as u64, plan.sent().bytes());
}

#[test]
fn the_destination_decides_where_there_is_a_return_path() {
    let plan = plan(2, |_| {});
    let outcome = |answer| run(&plan, answer, &SendOptions::default()).0;
    assert_eq!(outcome(Answer::Shut(7)).end, End::Failed { shut: 7 });
    assert_eq!(outcome(Answer::Close).end, End::Unanswered);
    let pong = outcome(Answer::Say(&[0, 2, 0, 4, 0, 0, 0, 1]));
    assert_eq!((pong.end, pong.replies.pongs), (End::Completed, vec![1]));
    let bad = outcome(Answer::Say(&[0, 99, 0, 0]));
    assert!(matches!(bad.end, End::BadReply { .. }), "{bad:?}");
}

#[test]
fn an_early_shut_is_seen_as_early() {
    let new = plan(1, |_| {});
    // Slow enough that the answer is there before the end.
    let options = SendOptions { bytes_per_second: Some(16 << 20), ..SendOptions::default() };
    let (outcome, _) = run(&new, Answer::ShutAtOnce(0), &options);
    assert_eq!(outcome.end, End::Completed, "the guest would be lost");
    assert_eq!(outcome.replies.shut, Some(Shut { value: 0, early: true }));
    let old = plan(1, |config| {
        config.speak_as(Version::new(7, 2), "pc-q35-7.2").expect("a version");
    });
    let (outcome, _) = run(&old, Answer::ShutAtOnce(3), &options);
    assert_eq!(outcome.end, End::Failed { shut: 3 });
}

#[test]
fn switchover_ack_is_awaited_and_counted() {
    let ack: &[u8] = &[0, 7, 0, 0];
    let two: &[u8] = &[0, 7, 0, 0, 0, 7, 0, 0];
    let form = |binary: (u16, u16), machine: &'static str| {
        plan(1, |config| {
            config.switchover_ack = true;
            config.speak_as(Version::new(binary.0, binary.1), machine).expect("a version");
        })
    };
    let end = |plan: &Plan, say| run(plan, Answer::Say(say), &SendOptions::default()).0.end;
    assert_eq!(end(&form((10, 0), "pc-q35-10.0"), ack), End::Completed);
    assert_eq!(end(&form((10, 0), "pc-q35-10.0"), two), End::Completed);
    assert_eq!(end(&form((11, 1), "pc-q35-11.0"), ack), End::Completed);
    assert!(matches!(end(&form((11, 1), "pc-q35-11.0"), two), End::BadReply { .. }));
    assert!(matches!(end(&form((11, 1), "pc-q35-11.1"), ack), End::BadReply { .. }));
    assert_eq!(end(&form((11, 1), "pc-q35-11.1"), &[]), End::Completed);
    let reply_timeout = Some(Duration::from_millis(50));
    let options = SendOptions { reply_timeout, ..SendOptions::default() };
    let (outcome, _) = run(&form((10, 0), "pc-q35-10.0"), Answer::Say(&[]), &options);
    assert_eq!(outcome.end, End::TimedOut { awaited: "SWITCHOVER_ACK" });
}

#[test]
fn a_killed_source_has_written_exactly_the_bytes_it_was_given() {
    let plan = plan(3, |_| {});
    for after_bytes in [0, 1, 63, 1000, 1 << 20, (2 << 20) + 12345] {
        let faults = vec![Fault::Kill { after_bytes }];
        let (outcome, (main, channels)) =
            run(&plan, Answer::Close, &SendOptions { faults, ..SendOptions::default() });
        assert_eq!((outcome.end, outcome.bytes), (End::Killed, after_bytes));
        let arrived = main.len() + channels.values().map(Vec::len).sum::<usize>();
        assert!(arrived as u64 <= after_bytes, "{arrived} of {after_bytes}");
    }
}

#[test]
fn one_stream_can_end_by_itself() {
    let plan = plan(3, |config| config.return_path = false);
    let whole = Wire::of(&plan);
    for how in [Cut::Close, Cut::Reset, Cut::Silence] {
        let stream = Stream::Channel(1);
        let faults = vec![Fault::Cut { stream, after_bytes: 5000, how }];
        let options = SendOptions { faults, ..SendOptions::default() };
        let (outcome, (main, channels)) = run(&plan, Answer::Close, &options);
        assert_eq!(outcome.end, End::Completed, "{how:?}");
        assert!(main == whole.main);
        assert!(channels[&0] == whole.channels[0] && channels[&2] == whole.channels[2]);
        // A reset may overtake what was sent before it.
        let cut = channels.get(&1).map_or(0, Vec::len);
        assert!(if how == Cut::Reset { cut <= 5000 } else { cut == 5000 }, "{how:?}: {cut}");
    }
}

#[test]
fn a_skipped_sync_is_missing_and_nothing_else() {
    let plan = plan(2, |_| {});
    let faults = vec![Fault::SkipSync { channel: 1, sync: 1 }];
    let options = SendOptions { faults, ..SendOptions::default() };
    let (_, (_, channels)) = run(&plan, Answer::Shut(0), &options);
    let syncs = |id: u8| {
        let (_, _, packets) = naive::channel(&channels[&id], 4096);
        packets.iter().filter(|packet| packet.sync).count()
    };
    assert_eq!((syncs(0), syncs(1)), (4, 3));
}

#[test]
fn a_channel_can_lie_about_itself() {
    let plan = plan(2, |_| {});
    let uuid = [9; 16];
    let faults =
        vec![Fault::WrongId { channel: 1, id: 200 }, Fault::WrongUuid { channel: 0, uuid }];
    let options = SendOptions { faults, ..SendOptions::default() };
    let (_, (_, channels)) = run(&plan, Answer::Shut(0), &options);
    assert_eq!(channels[&0][8..24], uuid);
    assert!(channels.contains_key(&200));
}

#[test]
fn stop_ends_a_run_that_nobody_reads() {
    let plan = plan(2, |config| config.blocks[0].bytes = 64 << 20);
    let (destination, target) = Destination::new();
    let options = SendOptions { stop: Stop::new(), ..SendOptions::default() };
    let stop = options.stop.clone();
    let progress = Progress::new();
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(&plan, &target, &options, &progress));
        let sockets: Vec<_> =
            (0..3).map(|_| destination.listener.accept().expect("a connection")).collect();
        let start = Instant::now();
        while progress.bytes() < 1 << 20 {
            assert!(start.elapsed() < Duration::from_secs(10), "nothing is written");
            thread::sleep(Duration::from_millis(5));
        }
        stop.stop();
        assert_eq!(sending.join().expect("sent").end, End::Stopped);
        drop(sockets);
    });
}

#[test]
fn a_destination_that_goes_away_is_noticed() {
    let plan = plan(2, |config| config.blocks[0].bytes = 64 << 20);
    let (destination, target) = Destination::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| while destination.accept(&done).is_some() {});
        let outcome = send(&plan, &target, &SendOptions::default(), &Progress::new());
        done.store(true, Release);
        let lost = matches!(outcome.end, End::ConnectionLost { .. } | End::Unanswered);
        assert!(lost, "{outcome:?}");
    });
}

#[test]
fn nobody_listening_is_said_of_main() {
    let (destination, target) = Destination::new();
    drop(destination);
    let outcome = send(&plan(1, |_| {}), &target, &SendOptions::default(), &Progress::new());
    let main = matches!(outcome.end, End::ConnectionLost { stream: Stream::Main, .. });
    assert!(main, "{outcome:?}");
}

#[test]
fn the_pace_is_kept() {
    let plan = plan(2, |config| config.zero_share = 0.0);
    let bytes = plan.sent().bytes();
    let options = SendOptions { bytes_per_second: Some(bytes * 4), ..SendOptions::default() };
    let (outcome, _) = run(&plan, Answer::Shut(0), &options);
    assert!(outcome.elapsed >= Duration::from_millis(200), "{:?}", outcome.elapsed);
    assert_eq!(outcome.end, End::Completed);
}

#[test]
fn a_channel_may_come_late_or_never() {
    let plan = plan(2, |config| {
        config.speak_as(Version::new(7, 2), "pc-q35-7.2").expect("a version");
    });
    let whole = Wire::of(&plan);
    let with = |fault| {
        let options = SendOptions { faults: vec![fault], ..SendOptions::default() };
        run(&plan, Answer::Shut(0), &options)
    };
    let delay = Duration::from_millis(60);
    let (outcome, (_, channels)) = with(Fault::LateConnect { channel: 1, delay });
    assert!(outcome.elapsed >= delay && channels[&1] == whole.channels[1]);
    let (outcome, (main, channels)) = with(Fault::NeverConnect { channel: 1 });
    assert_eq!(outcome.end, End::Completed);
    assert!(main == whole.main && !channels.contains_key(&1));
    let (outcome, (main, _)) = with(Fault::KillAtStep { step: 9 });
    assert_eq!(outcome.end, End::Killed);
    assert!(whole.main.starts_with(&main) && main.len() < whole.main.len());
}

#[test]
fn a_slow_stream_still_carries_every_byte() {
    let plan = plan(2, |_| {});
    let whole = Wire::of(&plan);
    let after_bytes = whole.channels[1].len() as u64 - 1340;
    let how = Cut::Slow { bytes: 100, pause: Duration::from_millis(2) };
    let fault = Fault::Cut { stream: Stream::Channel(1), after_bytes, how };
    let options = SendOptions { faults: vec![fault], ..SendOptions::default() };
    let (outcome, (_, channels)) = run(&plan, Answer::Shut(0), &options);
    assert_eq!(outcome.end, End::Completed);
    assert!(channels[&1] == whole.channels[1]);
    assert!(outcome.elapsed >= Duration::from_millis(20), "{:?}", outcome.elapsed);
}

#[test]
fn a_file_can_stand_for_the_guests_memory() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let image: Vec<u8> = (0..6 << 20).map(|at: u32| (at / 4096 % 7 * (at % 251)) as u8).collect();
    file.write_all(&image).expect("written");
    let plan = plan(2, |config| config.images = vec![file.path().to_owned()]);
    let wire = Wire::of(&plan);
    let arrived = naive::receive(&plan, &wire, |_| 0);
    assert!(arrived.ram.blocks[0].1 == image);
    assert!(plan.sent().pages.zero > 0, "every seventh page is zero");
    let (outcome, (_, channels)) = run(&plan, Answer::Shut(0), &SendOptions::default());
    assert_eq!(outcome.end, End::Completed);
    assert!(channels[&1] == wire.channels[1]);
}
