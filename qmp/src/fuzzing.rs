//! Bodies for fuzzers: each holds what it is given against an oracle and panics where they differ.
//! Beside each stands a function with inputs to begin from.

use std::sync::Arc;

use fastrand::Rng;
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
    let mut random = Rng::with_seed(seed.into());
    while !input.is_empty() {
        let bytes = random.usize(1..=16).min(input.len());
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

/// What random JSON is built of, whole and broken: tokens, values, text in every encoding. No object
/// has more than one member.
pub const JSON_PIECES: &[&[u8]] = &[
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
];

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
    use std::time::{Duration, Instant};

    use fastrand::Rng;

    use super::JSON_PIECES;

    /// Enough, with those, to get deep into the grammar by chance.
    const PIECES: &[&[u8]] = &[
        b"1e999",
        b"'execute'",
        b"\"exec-oob\"",
        b"'arguments'",
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
        let given = landfall_seed::given();
        let first = landfall_seed::any();
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
        // Forked: seeds side by side begin alike.
        let mut random = Rng::with_seed(seed).fork();
        let pieces = [JSON_PIECES, PIECES].concat();
        let mut data = vec![random.u8(..)];
        for _ in 0..random.usize(..60) {
            match random.usize(..16) {
                0 => data.push(random.u8(..)),
                _ => data.extend_from_slice(random.choice(&pieces).unwrap()),
            }
        }
        data
    }
}
