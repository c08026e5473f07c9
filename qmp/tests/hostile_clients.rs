//! Clients that stall, flood and babble. They may lose their connection; nobody else may notice.

mod program;

use std::{
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use landfall_qmp::{MonitorAddress, Server};
use program::{Client, PATIENCE, Program, readable};
use tempfile::TempDir;

/// One monitor for the hostile client and one for a good one.
struct Scene {
    program: Arc<Program>,
    _server: Server,
    hostile: PathBuf,
    good: Client,
    _dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["hostile", "good"].map(|name| dir.path().join(name));
        let addresses = paths.clone().map(|path| -> MonitorAddress {
            format!("unix:{},server=on,wait=off", path.display()).parse().unwrap()
        });
        let (program, _told) = Program::new();
        let handler = Arc::clone(&program);
        let server = Server::start(&addresses, handler, &program.events).unwrap();
        let [hostile, good] = paths;
        Self { program, _server: server, hostile, good: Client::negotiated(&good, true), _dir: dir }
    }

    /// The good client is served, and a new one on the hostile client's monitor as well.
    fn assert_unharmed(mut self) {
        assert_eq!(self.good.ask("{'execute':'echo'}"), "{\"return\": {}}");
        let mut next = Client::negotiated(&self.hostile, true);
        assert_eq!(next.ask("{'execute':'echo'}"), "{\"return\": {}}");
    }
}

/// Writes until the other side takes no more for a while; says how much it took.
fn flood(stream: &UnixStream, bytes: &[u8], bytes_max: usize) -> usize {
    let short = Some(Duration::from_millis(200));
    stream.set_write_timeout(short).unwrap();
    let mut taken = 0;
    while taken < bytes_max {
        match (&*stream).write(bytes) {
            Ok(written) => taken += written,
            Err(_) => break,
        }
    }
    taken
}

#[test]
fn a_client_that_reads_no_replies_stops_being_read() {
    for command in [
        "{'execute':'echo','arguments':{'a':'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'}}",
        "{'exec-oob':'migrate-pause'}",
        "%\n",
    ] {
        let scene = Scene::new();
        let client = Client::negotiated(&scene.hostile, true);
        let commands = command.repeat(50);
        // It would have to hold the replies to all of it.
        let taken = flood(&client.stream, commands.as_bytes(), 64 << 20);
        assert!(taken < 4 << 20, "{command}: {taken}");
        drop(client);
        scene.assert_unharmed();
    }
}

#[test]
fn a_client_that_reads_no_events_is_disconnected_and_nobody_waits_for_it() {
    let mut scene = Scene::new();
    let mut client = Client::negotiated(&scene.hostile, true);
    let data = serde_json::json!({"text": "x".repeat(1000)});
    let mut longest = Duration::ZERO;
    for _ in 0..2000 {
        let begun = Instant::now();
        scene.program.events.emit("FLOOD", Some(data.clone()));
        longest = longest.max(begun.elapsed());
        // The good client keeps up.
        assert!(scene.good.line().contains("FLOOD"));
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    let mut read = 0;
    while client.stream_line_or_cut().is_some() {
        read += 1;
    }
    assert!((1..2000).contains(&read), "{read}");
    scene.assert_unharmed();
}

#[test]
fn a_client_that_reads_a_large_reply_slowly_gets_its_events_behind_it() {
    let mut scene = Scene::new();
    let mut client = Client::negotiated(&scene.hostile, true);
    client.send("{'execute':'large','arguments':{'bytes':3000000}}");
    // It has begun to read, so the whole reply is on its way.
    let mut begin = [0; 12];
    (&client.stream).read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"{\"return\": \"");
    for _ in 0..10 {
        scene.program.events.emit("MIGRATION", None);
    }
    assert_eq!(client.line().len(), 3_000_000 + "\"}".len());
    for _ in 0..10 {
        assert!(client.line().contains("MIGRATION"));
        assert!(scene.good.line().contains("MIGRATION"));
    }
    drop(client);
    scene.assert_unharmed();
}

#[test]
fn a_large_reply_reaches_a_slow_reader_whole() {
    let scene = Scene::new();
    let mut client = Client::negotiated(&scene.hostile, true);
    client.send("{'execute':'large','arguments':{'bytes':3000000}}{'execute':'echo'}");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.line().len(), 3_000_000 + "{\"return\": \"\"}".len());
    assert_eq!(client.line(), "{\"return\": {}}");
    drop(client);
    scene.assert_unharmed();
}

#[test]
fn endless_strings_nesting_and_white_space_are_read_without_growing() {
    for (start, piece, kib) in [
        ("{'execute':'", "aaaaaaaaaaaaaaaa", 65536),
        ("", "[[[[[[[[[[[[[[[[", 8192),
        // Beyond the limit each byte of this is a mistake of its own.
        ("[", "1,1,1,1,1,1,1,1,", 192),
        ("{'a':1", "                ", 65536),
        ("", "0000000000000000", 65536),
    ] {
        let scene = Scene::new();
        let mut client = Client::negotiated(&scene.hostile, false);
        let mut reader = Client::new(client.stream.try_clone().unwrap());
        let drain = std::thread::spawn(move || while reader.stream_line_or_cut().is_some() {});
        client.send(start);
        let before = resident_bytes();
        let pieces = piece.repeat(4096);
        for _ in 0..(kib << 10) / pieces.len() {
            client.send(&pieces);
        }
        let grown = resident_bytes().saturating_sub(before);
        // The other tests of this process grow as well; unbounded would be 64 MiB and more.
        assert!(grown < 40 << 20, "{start}{piece}: {grown}");
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        drop(client);
        drain.join().unwrap();
        scene.assert_unharmed();
    }
}

#[test]
fn descriptors_nobody_asked_for_are_closed() {
    let scene = Scene::new();
    let mut client = Client::negotiated(&scene.hostile, true);
    let before = open_fds();
    let fd = readable("x");
    for _ in 0..100 {
        client.send_fds("{'execute':'echo'}", &[fd.as_fd(); 50]);
        assert_eq!(client.line(), "{\"return\": {}}");
    }
    drop(client);
    drop(fd);
    let deadline = Instant::now() + PATIENCE;
    // Other tests open some meanwhile, though not 5000.
    while open_fds() > before + 1000 {
        assert!(Instant::now() < deadline);
    }
    scene.assert_unharmed();
}

#[test]
fn a_command_is_understood_after_any_garbage() {
    let scene = Scene::new();
    let mut client = Client::negotiated(&scene.hostile, false);
    let mut random = landfall_seed::random();
    for round in 0..300 {
        let mut garbage = Vec::new();
        for _ in 0..40 {
            garbage.push(match random.bool() {
                true => random.choice(*b"{}[]:,'\"\\ \n\xff%a1-.e").unwrap(),
                false => random.u8(..),
            });
        }
        client.send(&garbage);
        client.send(b"\xff\n");
        client.send(format!("{{'execute':'echo','id':'mark {round}'}}"));
        let mark = format!("{{\"return\": {{}}, \"id\": \"mark {round}\"}}");
        while client.line() != mark {}
    }
    drop(client);
    scene.assert_unharmed();
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
