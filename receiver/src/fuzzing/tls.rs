//! A channel under TLS: records, honest and spoilt, in any pieces.

use std::sync::Arc;

use super::memory::Memory;
use super::packet_model::{End, Expected};
use super::packets::{STAGING_BYTES, stream_of};
use super::script::Script;
use crate::channel::{Channel, ChannelId, RunMethod, Tally, Terms};
use crate::error::{Family, RunError};
use crate::stats::ChannelCounters;
use crate::tls::feed::{BUFFER_BYTES, Fed, Feed, Step};
use crate::tls::fuzzing::{OWED_MAX, Sealer};
use crate::tls::{Opened, RECORD_BYTES_MAX, TlsStream};
use crate::wire::fuzzing::random_of;
use crate::wire::{Compression, PageBytes};

/// Makes records from `script`: a byte for version and suite; a length in two bytes and so
/// much of a script of [`packet_sequence`](super::packet_sequence), whose bytes are the
/// plaintext; then steps:
///
/// | byte mod 9 | what comes next |
/// |---|---|
/// | 0 | a record with the next be16 bytes of the plaintext, 16 KiB at most |
/// | 1 | a record without data |
/// | 2 | a key update, which asks for ours if the next byte is odd |
/// | 3 | an alert, of two bytes |
/// | 4 | a record of any type: a byte, then a length and so many bytes |
/// | 5 | bytes that nobody has sealed: a length, then they |
/// | 6 | the last record with a byte changed: be16 place, a byte |
/// | 7 | the last record again |
/// | 8 | the end, be16 bytes before it |
///
/// What is left of the plaintext comes in records behind the last step. All of it goes through the
/// record layer, and through a channel's feed into guest RAM: as a whole and in pieces.
///
/// What is delivered is what honest records held, in their order, up to the first step that
/// is not honest (of TLS 1.2 the version in a header is not sealed, so a change there
/// changes nothing); the pieces make no difference to that or to the error; and guest RAM
/// and counters are those of the packets' own model for what was delivered. What waits
/// here, and what is owed to the peer, stays under its cap.
///
/// # Panics
///
/// Where that is not so.
pub fn tls_records(script: &[u8]) {
    let Made { suite, sealed, honest, all, .. } = Made::of(script);
    let whole = open(Sealer::pair(suite).0, &sealed, &mut || usize::MAX);
    let mut random = random_of(script);
    let most = [1 + RECORD_BYTES_MAX, 300, 5][random.usize(..3)];
    let pieces = open(Sealer::pair(suite).0, &sealed, &mut || random.usize(..most) + 1);
    assert_eq!(whole.end, pieces.end, "the pieces changed the end");
    assert!(whole.delivered == pieces.delivered, "the pieces changed the plaintext");
    assert_eq!(whole.owed, pieces.owed);
    let delivered = &whole.delivered;
    assert!(delivered.len() >= honest, "of {honest} honest bytes came {}", delivered.len());
    assert!(all.starts_with(delivered), "something was delivered that nobody sealed");
    let expected = Expected::of(delivered, STAGING_BYTES);
    let mut ends = [usize::MAX, most].map(|most| {
        feed(suite, &sealed, &expected, &whole, &mut || match most {
            usize::MAX => usize::MAX,
            _ => random.usize(..most) + 1,
        })
    });
    let [whole, pieces] = &mut ends;
    assert_eq!(whole, pieces, "the pieces changed how the feed ended");
}

/// Scripts to begin from.
pub fn tls_records_seeds() -> Vec<Vec<u8>> {
    let packets = b"\0\x03\x02\0\x05\0\x09\x0a\x02\x04\x05\x01\0\0\0\0\0";
    let begin = |suite: u8| [&[suite, 0, packets.len() as u8][..], packets].concat();
    let mut seeds: Vec<Vec<u8>> = (0..6).map(begin).collect();
    for suite in [0, 1, 4, 5] {
        for steps in [
            // Records of any size, without data, key updates.
            &b"\0\x05\x40\0\x05\x3f\x01\0\x10\0\x02\x01\0\x20\0\x02\0"[..],
            b"\0\x05\x40\x06\0\x09\x10",
            b"\0\x05\x40\x07",
            b"\0\x10\0\x08\0\x01",
            b"\0\x05\x40\x03\x01\0",
            b"\x03\x02\x28",
            b"\x04\x16\0\x05\x18\0\0\x01\x01",
            b"\x05\0\x07\x17\x03\x03\0\x02\0\0",
            b"\x06\0\x02\x01",
        ] {
            seeds.push([&begin(suite)[..], steps].concat());
        }
    }
    seeds.push([&begin(0)[..], &[1; 40]].concat());
    seeds
}

