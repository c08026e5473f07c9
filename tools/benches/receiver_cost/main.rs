//! What a receiver costs beside the bare ceiling: CPU seconds of the receiving
//! process per GiB, alternating, from the same source, over loopback, into the
//! same kind of memory.
//!
//! `cargo bench -p landfall-tools --bench receiver_cost -- [--gib G] [--channels N]
//! [--pairs P] [--memory 2M|thp] [--zero PERCENT]`. Without `--bench` (as the
//! test suite runs it) it is tiny and only checks that all sides work.

mod ceiling;
mod landfall;
mod paired;

use std::env;

use paired::Paired;

/// One comparison.
#[derive(Clone, Debug)]
struct Scenario {
    mib: u64,
    channels: u8,
    pairs: usize,
    memory: String,
    zero: u8,
}

/// What a receiver used for one run.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    bytes: u64,
    cpu_s: f64,
    wall_s: f64,
}

impl Cost {
    fn cpu_s_per_gib(self) -> f64 {
        self.cpu_s / (self.bytes as f64 / (1u64 << 30) as f64)
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == ceiling::CHILD) {
        return ceiling::child(&arguments[1..]);
    }
    let full = arguments.iter().any(|argument| argument == "--bench");
    let value = |name: &str, default: &str| -> String {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).cloned().unwrap_or_else(|| default.to_owned())
    };
    let number = |name: &str, default: &str| -> u64 {
        value(name, default).parse().unwrap_or_else(|_| panic!("{name} takes a number"))
    };
    let scenario = Scenario {
        mib: if full { number("--gib", "4") * 1024 } else { 32 },
        channels: u8::try_from(number("--channels", "2")).expect("at most 255 channels"),
        pairs: if full { number("--pairs", "10") as usize } else { 1 },
        memory: value("--memory", "thp"),
        zero: u8::try_from(number("--zero", "0")).expect("a percentage"),
    };
    run(&scenario);
}

fn run(scenario: &Scenario) {
    println!("{scenario:?}");
    let mut blocking = Vec::new();
    let mut ring = Vec::new();
    let mut receiver = Vec::new();
    for pair in 0..scenario.pairs {
        // Who goes first changes, so that nobody always has the warmer machine.
        for turn in 0..3 {
            match (pair + turn) % 3 {
                0 => blocking.push(ceiling::run(scenario, "blocking")),
                1 => ring.push(ceiling::run(scenario, "ring")),
                _ => receiver.push(landfall::run(scenario)),
            }
        }
    }
    let median = |costs: &[Cost]| paired::median(costs.iter().map(|cost| cost.cpu_s_per_gib()));
    let best = if median(&blocking) <= median(&ring) { &blocking } else { &ring };
    for (name, costs) in [("blocking", &blocking), ("ring", &ring), ("landfall", &receiver)] {
        println!(
            "{name:>9}: {:.4} CPU-s/GiB, {:.3} s wall (medians of {})",
            median(costs),
            paired::median(costs.iter().map(|cost| cost.wall_s)),
            costs.len()
        );
        for cost in costs {
            assert!(cost.bytes >= scenario.mib << 20, "{name} received {} bytes", cost.bytes);
        }
    }
    println!("landfall ÷ better ceiling, CPU: {}", Paired::of(&receiver, best));
}
