//! Conversations written down in `scripts/`, held in memory and over a unix socket, in one piece and
//! in every other way of cutting them.

mod program;

use std::sync::Arc;

use landfall_qmp::{Conversation, Server};
use program::{Client, Program, without_time};

const SCRIPTS: [(&str, &str); 4] = [
    ("session", include_str!("scripts/session.qmp")),
    ("in_band", include_str!("scripts/in_band.qmp")),
    ("qemu_negotiating", include_str!("scripts/qemu_negotiating.qmp")),
    ("qemu_mistakes", include_str!("scripts/qemu_mistakes.qmp")),
];

/// What the client sends, and what it then reads.
struct Turn {
    says: Vec<u8>,
    reads: Vec<String>,
}

#[test]
fn every_script_is_kept_to_in_memory() {
    for (name, script) in SCRIPTS {
        let mut turns = parse(script).into_iter();
        let (program, _told) = Program::new();
        let events = program.events.clone();
        let mut conversation = Conversation::new(program, &events);
        let greeting = turns.next().unwrap();
        assert_eq!(lines(&conversation.receive()), greeting.reads, "{name}");
        for turn in turns {
            let read = lines(&conversation.send(&turn.says));
            assert_eq!(read, turn.reads, "{name}: {}", turn.says.escape_ascii());
        }
    }
}

#[test]
fn how_the_bytes_are_cut_makes_no_difference() {
    for (name, script) in SCRIPTS {
        let turns = parse(script);
        let says: Vec<u8> = turns.iter().flat_map(|turn| turn.says.clone()).collect();
        let reads: Vec<String> = turns.into_iter().flat_map(|turn| turn.reads).collect();
        for size in 1..=says.len() {
            let (program, _told) = Program::new();
            let events = program.events.clone();
            let mut conversation = Conversation::new(program, &events);
            let mut read = lines(&conversation.receive());
            for piece in says.chunks(size) {
                read.extend(lines(&conversation.send(piece)));
            }
            assert_eq!(read, reads, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn every_script_is_kept_to_over_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let (program, _told) = Program::new();
    let events = program.events.clone();
    let address = format!("unix:{},server=on,wait=off", path.display());
    let handler = Arc::clone(&program);
    let _server = Server::start(&[address.parse().unwrap()], handler, &events).unwrap();
    for (name, script) in SCRIPTS {
        // Turn by turn, byte by byte, and all at once, where no command may overtake.
        let overtaking =
            script.lines().any(|line| line.starts_with("C:") && line.contains("[\"oob\""));
        for pieces in [Some(usize::MAX), Some(1), None] {
            if pieces.is_none() && overtaking {
                continue;
            }
            let mut client = Client::connect(&path);
            let mut expected = Vec::new();
            for turn in parse(script) {
                match pieces {
                    Some(size) => {
                        for piece in turn.says.chunks(size) {
                            client.send(piece);
                        }
                        expect(&mut client, &turn.reads, name);
                    }
                    None => {
                        client.send(&turn.says);
                        expected.extend(turn.reads);
                    }
                }
            }
            expect(&mut client, &expected, name);
            assert!(client.is_silent(), "{name}");
        }
    }
}

fn expect(client: &mut Client, lines: &[String], name: &str) {
    for line in lines {
        assert_eq!(without_time(&client.line()), *line, "{name}");
    }
}

fn lines(read: &str) -> Vec<String> {
    assert!(read.is_empty() || read.ends_with("\r\n"));
    read.split_terminator("\r\n").map(without_time).collect()
}

fn parse(script: &str) -> Vec<Turn> {
    let mut turns = vec![Turn { says: Vec::new(), reads: Vec::new() }];
    for line in script.lines() {
        if let Some(says) = line.strip_prefix("C: ") {
            turns.push(Turn { says: unescape(says), reads: Vec::new() });
        } else if let Some(reads) = line.strip_prefix("S: ") {
            let reads = String::from_utf8(unescape(reads)).unwrap();
            turns.last_mut().unwrap().reads.push(reads);
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
        }
    }
    turns
}

/// Resolves `\n`, `\r`, `\t`, `\\`, `\xNN` and `\u{N}`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (letter, after) = escaped.split_at(1);
        rest = after;
        match letter {
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&after[..2], 16).unwrap());
                rest = &after[2..];
            }
            "u" => {
                let (code, after) = after[1..].split_once('}').unwrap();
                let c = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
                bytes.extend_from_slice(c.to_string().as_bytes());
                rest = after;
            }
            other => panic!("\\{other} in a script"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
