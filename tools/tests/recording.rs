//! Recordings as a person makes them: a proxy between a source and a destination, and what it kept
//! sent again.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall");

/// A process that says on stderr where it listens.
struct Listening {
    child: Child,
    log: BufReader<ChildStderr>,
    uri: String,
}

impl Listening {
    fn start(arguments: &[&str], before: &str) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("landfall starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let uri = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("text") > 0, "it listens");
            if let Some((_, rest)) = line.split_once(before) {
                break rest.split([';', ',', ' ']).next().expect("a place").trim().to_owned();
            }
        };
        Self { child, log, uri }
    }

    fn receiver(directory: &Path) -> Self {
        let dump = directory.to_str().expect("text");
        Self::start(&["receive", "tcp:127.0.0.1:0", "--dump", dump], "listening on ")
    }

    fn recorder(to: &str, directory: &Path, more: &[&str]) -> Self {
        let directory = directory.to_str().expect("text");
        let fixed = ["record", "tcp:127.0.0.1:0", "--to", to, directory];
        Self::start(&[&fixed[..], more].concat(), "what comes to ")
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.log.read_to_string(&mut said).expect("text");
        self.child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
        (self.child.wait().expect("it ends").code(), said)
    }
}

fn landfall(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("landfall starts")
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].concat().iter().map(|&byte| char::from(byte)).collect()
}

/// Records a migration of the synthetic source into landfall.
fn recorded(directory: &Path, channels: &str) {
    let received = directory.join("received");
    let receiver = Listening::receiver(&received);
    let recorder = Listening::recorder(&receiver.uri, &directory.join("recording"), &[]);
    let arguments = ["--ram", "40M", "--rounds", "3", "--multifd", channels];
    let sent = landfall(&[&["send", &recorder.uri][..], &arguments].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    let (code, text) = recorder.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(receiver.end().0, Some(0));
}

#[test]
fn a_replay_leaves_the_memory_that_the_recorded_migration_left() {
    for channels in ["0", "3"] {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        recorded(directory.path(), channels);
        let recording = at("recording").to_str().expect("text").to_owned();
        for (name, more) in [("fast", None), ("paced", Some("--paced"))] {
            let receiver = Listening::receiver(&at(name));
            let mut arguments = vec!["replay", &recording, &receiver.uri];
            arguments.extend(more);
            let replayed = landfall(&arguments);
            assert_eq!(replayed.status.code(), Some(0), "{name}: {}", said(&replayed));
            let text = said(&replayed);
            assert!(text.contains("destination answered as the recorded one"), "{name}: {text}");
            let told =
                if more.is_some() { "later than recorded" } else { "kept the replay waiting" };
            assert!(text.contains(told), "{name}: {text}");
            let (code, text) = receiver.end();
            assert_eq!(code, Some(0), "{name}: {text}");
            let (a, b) = (at("received"), at(name));
            let equal = landfall(&["verify", a.to_str().expect("text"), b.to_str().expect("text")]);
            assert_eq!(equal.status.code(), Some(0), "{name}: {}", said(&equal));
        }
    }
}

#[test]
fn a_recording_says_what_it_holds_and_a_torn_one_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    recorded(directory.path(), "2");
    let recording = directory.path().join("recording");
    let text = fs::read(recording.join("recording.json")).expect("a description");
    let description: Value = serde_json::from_slice(&text).expect("JSON");
    let kinds: Vec<&str> = description["channels"]
        .as_array()
        .expect("channels")
        .iter()
        .map(|channel| channel["kind"].as_str().expect("text"))
        .collect();
    assert_eq!(kinds, ["main", "multifd", "multifd"]);
    let file = fs::OpenOptions::new().write(true).open(recording.join("channel-001.data"));
    file.expect("a file").set_len(100).expect("shorter");
    let torn = landfall(&["replay", recording.to_str().expect("text"), "tcp:127.0.0.1:1"]);
    assert_eq!(torn.status.code(), Some(2), "{}", said(&torn));
    assert!(said(&torn).contains("channel-001.data has 100 bytes"), "{}", said(&torn));
}

#[test]
fn a_migration_that_the_destination_leaves_is_recorded_as_far_as_it_went_and_replayed_so() {
    use std::io::Write;
    let directory = tempfile::tempdir().expect("a directory");
    let recording = directory.path().join("recording");
    let sink = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("tcp:{}", sink.local_addr().expect("an address"));
    let leaver = std::thread::spawn(move || {
        let (mut one, _) = sink.accept().expect("the recorder connects");
        one.read_exact(&mut [0; 8]).expect("a beginning");
    });
    let recorder = Listening::recorder(&to, &recording, &[]);
    let address = recorder.uri.strip_prefix("tcp:").expect("a URI").to_owned();
    let mut source = std::net::TcpStream::connect(address).expect("it listens");
    source.write_all(b"QEVM\0\0\0\x03").expect("a recorder");
    // Until the recorder has seen that nobody is there.
    while source.write_all(&[7; 4096]).is_ok() {}
    leaver.join().expect("the destination ends");
    let (code, text) = recorder.end();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the destination closed connection 0"), "{text}");
    assert!(text.contains("not complete"), "{text}");

    let sink = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("tcp:{}", sink.local_addr().expect("an address"));
    let taker = std::thread::spawn(move || {
        let (mut one, _) = sink.accept().expect("the replay connects");
        std::io::copy(&mut one, &mut std::io::sink())
    });
    let replayed = landfall(&["replay", recording.to_str().expect("text"), &to]);
    assert_eq!(replayed.status.code(), Some(0), "{}", said(&replayed));
    assert!(said(&replayed).contains("is not complete"), "{}", said(&replayed));
    taker.join().expect("the taker ends").expect("all of it");
}

#[test]
fn tls_and_a_full_recording_are_refused_with_the_reason() {
    use std::io::Write;
    let directory = tempfile::tempdir().expect("a directory");
    let hello = [&[0x16, 0x03, 0x01, 0x02, 0x00][..], &[1; 100]].concat();
    let large = [&b"QEVM\0\0\0\x03"[..], &vec![7; 18 << 20]].concat();
    let cases = [("tls", hello, "TLS handshake"), ("full", large, "(--max-size)")];
    for (name, bytes, reason) in cases {
        let sink = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = format!("tcp:{}", sink.local_addr().expect("an address"));
        let taker = std::thread::spawn(move || {
            let (mut one, _) = sink.accept().expect("the recorder connects");
            std::io::copy(&mut one, &mut std::io::sink())
        });
        let recorder =
            Listening::recorder(&to, &directory.path().join(name), &["--max-size", "16M"]);
        let address = recorder.uri.strip_prefix("tcp:").expect("a URI").to_owned();
        let mut source = std::net::TcpStream::connect(address).expect("it listens");
        // The recorder may close before it has all of it.
        let _ = source.write_all(&bytes);
        let (code, text) = recorder.end();
        assert!(code.is_some_and(|code| code != 0) && text.contains(reason), "{name}: {text}");
        let _ = taker.join().expect("the taker ends");
    }
}
