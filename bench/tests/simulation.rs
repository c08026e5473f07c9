//! Whole migrations in memory, in the order and with the faults that a seed decides.
//!
//! `LANDFALL_SEED=N` replays one seed; `LANDFALL_SIMULATION_SEEDS=N` runs so many instead of the
//! gate's 100 000, from `LANDFALL_SIMULATION_FROM=N` on.

use std::{
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use landfall_bench::simulation::{Broken, Ending, FaultKind, Memory, Simulated, simulate};

#[test]
fn every_seed_leaves_what_was_sent() {
    if let Some(seed) = landfall_seed::given() {
        let simulated = one(seed, &mut memory(0)).unwrap_or_else(|wrong| fail(seed, &wrong));
        println!("LANDFALL_SEED={seed}: {simulated:#?}");
        return;
    }
    let seeds = number("LANDFALL_SIMULATION_SEEDS").unwrap_or(GATE_SEEDS);
    let from = number("LANDFALL_SIMULATION_FROM").unwrap_or(0);
    let start = Instant::now();
    let seen = all(from, seeds);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds from {from} in {seconds:.1} s, {:.0} each second",
        seeds as f64 / seconds
    );
    println!("{seen:#?}");
    if seeds >= GATE_SEEDS {
        seen.assert_all_was_tried();
    }
}

#[test]
fn a_channel_that_goes_on_before_main_passes_is_found() {
    is_found(Broken::ChannelsGoOn, "RAM block");
}

#[test]
fn a_main_that_passes_before_the_channels_come_is_found() {
    is_found(Broken::MainGoesOn, "RAM block");
}

#[test]
fn a_skipped_page_is_found() {
    is_found(Broken::PageSkipped, "RAM block");
}

#[test]
fn a_count_that_is_off_by_one_is_found() {
    is_found(Broken::CountOff, "normal is");
}

#[test]
fn a_torn_page_that_is_believed_to_be_zero_is_found() {
    is_found(Broken::LendForgotten, "migration 1: RAM block");
}

#[test]
fn a_stream_that_ends_at_a_forged_tail_is_found() {
    is_found(Broken::ForgedTail, "device state");
}

/// Some seed finds this mistake, and by these words.
fn is_found(broken: Broken, words: &str) {
    let mut memory = memory(0);
    let found = (0..CANARY_SEEDS).find_map(|seed| {
        let wrong = simulate(seed, Some(broken), &mut memory).err()?;
        wrong.contains(words).then_some((seed, wrong))
    });
    let (seed, wrong) = found.unwrap_or_else(|| panic!("{broken:?} passes {CANARY_SEEDS} seeds"));
    println!("{broken:?}: seed {seed}: {}", wrong.lines().next().unwrap_or_default());
}

/// What all seeds together have done.
#[derive(Debug, Default)]
struct Seen {
    migrations: u64,
    bytes: u64,
    turns: u64,
    resent: u64,
    sync_points: u64,
    cleared: u64,
    strays: u64,
    channels: BTreeMap<u8, u64>,
    /// Completed, failed, without a main stream.
    endings: BTreeMap<Option<FaultKind>, [u64; 3]>,
}

impl Seen {
    fn add(&mut self, simulated: &Simulated) {
        for migration in &simulated.migrations {
            self.migrations += 1;
            self.bytes += migration.bytes;
            self.turns += migration.turns;
            self.resent += migration.resent;
            self.sync_points += migration.sync_points;
            self.cleared += migration.cleared;
            self.strays += migration.strays;
            *self.channels.entry(migration.channels).or_default() += 1;
            self.endings.entry(migration.fault).or_default()[index(migration.ending)] += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.migrations += other.migrations;
        self.bytes += other.bytes;
        self.turns += other.turns;
        self.resent += other.resent;
        self.sync_points += other.sync_points;
        self.cleared += other.cleared;
        self.strays += other.strays;
        for (channels, count) in &other.channels {
            *self.channels.entry(*channels).or_default() += count;
        }
        for (fault, counts) in &other.endings {
            let sums = self.endings.entry(*fault).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    fn assert_all_was_tried(&self) {
        for channels in (0..=8).chain([255]) {
            assert!(self.channels.contains_key(&channels), "never {channels} channels");
        }
        for fault in FaultKind::ALL {
            let failed = self.endings.get(&Some(fault)).map_or(0, |counts| counts[1]);
            assert!(failed > 100, "{fault:?} failed {failed} runs only");
        }
        assert!(self.cleared > 0 && self.strays > 0 && self.resent > 0, "{self:?}");
    }
}

fn index(ending: Ending) -> usize {
    match ending {
        Ending::Completed => 0,
        Ending::Failed => 1,
        Ending::NoMain => 2,
    }
}

/// Runs `seeds` seeds, the first of them `from`, on two threads.
fn all(from: u64, seeds: u64) -> Seen {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let all = Mutex::new(Seen::default());
    let work = |cpu| {
        let mut memory = memory(cpu);
        let mut seen = Seen::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + seeds || stop.load(Relaxed) {
                break;
            }
            match one(seed, &mut memory) {
                Ok(simulated) => seen.add(&simulated),
                Err(wrong) => {
                    stop.store(true, Relaxed);
                    fail(seed, &wrong);
                }
            }
        }
        all.lock().expect("no panic holds it").merge(&seen);
    };
    thread::scope(|scope| {
        let work = &work;
        for cpu in 1..THREADS.min(cpus()) {
            scope.spawn(move || work(cpu));
        }
        work(0);
    });
    all.into_inner().expect("no panic holds it")
}

/// One seed; a panic is as wrong as anything else.
fn one(seed: u64, memory: &mut Memory) -> Result<Simulated, String> {
    let simulated = catch_unwind(AssertUnwindSafe(|| simulate(seed, None, memory)));
    simulated.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn fail(seed: u64, wrong: &str) -> ! {
    let alone = match one(seed, &mut memory(0)) {
        Ok(_) => "; only on memory that earlier seeds have used",
        Err(_) => "",
    };
    panic!("replay with LANDFALL_SEED={seed}{alone}\n{wrong}");
}

fn memory(cpu: usize) -> Memory {
    Memory::new(cpu).expect("a few MiB")
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

const GATE_SEEDS: u64 = 100_000;
/// Each mistake is found much earlier.
const CANARY_SEEDS: u64 = 2_000;
const THREADS: usize = 2;
