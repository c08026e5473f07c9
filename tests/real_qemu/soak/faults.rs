//! What goes wrong with a synthetic source.

use std::time::Duration;

use fastrand::Rng;
use landfall_bench::Plan;
use landfall_bench::script::Stream;
use landfall_bench::send::{Cut, Fault};

use super::Run;
use super::chance::Must;
use super::way::Way;

/// A fault, and what must come of it. In a long soak also such as end by a timeout.
/// Where the channel count is derived, what a channel does not say cannot be
/// missed: then faults are the whole source's. What is no connection can only end.
pub(super) fn by_chance(plan: &Plan, way: Way, run: &Run<'_>, random: &mut Rng) -> (Fault, Must) {
    let channels = usize::from(plan.config().channels);
    let sent = plan.sent();
    let channel =
        if channels == 0 || run.is_derived { None } else { Some(random.usize(..channels) as u8) };
    let how = random.choice([Cut::Close, Cut::Reset]).unwrap();
    let Some(channel) = channel else {
        if !way.is_connection() || random.bool() {
            let must = if channels == 0 { main_must(plan) } else { Must::Fail };
            return (Fault::Kill { after_bytes: part(sent.bytes(), random) }, must);
        }
        let after_bytes = part(sent.main_bytes, random);
        return (Fault::Cut { stream: Stream::Main, after_bytes, how }, main_must(plan));
    };
    let channel_bytes = sent.channel_bytes[usize::from(channel)];
    let stream = Stream::Channel(channel);
    if run.is_long && random.u8(..12) == 0 {
        return (endless(channel, channel_bytes, channels, random), Must::Fail);
    }
    match random.usize(..6) {
        0 => (Fault::Kill { after_bytes: part(sent.bytes(), random) }, Must::Fail),
        1 => {
            let after_bytes = part(sent.main_bytes, random);
            (Fault::Cut { stream: Stream::Main, after_bytes, how }, main_must(plan))
        }
        2 | 3 => {
            let after_bytes = part(channel_bytes, random);
            (Fault::Cut { stream, after_bytes, how }, Must::Fail)
        }
        4 => {
            let delay = Duration::from_millis(random.u64(..800));
            (Fault::LateConnect { channel, delay }, Must::Complete)
        }
        _ => {
            let slow = Cut::Slow { bytes: 32 << 10, pause: Duration::from_millis(1) };
            let after_bytes = part(channel_bytes, random);
            (Fault::Cut { stream, after_bytes, how: slow }, Must::Complete)
        }
    }
}

/// What only a timeout ends.
fn endless(channel: u8, channel_bytes: u64, channels: usize, random: &mut Rng) -> Fault {
    match random.usize(..4) {
        0 => Fault::NeverConnect { channel },
        1 => Fault::SkipSync { channel, sync: 0 },
        2 if channels > 1 => {
            Fault::WrongId { channel, id: ((usize::from(channel) + 1) % channels) as u8 }
        }
        _ => Fault::Cut {
            stream: Stream::Channel(channel),
            after_bytes: part(channel_bytes, random),
            how: Cut::Silence,
        },
    }
}

/// A forged end of the stream may stand where main ends.
fn main_must(plan: &Plan) -> Must {
    if plan.config().devices.forged_tails > 0 { Must::Either } else { Must::Fail }
}

/// Some of these bytes; never so many that all but a description was sent.
fn part(bytes: u64, random: &mut Rng) -> u64 {
    random.u64(1..=(bytes * 4 / 5).max(1))
}
