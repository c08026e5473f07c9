//! Recordings made by hand, replayed to destinations that do not do what the recorded one did; and
//! migrations that do not reach their end while they are recorded.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use landfall_bench::{
    recording::{
        Recording,
        order::{Entry, Event},
        record::{Cut, RecordOptions, Recorded, record},
        replay::{ReplayOptions, Replayed, replay},
    },
    send::{Stop, Target},
};
use landfall_receiver::listen::{Address, FdSets, Listeners};
use serde_json::json;

/// Writes the recording of what `events` say, a millisecond between two, into `directory`.
fn write_recording(directory: &Path, events: &[(u32, Event)]) {
    let channels = 1 + events.iter().map(|(channel, _)| *channel).max().expect("events") as usize;
    let mut sums = vec![(0, 0); channels];
    let mut order = Vec::new();
    for (at_ms, &(channel, event)) in (0..).zip(events) {
        order.extend(Entry { at_ns: at_ms * 1_000_000, channel, event }.encode());
        let (data, replies) = &mut sums[channel as usize];
        match event {
            Event::Data { bytes } => *data += bytes,
            Event::Reply { bytes } => *replies += bytes,
            _ => {}
        }
    }
    fs::write(directory.join("order"), order).expect("a file");
    for (index, &(data, replies)) in sums.iter().enumerate() {
        for (name, bytes) in [("data", data), ("replies", replies)] {
            let path = directory.join(format!("channel-{index:03}.{name}"));
            fs::write(path, vec![7; bytes as usize]).expect("a file");
        }
    }
    let channels: Vec<_> = sums
        .iter()
        .map(|(data, replies)| json!({"kind": "other", "bytes": data, "reply-bytes": replies}))
        .collect();
    let description = json!({"format": 1, "complete": true, "channels": channels});
    fs::write(directory.join("recording.json"), description.to_string()).expect("a file");
}

/// Replays what `events` say to a destination that does `take` with each connection; panics if
/// that has no end.
fn replayed(
    events: &[(u32, Event)],
    paced: bool,
    take: fn(usize, TcpStream) -> io::Result<()>,
) -> Replayed {
    let directory = tempfile::tempdir().expect("a directory");
    write_recording(directory.path(), events);
    let recording = Recording::open(directory.path()).expect("a recording");
    let connections = recording.channels().len();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
    let taker = thread::spawn(move || {
        let takers: Vec<JoinHandle<_>> = (0..connections)
            .map(|index| {
                let stream = listener.accept().expect("a connection").0;
                thread::spawn(move || take(index, stream))
            })
            .collect();
        for taker in takers {
            // A connection that was reset has ended too.
            let _ = taker.join().expect("a taker does not panic");
        }
    });
    let stop = Stop::new();
    let options =
        ReplayOptions { paced, reply_timeout: Duration::from_millis(500), stop: stop.clone() };
    let (tell, told) = mpsc::channel();
    let replayed = thread::scope(|scope| {
        scope.spawn(|| tell.send(replay(&recording, &target, &options)));
        let replayed = told.recv_timeout(END_MAX);
        stop.stop();
        replayed
    });
    let replayed = replayed.expect("the replay ends").expect("it is no failure of the replay");
    // In place of those that the replay has not opened.
    for _ in 0..connections {
        drop(TcpStream::connect(("127.0.0.1", port)));
    }
    taker.join().expect("the destination ends");
    replayed
}

/// Everything until the source sends no more.
fn drain(stream: &mut TcpStream) -> io::Result<u64> {
    io::copy(stream, &mut io::sink())
}

const OPENED: Event = Event::Opened;
const END: Event = Event::SourceClosed;

const fn data(bytes: u64) -> Event {
    Event::Data { bytes }
}

#[test]
fn a_connection_that_the_destination_closes_early_keeps_no_other_back() {
    let mut events = vec![(0, OPENED), (1, OPENED), (2, OPENED)];
    for _ in 0..20 {
        events.extend([(0, data(1 << 20)), (1, data(1 << 20)), (2, data(1 << 10))]);
    }
    events.extend([(0, END), (1, END), (2, END)]);
    for paced in [false, true] {
        let replayed = replayed(&events, paced, |index, mut stream| {
            if index == 1 {
                stream.read_exact(&mut [0; 100])
            } else {
                drain(&mut stream).map(|bytes| assert!(bytes == 20 << [20, 0, 10][index]))
            }
        });
        assert_eq!(replayed.cut, Some(1), "paced: {paced}");
    }
}