/// What a script makes.
#[derive(Default)]
struct Made {
    suite: u8,
    sealed: Vec<u8>,
    /// Bytes of plaintext in front of the first step that is not honest.
    honest: usize,
    /// All plaintext that was sealed.
    all: Vec<u8>,
    /// Records without data since the last with some, and bytes of answers asked for: an
    /// honest peer stays under the caps.
    quiet: u32,
    asked: usize,
    is_spoilt: bool,
}

impl Made {
    fn of(script: &[u8]) -> Self {
        let mut script = Script(script);
        let suite = script.byte();
        let length = usize::from(script.be16());
        let plain = stream_of(script.take(length));
        let mut rest = &plain[..];
        let mut sealer = Sealer::pair(suite).1;
        let mut made = Self { suite, ..Self::default() };
        // The last record, and the plaintext in front of it.
        let (mut last, mut before) = (0..0, 0);
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            let (from, plain_from) = (made.sealed.len(), made.all.len());
            match script.byte() % 9 {
                0 => {
                    let bytes = usize::from(script.be16()) % (PLAIN_BYTES_MAX + 1);
                    let (piece, later) = rest.split_at(bytes.min(rest.len()));
                    made.data(&mut sealer, piece);
                    rest = later;
                }
                1 => made.data(&mut sealer, &[]),
                2 if sealer.is_tls13() => {
                    let asks = script.byte() % 2;
                    made.sealed.extend(sealer.seal(HANDSHAKE, &[24, 0, 0, 1, asks]));
                    sealer.update();
                    made.without_data();
                    made.asked += usize::from(asks) * ANSWER_BYTES;
                    made.is_spoilt |= made.asked > OWED_MAX;
                }
                3 => {
                    let alert = [script.byte(), script.byte()];
                    made.sealed.extend(sealer.seal(ALERT, &alert));
                    made.is_spoilt = true;
                }
                4 => {
                    let content = script.byte();
                    let length = usize::from(script.be16()).min(PLAIN_BYTES_MAX);
                    let plain = script.take(length);
                    made.sealed.extend(sealer.seal(content, plain));
                    made.all.extend(data_of(content, plain, sealer.is_tls13()));
                    made.is_spoilt = true;
                }
                5 => {
                    let length = usize::from(script.be16());
                    made.sealed.extend(script.take(length));
                    made.is_spoilt = true;
                }
                6 => {
                    let (place, byte) = (usize::from(script.be16()), script.byte());
                    if !last.is_empty() {
                        made.sealed[last.start + place % last.len()] ^= byte;
                        made.honest = made.honest.min(before);
                        made.is_spoilt = true;
                    }
                }
                7 => {
                    made.sealed.extend_from_within(last.clone());
                    made.is_spoilt = true;
                }
                8 => {
                    let cut = usize::from(script.be16()).min(made.sealed.len());
                    made.sealed.truncate(made.sealed.len() - cut);
                    made.honest = 0;
                    return made;
                }
                _ => {}
            }
            made.count();
            if made.sealed.len() > from {
                (last, before) = (from..made.sealed.len(), plain_from);
            }
        }
        for piece in rest.chunks(PLAIN_BYTES_MAX) {
            made.data(&mut sealer, piece);
        }
        made.count();
        made
    }

    fn data(&mut self, sealer: &mut Sealer, plain: &[u8]) {
        self.sealed.extend(sealer.seal(DATA, plain));
        self.all.extend(plain);
        if plain.is_empty() {
            self.without_data();
        } else {
            self.quiet = 0;
        }
    }

    fn without_data(&mut self) {
        self.quiet += 1;
        self.is_spoilt |= self.quiet > QUIET_MAX;
    }

    fn count(&mut self) {
        if !self.is_spoilt {
            self.honest = self.all.len();
        }
    }
}

/// The data in a record of any type. TLS 1.3 has the type behind the content, and zeros
/// behind that are padding.
fn data_of(content: u8, plain: &[u8], is_tls13: bool) -> &[u8] {
    let last = plain.iter().rposition(|&byte| byte != 0);
    match (content, last) {
        (DATA, _) => plain,
        (0, Some(last)) if is_tls13 && plain[last] == DATA => &plain[..last],
        _ => &[],
    }
}

