//! The same random bytes to a real QEMU and to us: the replies must be the same, byte for byte.

mod program;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use landfall_qmp::Server;
use program::{Client, Program};

#[test]
fn random_input_is_answered_as_qemu_answers_it() {
    let dir = tempfile::tempdir().unwrap();
    let qemu_path = dir.path().join("qemu");
    let Some(_qemu) = Qemu::start(&qemu_path) else {
        let required = std::env::var("LANDFALL_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "there is no {QEMU}");
        println!("SKIPPED: there is no {QEMU}");
        return;
    };
    let (program, _told) = Program::new();
    let events = program.events.clone();
    let ours_path = dir.path().join("ours");
    let address = format!("unix:{},server=on,wait=off", ours_path.display());
    let _server = Server::start(&[address.parse().unwrap()], program, &events).unwrap();
    let mut qemu = Client::negotiated(&qemu_path, false);
    let mut ours = Client::negotiated(&ours_path, false);
    let given = std::env::var("LANDFALL_SEED").ok();
    let first = seed(given.as_deref());
    let rounds = if given.is_some() { 1 } else { ROUNDS };
    for round in 0..rounds {
        let seed = first.wrapping_add(round);
        let input = input(seed);
        let expected = replies(&mut qemu, &input);
        let found = replies(&mut ours, &input);
        // The one known difference: for QEMU such a number is infinite.
        if found.iter().any(|line| line.contains("number out of range")) {
            continue;
        }
        assert_eq!(found, expected, "LANDFALL_SEED={seed}: {}", input.escape_ascii());
    }
    println!("{rounds} inputs from seed {first}");
}

/// What is said to `input`, up to the reply to a command sent after it.
fn replies(client: &mut Client, input: &[u8]) -> Vec<String> {
    client.send(input);
    client.send(b"\xff\n{'execute':'query-status','id':'mark'}");
    let mut lines = Vec::new();
    loop {
        let line = client.line();
        if line.ends_with("\"id\": \"mark\"}") {
            return lines;
        }
        lines.push(line);
    }
}

/// JSON that is likely to be almost right.
fn input(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize
    };
    let mut input = Vec::new();
    for _ in 0..1 + next() % 40 {
        match next() % 12 {
            0 => input.push(next() as u8),
            _ => input.extend_from_slice(PIECES[next() % PIECES.len()]),
        }
    }
    input
}

fn seed(given: Option<&str>) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    given.map_or_else(
        || RandomState::new().hash_one(0),
        |seed| seed.parse().expect("LANDFALL_SEED is a number"),
    )
}

/// A QEMU with no machine and a monitor; killed at the end.
struct Qemu(Child);

impl Qemu {
    fn start(path: &Path) -> Option<Self> {
        let monitor = format!("unix:{},server=on,wait=off", path.display());
        let child = Command::new(QEMU)
            .args(["-M", "none", "-nodefaults", "-display", "none", "-qmp", &monitor])
            .args(["-incoming", "defer"])
            .stdin(Stdio::null())
            .spawn();
        child.ok().map(Self)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Of objects no more than two members, and hardly ever two mistakes in one: QEMU looks at the members of a
/// request in the order of its hash table.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"'",
    b"\"",
    b"\\",
    b" ",
    b"\n",
    b"\r\n",
    b"\t",
    b"%p",
    b"\xff",
    b"\xfe",
    b"\x00",
    b"\x1f",
    b"\x7f",
    b"\xc3\xa9",
    b"\xe9",
    b"\xc0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b"0",
    b"-0",
    b"-1",
    b"1.5e3",
    b"256",
    b"0.1",
    b"1e-7",
    b"123456789012345678901",
    b"1.",
    b"1e",
    b"-",
    b"true",
    b"null",
    b"nul",
    b"falsey",
    b"A",
    b"'id'",
    b"'a'",
    b"\"b\"",
    b"{}",
    b"[]",
    b"{'a':1}",
    b"{\"a\":[1,{'b':null}]}",
    b"[1,2]",
    b"'\\u00e9'",
    b"'\\ud83d\\ude00'",
    b"'\\ud800'",
    b"'\\udc00\\u0020'",
    b"'\\u12'",
    b"'\\uFFFE'",
    b"'\\x'",
    b"'\\'\\\"\\\\\\/\\b\\f\\n\\r\\t'",
    b"{'execute':'nosuch'}",
    b"{'execute':'nosuch','id':",
    b"{'id':",
    b"{'execute':",
    b"{'arguments':",
    b"{'exec-oob':'nosuch'}",
    b"{'execute':'qmp_capabilities'}",
    b"{'execute':'query-status','id':",
    b"{'execute':'closefd','arguments':",
    b"{'execute':'getfd','arguments':{'fdname':",
    b"{'execute':'migrate-set-capabilities','arguments':{'capabilities':",
    b"{'execute':'migrate-set-parameters','arguments':{'multifd-channels':",
];

const ROUNDS: u64 = 1500;

const QEMU: &str = "qemu-system-x86_64";