#[test]
fn a_cut_replay_ends_though_the_destination_leaves_its_other_connections_open() {
    let reply = Event::Reply { bytes: 8 };
    // The destination closes connection 1, answers nothing on 0, and takes nothing of 2.
    let events = [
        (0, OPENED),
        (0, data(100)),
        (1, OPENED),
        (1, data(32 << 20)),
        (2, OPENED),
        (2, data(32 << 20)),
        (0, reply),
        (0, data(100)),
        (3, OPENED),
        (3, data(100)),
    ];
    let take = |index, mut stream: TcpStream| {
        match index {
            0 => drop(drain(&mut stream)?),
            1 => {}
            // Until the other end is gone.
            _ => {
                while stream.write_all(&[0]).is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        for paced in [false, true] {
            scope.spawn(move || {
                assert_eq!(replayed(&events, paced, take).cut, Some(1), "paced: {paced}");
            });
        }
    });
}

#[test]
fn the_time_of_sending_does_not_count_how_long_the_destination_takes_to_close() {
    let events = [(0, OPENED), (0, data(1 << 20)), (0, END)];
    let begin = Instant::now();
    let replayed = replayed(&events, false, |_, mut stream| {
        drain(&mut stream)?;
        thread::sleep(Duration::from_secs(2));
        Ok(())
    });
    let all = begin.elapsed();
    assert!(replayed.elapsed + Duration::from_millis(1900) < all, "{replayed:?} of {all:?}");
}

#[test]
fn a_paced_replay_says_how_late_a_slow_destination_made_it() {
    let events = [(0, OPENED), (0, data(32 << 20)), (0, data(1 << 10)), (0, END)];
    let late = replayed(&events, true, |_, mut stream| {
        thread::sleep(Duration::from_millis(500));
        drain(&mut stream).map(drop)
    });
    let late = late.late.expect("it was paced");
    // What a busy host adds is the replay's own.
    let by_others = late.max - late.own_max;
    assert!(by_others >= Duration::from_millis(300), "{late:?}");
    assert!(late.end >= late.max, "{late:?}");
}

/// Records what `migrate` does as the source and `take` as the destination, one connection each.
fn recorded(
    directory: &Path,
    take: impl FnOnce(TcpStream) + Send,
    migrate: impl FnOnce(TcpStream),
) -> Recorded {
    let sink = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = sink.local_addr().expect("an address").port();
    let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
    let address = Address::parse("tcp:127.0.0.1:0").expect("an address");
    let listeners = Listeners::bind(&[address], &mut |_| None, &FdSets::default()).expect("a port");
    let address = listeners.inet_addresses()[0];
    let options = RecordOptions { max_bytes: 64 << 20, stop: Stop::new() };
    thread::scope(|scope| {
        scope.spawn(|| take(sink.accept().expect("the recorder connects").0));
        let recorder = scope.spawn(|| record(listeners, &target, directory, &options));
        migrate(TcpStream::connect(address).expect("it listens"));
        recorder.join().expect("the recorder does not panic").expect("a recording")
    })
}

/// What main begins with.
const HEADER: &[u8] = b"QEVM\0\0\0\x03";

#[test]
fn a_migration_that_both_ends_finish_is_recorded_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let recorded = recorded(
        directory.path(),
        |mut stream| {
            let _ = drain(&mut stream).expect("all of it");
            stream.write_all(&[0; 8]).expect("a source that listens");
        },
        |mut stream| {
            stream.write_all(HEADER).expect("a recorder");
            stream.shutdown(Shutdown::Write).expect("a connection");
            assert_eq!(drain(&mut stream).expect("a reply"), 8);
        },
    );
    assert_eq!((recorded.complete, recorded.cut), (true, None));
    assert!(Recording::open(directory.path()).expect("a recording").is_complete());
}

#[test]
fn a_migration_that_one_end_leaves_is_recorded_as_far_as_it_went() {
    let wait_for_end = |mut stream: TcpStream| drop(drain(&mut stream));
    // What the destination had not read yet is lost, and it says so.
    let reset = recorded_cut(
        |mut stream| stream.read_exact(&mut [0; 4]).expect("a beginning"),
        |mut stream| {
            let piece = vec![7; 1 << 20];
            stream.write_all(HEADER).expect("a recorder");
            while stream.write_all(&piece).is_ok() {}
        },
    );
    assert_eq!(reset, Cut::Destination { channel: 0 });
    // It has read all that came, closes, and one more piece comes.
    let closed = recorded_cut(
        |mut stream| stream.read_exact(&mut [0; HEADER.len()]).expect("a beginning"),
        |mut stream| {
            stream.write_all(HEADER).expect("a recorder");
            assert_eq!(drain(&mut stream).expect("no error"), 0);
            stream.write_all(b"more").expect("a recorder");
        },
    );
    assert_eq!(closed, Cut::Destination { channel: 0 });
    // A source that has not read what it was answered.
    let source = recorded_cut(
        |mut stream| {
            stream.write_all(&[0; 8]).expect("a recorder");
            wait_for_end(stream);
        },
        |mut stream| {
            stream.write_all(HEADER).expect("a recorder");
            assert_eq!(stream.peek(&mut [0]).expect("an answer"), 1);
        },
    );
    assert_eq!(source, Cut::Source { channel: 0 });
}

fn recorded_cut(take: impl FnOnce(TcpStream) + Send, migrate: impl FnOnce(TcpStream)) -> Cut {
    let directory = tempfile::tempdir().expect("a directory");
    let recorded = recorded(directory.path(), take, migrate);
    assert!(!recorded.complete);
    assert!(!Recording::open(directory.path()).expect("a recording").is_complete());
    recorded.cut.expect("it was cut")
}

/// What ends later has no end.
const END_MAX: Duration = Duration::from_secs(30);