/// How the record layer took all bytes.
#[derive(Debug)]
struct Taken {
    delivered: Vec<u8>,
    end: TlsEnd,
    owed: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TlsEnd {
    /// Between two records.
    Between,
    /// Inside one.
    Inside,
    /// The peer has said that nothing more comes.
    Closed,
    Failed(Family, String),
}

/// Opens the records of `sealed`, which comes in pieces.
fn open(mut stream: Box<TlsStream>, sealed: &[u8], piece: &mut dyn FnMut() -> usize) -> Taken {
    let (mut delivered, mut buffer, mut rest) = (Vec::new(), Vec::new(), sealed);
    let end = loop {
        let opened = stream.open(&mut buffer);
        assert!(stream.owed_bytes() <= OWED_MAX + ANSWER_BYTES, "owed without end");
        match opened {
            Ok(Opened::Record { plain, bytes }) => {
                assert!(plain.len() <= PLAIN_BYTES_MAX && plain.end <= bytes, "{plain:?}");
                delivered.extend_from_slice(&buffer[plain]);
                drop(buffer.drain(..bytes));
            }
            Ok(Opened::Partial { needed }) => {
                assert!(needed > buffer.len() && needed <= RECORD_BYTES_MAX, "{needed}");
                match (rest.is_empty(), buffer.is_empty()) {
                    (true, true) => break TlsEnd::Between,
                    (true, false) => break TlsEnd::Inside,
                    (false, _) => {}
                }
                let (now, later) = rest.split_at(piece().min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
            }
            Ok(Opened::Closed) => break TlsEnd::Closed,
            Err(error) => break TlsEnd::Failed(error.family(), error.to_string()),
        }
    };
    Taken { delivered, end, owed: stream.owed_bytes() }
}

/// Takes the same as a channel; returns what it said of its end.
fn feed(
    suite: u8,
    sealed: &[u8],
    expected: &Expected,
    taken: &Taken,
    piece: &mut dyn FnMut() -> usize,
) -> Option<(Family, String)> {
    let memory = Memory::new();
    let counters = ChannelCounters::default();
    let tally = Tally { channel: &counters, blocks: &memory.counters };
    let method = RunMethod::new(Some(Compression::None));
    let terms = Arc::new(Terms { method, ..Terms::new(true, STAGING_BYTES) });
    let mut channel = Channel::new(ChannelId(3), PageBytes::DEFAULT, terms);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut feed = Feed::new(Sealer::pair(suite).0, &[], &mut buffer);
    let (mut rest, mut passed, mut packets) = (sealed, 0, 0);
    let error = loop {
        match feed.run(&mut buffer, &mut channel, &memory.ram, tally, &mut |step| {
            packets += u64::from(step == Step::Packet)
        }) {
            Ok(Fed::Receive { from, .. }) => {
                assert!(BUFFER_BYTES - from >= RECORD_BYTES_MAX, "no room for a record");
                if rest.is_empty() {
                    break feed.end(&channel, counters.wire_bytes.get()).err();
                }
                let now = piece().min(rest.len()).min(BUFFER_BYTES - from);
                buffer[from..from + now].copy_from_slice(&rest[..now]);
                feed.received(now);
                rest = &rest[now..];
            }
            Ok(Fed::Held) => {
                passed += 1;
                assert!(channel.release(passed), "never released");
            }
            Ok(Fed::Closed) => break feed.end(&channel, counters.wire_bytes.get()).err(),
            Err(error) => break Some(error),
        }
    };
    memory.check(&expected.model);
    assert_eq!(counters.packets.get(), expected.packets);
    assert_eq!(counters.syncs.get(), expected.syncs);
    let family = error.as_ref().map(|error: &RunError| error.family);
    let of_tls = match &taken.end {
        TlsEnd::Between | TlsEnd::Closed => None,
        TlsEnd::Inside => Some(Family::Misbehaved),
        TlsEnd::Failed(family, _) => Some(*family),
    };
    let allowed = match expected.end {
        End::Malformed => [Some(Family::Malformed); 2],
        End::Environment => [Some(Family::Environment); 2],
        // Refused for its compression, or cut: then it is TLS that says so, if it can.
        End::Misbehaved => [Some(Family::Misbehaved), of_tls.or(Some(Family::Misbehaved))],
        End::Boundary => [of_tls; 2],
    };
    assert!(allowed.contains(&family), "{error:?}, allowed are {allowed:?}");
    error.map(|error| (error.family, error.text))
}

/// Content types (RFC 8446 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// Of one record.
const PLAIN_BYTES_MAX: usize = 1 << 14;
/// Records without data in a row that are borne.
const QUIET_MAX: u32 = 32;
/// Of a record that answers a key update.
const ANSWER_BYTES: usize = 5 + 5 + 1 + 16;
/// More of them come no further than these.
const STEPS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_to_begin_from_end_in_every_way() {
        let ends: Vec<TlsEnd> = tls_records_seeds()
            .iter()
            .map(|script| {
                let made = Made::of(script);
                open(Sealer::pair(made.suite).0, &made.sealed, &mut || 1000).end
            })
            .collect();
        for end in [TlsEnd::Between, TlsEnd::Inside, TlsEnd::Closed] {
            assert!(ends.contains(&end), "{end:?} is not among {ends:?}");
        }
        for family in [Family::Malformed, Family::Misbehaved] {
            let is_there = |end: &TlsEnd| matches!(end, TlsEnd::Failed(of, _) if *of == family);
            assert!(ends.iter().any(is_there), "{family:?} is not among {ends:?}");
        }
    }
}
