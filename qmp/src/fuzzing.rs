//! Bodies for fuzzers: each holds what it is given against an oracle and panics where they differ.
//! Beside each stands a function with inputs to begin from.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    ArgumentInfo, ArgumentKind, Arguments, CommandInfo, Conversation, EventSender, Greeting,
    Handler, MonitorAddress, QmpError, Session,
    json::{Stream, write},
};

/// A session fed with `data`, in one piece and in pieces.
///
/// What the client reads must not depend on how its bytes were cut. All of it must be lines of ASCII
/// with one JSON object each. And after a byte that is never valid (FF) and a newline, the session
/// must understand a command again.
///
/// The first byte of `data` seeds the cutting.
pub fn input(data: &[u8]) {
    let Some((&seed, input)) = data.split_first() else {
        return;
    };
    let whole = run([input]);
    let pieces = run(cut(input, seed));
    assert_eq!(whole, pieces, "the cutting shows");
    for line in whole.split_inclusive('\n') {
        check_line(line);
    }
    let last = whole.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("{\"return\": ") || last.contains("already complete"),
        "no way back from garbage: {last}"
    );
}

fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut conversation = Conversation::new(Arc::new(Echo), &EventSender::new());
    let mut read = conversation.receive();
    for piece in pieces {
        read += &conversation.send(piece);
    }
    read + &conversation.send("\u{ff}\n{\"execute\":\"qmp_capabilities\"}")
}

/// Pieces of 1 to 16 bytes.
fn cut(mut input: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut state = u32::from(seed) | 1;
    while !input.is_empty() {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let bytes = (state as usize % 16 + 1).min(input.len());
        let (piece, rest) = input.split_at(bytes);
        pieces.push(piece);
        input = rest;
    }
    pieces
}

fn check_line(line: &str) {
    assert!(line.is_ascii(), "not ASCII: {line}");
    assert!(line.ends_with("\r\n"), "no line: {line:?}");
    let mut stream = Stream::default();
    let message = stream.next(&mut line.as_bytes());
    let value = message.map(|message| message.value);
    let Some(Ok(Value::Object(members))) = value else {
        panic!("no object: {line}");
    };
    let kinds = ["QMP", "return", "error"];
    let found = kinds.iter().filter(|kind| members.contains_key(**kind));
    assert_eq!(found.count(), 1, "neither greeting nor reply: {line}");
    let mut again = Vec::new();
    write(&Value::Object(members), &mut again);
    assert_eq!(again, line.trim_end().as_bytes(), "written anew it is another text");
}

/// Inputs to begin from: a session with commands, out of band and not, and garbage.
pub fn input_seeds() -> Vec<Vec<u8>> {
    [
        &b"\x01{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}{'exec-oob':'b','arguments':{'x':1}}"[..],
        b"\x07{\"execute\":\"qmp_capabilities\"}\r\n{'execute':'a','arguments':{'k':[1,-1,1.5e3,{}]},'id':[null]}",
        b"\x11{'execute':'qmp_capabilities'}{'execute':'a','arguments':{'\\u00e9':'\\ud83d\\ude00 \xc3\xa9'}}",
        b"\x03{'execute':'qmp_capabilities'}]{'execute':'b','arguments':{'x':256}} nul \xff\n{'execute':'a'}",
        b"\x02{'execute':'qmp_capabilities'}{'execute':'a','arguments':{'a':18446744073709551615,'b':1e-7}}",
    ]
    .map(<[u8]>::to_vec)
    .into()
}

/// Reads `bytes` as a monitor's address: what is taken prints as text that means the same.
///
/// # Panics
///
/// Where that is not so.
pub fn monitor_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<MonitorAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}

/// An address of each kind.
pub fn monitor_address_seeds() -> Vec<Vec<u8>> {
    [
        "unix:/run/q,,x,server=on,wait=off",
        "unix:path=/a,server,nowait",
        "tcp:localhost:4444,server=yes,nodelay",
        "tcp:[::1]:80",
        "fd=7,server=on",
        "stdio",
        "null",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Returns its arguments.
struct Echo;

impl Handler for Echo {
    fn greeting(&self) -> Greeting {
        Greeting { major: 10, minor: 0, micro: 0, package: String::new() }
    }

    fn commands(&self) -> &[CommandInfo] {
        const COMMANDS: &[CommandInfo] = &[
            CommandInfo::new("a", &[]).open(),
            CommandInfo::new("b", &[ArgumentInfo::required("x", ArgumentKind::Uint8)]).allow_oob(),
        ];
        COMMANDS
    }

    fn execute(
        &self,
        _session: &mut Session<'_>,
        _command: &str,
        arguments: Arguments,
    ) -> Result<Value, QmpError> {
        Ok(Value::Object(arguments))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        hash::{BuildHasher, RandomState},
        time::{Duration, Instant},
    };

    /// What the inputs are built of: enough to get deep into the grammar by chance.
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
        b"%p",
        b"\xff",
        b"\x00",
        b"\xc3\xa9",
        b"\xe9",
        b"0",
        b"-1",
        b"1.5e3",
        b"256",
        b"1e999",
        b"true",
        b"null",
        b"nul",
        b"A",
        b"'execute'",
        b"\"exec-oob\"",
        b"'arguments'",
        b"'id'",
        b"'a'",
        b"'b'",
        b"'x'",
        b"'enable'",
        b"['oob']",
        b"'qmp_capabilities'",
        b"\\u00e9",
        b"\\ud800",
        b"\\udc00",
        b"\\u12",
        b"{'execute':'qmp_capabilities'}",
        b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}",
        b"{'execute':'a','arguments':{'k':[1,{}]},'id':1}",
        b"{'exec-oob':'b','arguments':{'x':1}}",
    ];

    #[test]
    fn random_input_passes_the_oracle() {
        let given = std::env::var("LANDFALL_SEED").ok();
        let first = given.as_deref().map_or_else(
            || RandomState::new().hash_one(0),
            |seed| seed.parse().expect("LANDFALL_SEED is a number"),
        );
        let deadline = Instant::now() + Duration::from_millis(700);
        let mut seed = first;
        while Instant::now() < deadline {
            println!("LANDFALL_SEED={seed}");
            super::input(&input(seed));
            if given.is_some() {
                return;
            }
            seed = seed.wrapping_add(1);
        }
    }

    #[test]
    fn an_unfinished_string_or_object_is_no_trap() {
        for data in [&b""[..], b"x", b"\x07{'a", b"\x07[[[[", b"\x07\"\\", b"\x07\xff\xfe"] {
            super::input(data);
        }
    }

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
        let mut data = vec![next() as u8];
        for _ in 0..next() % 60 {
            match next() % 16 {
                0 => data.push(next() as u8),
                _ => data.extend_from_slice(PIECES[next() % PIECES.len()]),
            }
        }
        data
    }
}
