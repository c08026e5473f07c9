//! Real QEMU sources into landfall: every pair of the dimensions in `case` at
//! least once, RAM compared byte for byte, page counts with the source's own.
//!
//! The QEMUs come from `tests/qemu/install`. Set in the environment:
//!
//! - `LANDFALL_QEMU_CASES=TEXT`: only cases whose line contains TEXT (words are
//!   parted by one space or more);
//! - `LANDFALL_QEMU_FULL=1`: every combination of three, not of two;
//! - `LANDFALL_QEMU_CONTROL=1`: into a second QEMU in landfall's place, to see
//!   whether a failure is landfall's;
//! - `LANDFALL_SEED=N`: the seed of the guests' memory;
//! - `LANDFALL_SOAK_SECONDS=N`: see `soak`;
//! - `LANDFALL_REQUIRE_ALL=1`: a missing QEMU or hugepage fails the test.

mod case;
mod certificates;
mod control;
mod covering;
mod credentials;
mod destination;
mod faults;
mod forms;
#[path = "../qemu/found.rs"]
#[allow(dead_code, reason = "shared with tests that look for one version")]
mod found;
mod handed_over;
mod hugepages;
mod listening;
mod machine;
mod memory_file;
mod other_targets;
mod pair;
mod postcopy;
mod process;
mod qmp;
mod query_migrate;
mod run;
mod settings;
mod soak;
mod source;
mod sparc;
mod versions;
mod words;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use case::{Case, Memory};
use hugepages::HugepageLoan;
use run::{Moved, Programs};

#[test]
fn every_pair_of_dimensions_migrates_whole_from_a_real_qemu() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    let strength = if is_set("LANDFALL_QEMU_FULL") { 3 } else { 2 };
    let mut cases = case::cases(strength);
    let all = cases.len();
    if let Ok(text) = env::var("LANDFALL_QEMU_CASES") {
        cases.retain(|case| one_spaced(&case.to_string()).contains(&one_spaced(&text)));
    }
    assert!(!cases.is_empty(), "no case has the text of LANDFALL_QEMU_CASES");
    let _loan = match borrow_hugepages(&cases) {
        Ok(loan) => loan,
        Err(why) => {
            skip(&why);
            cases.retain(|case| !wants_hugepages(case));
            None
        }
    };
    let seed = seed();
    say(&format!(
        "{all} cases hold every combination of {strength}, of them here {}; LANDFALL_SEED={seed}",
        cases.len()
    ));
    for (index, case) in cases.iter().enumerate() {
        say(&format!("{:>4} {case}", index + 1));
    }
    let failures = run_all(&cases, &programs, seed);
    say(&format!("real QEMU: {} passed, {} failed", cases.len() - failures.len(), failures.len()));
    assert!(failures.is_empty(), "the lines marked FAILED say what and why");
}

/// Runs the cases, some at a time, with a line for each; returns the failures.
fn run_all(cases: &[Case], programs: &Programs, seed: u64) -> Vec<String> {
    let is_control = is_set("LANDFALL_QEMU_CONTROL");
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let start = Instant::now();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else {
                return;
            };
            let case_start = Instant::now();
            let verdict = if is_control {
                run::into_control(case, programs, seed)
            } else {
                run::into_landfall(case, programs, seed)
            };
            let line = describe(index, cases.len(), case, case_start.elapsed(), &verdict);
            say(&line);
            if verdict.is_err() {
                failures.lock().expect("no holder panics").push(line);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
    say(&format!("the cases took {:.0} s", start.elapsed().as_secs_f64()));
    failures.into_inner().expect("no holder panics")
}

fn describe(
    index: usize,
    count: usize,
    case: &Case,
    took: Duration,
    verdict: &Result<Moved, String>,
) -> String {
    let place = format!("[{:>2}/{count}] {:>5.1} s", index + 1, took.as_secs_f64());
    match verdict {
        Ok(Moved { normal, duplicate, rounds }) => {
            format!("{place} ok     {case}  normal {normal}, zero {duplicate}, rounds {rounds}")
        }
        Err(error) => format!("{place} FAILED {case}\n    {error}"),
    }
}

/// The programs. `None`, and said, where QEMUs are missing and may be.
fn programs() -> Option<Programs> {
    let landfall = env::var_os("LANDFALL_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_landfall")), PathBuf::from);
    match found::qemus() {
        Ok(qemus) => Some(Programs { landfall, qemus }),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

/// The programs with one of this version, which hosts may lack that have the usual ones.
fn programs_with(version: &str) -> Option<Programs> {
    let programs = programs()?;
    if let Err(why) = found::of_major(version, &programs.qemus) {
        skip(&why);
        return None;
    }
    Some(programs)
}

fn wants_hugepages(case: &Case) -> bool {
    matches!(case.memory, Memory::Huge | Memory::HugePool)
}

fn borrow_hugepages(cases: &[Case]) -> Result<Option<HugepageLoan>, String> {
    if cases.iter().any(wants_hugepages) {
        HugepageLoan::take(HUGEPAGES_EACH * AT_A_TIME as u64).map(Some)
    } else {
        Ok(None)
    }
}

/// Tests that start QEMUs take turns: two cores hold no more than one of them.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed in its turn has nothing left behind.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The seed of the guests' memory.
fn seed() -> u64 {
    landfall_seed::given().unwrap_or(SEED)
}

/// A skip is a failure where everything is required.
fn skip(why: &str) {
    assert!(!is_set("LANDFALL_REQUIRE_ALL"), "required, but: {why}");
    say(&format!("SKIPPED: {why}"));
}

/// Prints past the test harness's capture: progress is of use only at once.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn one_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| value != "0" && !value.is_empty())
}

/// Runs at once: a run waits for timers about as long as it computes.
const AT_A_TIME: usize = 2;
/// 2 MiB pages for one run: a pool of 128 MiB that is too small for a guest of
/// two large blocks, so that these and every small block lie beside it.
const HUGEPAGES_EACH: u64 = 256;
/// The memory's seed unless LANDFALL_SEED says another.
const SEED: u64 = 1;
