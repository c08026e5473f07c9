//! Ways to receive a multifd channel, against each other: the figures of the decisions on the ring.
//!
//! Every run receives guest RAM full of pages over loopback TCP. Every byte of a contender's first run
//! is checked, of later runs a line of each page: to look at all would warm the caches. Who keeps the
//! bytes as they came has them checked in the same way, who keeps nothing finds every header where
//! it should be. The contenders of a question take turns. `LANDFALL_BENCH_MIB` is the RAM, a packet a
//! channel at least, `LANDFALL_BENCH_ROUNDS` how often everybody runs; both are small by default, for
//! the test suite. Arguments name questions (all without any), `LANDFALL_BENCH_ONLY` a part of a
//! contender's name, to profile it.

mod alternate;
#[allow(unsafe_code, reason = "the kernel writes raw memory: docs/unsafe.md#receive-bench")]
mod blocking;
mod contender;
mod copy;
#[allow(unsafe_code, reason = "the kernel writes raw memory: docs/unsafe.md#receive-bench")]
mod low_water;
#[allow(unsafe_code, reason = "the kernel writes raw memory: docs/unsafe.md#receive-bench")]
mod multishot;
mod place;
mod questions;
#[allow(unsafe_code, reason = "the kernel writes raw memory: docs/unsafe.md#receive-bench")]
mod ring;
mod run;
#[allow(unsafe_code, reason = "a message header is zeroed: docs/unsafe.md#receive-bench")]
mod scatter;
#[allow(unsafe_code, reason = "socket options by number: docs/unsafe.md#receive-bench")]
mod socket;
mod stream;

use std::env;

use alternate::{Amount, alternate};
use run::REGION_STEP;

fn main() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mib = number("LANDFALL_BENCH_MIB");
    let rounds = number("LANDFALL_BENCH_ROUNDS").unwrap_or(1);
    let rounds = usize::try_from(rounds).expect("few");
    let wanted: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let only = env::var("LANDFALL_BENCH_ONLY").unwrap_or_default();
    for (question, mut contenders) in questions::all() {
        if wanted.is_empty() || wanted.iter().any(|word| word == question) {
            contenders.retain(|one| one.name.contains(&only));
            let needed = contenders.iter().map(|one| one.channels as u64 * REGION_STEP).max();
            let ram_bytes = (mib.unwrap_or(MIB_TINY) << 20).max(needed.unwrap_or(0));
            alternate(
                question,
                &contenders,
                Amount { ram_bytes, rounds, hugepages: mib.is_some() },
            );
        }
    }
}

/// Enough for two laps of one channel.
const MIB_TINY: u64 = 16;
