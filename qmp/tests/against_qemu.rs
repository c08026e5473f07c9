//! The same random bytes to a real QEMU and to us: the replies must be the same, byte for byte.

mod program;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use fastrand::Rng;
use landfall_qmp::{Server, fuzzing::JSON_PIECES};
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
    let first = landfall_seed::any();
    let rounds = if landfall_seed::given().is_some() { 1 } else { ROUNDS };
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
    // Forked: seeds side by side begin alike.
    let mut random = Rng::with_seed(seed).fork();
    let pieces = [JSON_PIECES, PIECES].concat();
    let mut input = Vec::new();
    for _ in 0..random.usize(1..=40) {
        match random.usize(..12) {
            0 => input.push(random.u8(..)),
            _ => input.extend_from_slice(random.choice(&pieces).unwrap()),
        }
    }
    input
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
