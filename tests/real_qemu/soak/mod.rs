//! The soak: one receiver that is never restarted takes run after run, of real
//! QEMUs and of the synthetic source, in forms and with deaths as chance has it.
//!
//! After each run that completed RAM is compared; after every run the process is
//! looked at, and in the end its memory, descriptors and threads must be flat.
//! The first thing that is wrong ends it, and its files are kept. Set in the
//! environment:
//!
//! - `LANDFALL_SOAK_SECONDS=N`: how long; some seconds without it;
//! - `LANDFALL_SEED=N`: all that chance decides, as a failure prints it;
//! - `LANDFALL_SOAK_FROM=N`: begins with the run of this number.

mod arrival;
mod chance;
mod faults;
mod guest;
mod real;
mod receiver;
mod synthetic;
mod vitals;
mod way;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use serde_json::Value;

use crate::run::Programs;
use crate::{programs, say, turn};
use chance::Ended;
use receiver::Receiver;
use vitals::Vitals;

#[test]
fn soak_one_receiver_takes_run_after_run_and_stays_as_it_is() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    let limit = Duration::from_secs(number("LANDFALL_SOAK_SECONDS").unwrap_or(SECONDS));
    let seed = landfall_seed::given().unwrap_or_else(short_seed);
    let scratch = scratch().expect("a scratch directory");
    let length = limit.as_secs();
    say(&format!("soak: {length} s, LANDFALL_SEED={seed} LANDFALL_SOAK_SECONDS={length}"));
    match soak(&programs, scratch.path(), limit, seed) {
        Ok(summary) => say(&summary),
        Err(error) => {
            let kept = scratch.keep();
            panic!(
                "LANDFALL_SEED={seed} LANDFALL_SOAK_SECONDS={length}, files in {}: {error}",
                kept.display()
            );
        }
    }
}

fn soak(programs: &Programs, scratch: &Path, limit: Duration, seed: u64) -> Result<String, String> {
    let start = Instant::now();
    let mut receiver = Receiver::start(&programs.landfall, scratch)?;
    let mut tally = Tally::default();
    let first = number("LANDFALL_SOAK_FROM").unwrap_or(0);
    let mut index = first;
    while start.elapsed() < limit || index < first + RUNS_MIN {
        let run_scratch = scratch.join(format!("source-{index}"));
        fs::create_dir(&run_scratch)
            .map_err(|error| format!("{}: {error}", run_scratch.display()))?;
        // A run depends on the seed and its number alone.
        let mut random = Rng::with_seed(seed ^ index << 32).fork();
        let run = Run {
            programs,
            scratch: &run_scratch,
            is_derived: index * SECONDS_A_RUN < limit.as_secs() / DERIVED_SHARE,
            is_long: limit >= LONG,
        };
        let run_start = Instant::now();
        let done = if index.is_multiple_of(2) {
            synthetic::run(&run, &mut random, &mut receiver)
        } else {
            let qemu = if index % 4 == 1 { "7.2" } else { "10.0" };
            real::run(&run, qemu, &mut random, &mut receiver)
        };
        let took = run_start.elapsed().as_secs_f64();
        let done = done.map_err(|error| {
            receiver.blame(&format!("run {index} (LANDFALL_SOAK_FROM={index}): {error}"))
        })?;
        let vitals = receiver.vitals(&done.report, &tally.vitals)?;
        say(&format!("{index:>5} {took:>5.1} s {} | {vitals}", done.line));
        tally.add(&done, vitals);
        // Of a run that went as it must nothing is wanted any more.
        fs::remove_dir_all(&run_scratch).map_err(|error| error.to_string())?;
        index += 1;
    }
    receiver.quit()?;
    if tally.unsent > 1 + tally.real / UNSENT_SHARE {
        return Err(format!("too often a store was not sent: {}", tally.summary()));
    }
    let flat = vitals::check_flat(&tally.vitals)?;
    Ok(format!("{} in {:.0} s; {flat}", tally.summary(), start.elapsed().as_secs_f64()))
}

/// What is known before chance speaks.
struct Run<'a> {
    programs: &'a Programs,
    /// An empty directory for the source.
    scratch: &'a Path,
    /// The receiver is not told of multifd: it derives the channel count.
    is_derived: bool,
    /// There is time for faults that nothing but a timeout ends.
    is_long: bool,
}

/// A run that ended as it might.
struct Done {
    ended: Ended,
    /// For people.
    line: String,
    report: Value,
}

#[derive(Default)]
struct Tally {
    completed: u64,
    real: u64,
    unsent: u64,
    killed: u64,
    failed: u64,
    wire_bytes: u64,
    vitals: Vec<Vitals>,
}

impl Tally {
    fn add(&mut self, done: &Done, vitals: Vitals) {
        match done.ended {
            Ended::Completed { is_real, is_whole } => {
                self.completed += 1;
                self.real += u64::from(is_real);
                self.unsent += u64::from(!is_whole);
            }
            Ended::Killed => self.killed += 1,
            Ended::Failed => self.failed += 1,
        }
        self.wire_bytes += done.report["wire"]["bytes"].as_u64().unwrap_or(0);
        self.vitals.push(vitals);
    }

    fn summary(&self) -> String {
        let Self { completed, real, unsent, killed, failed, wire_bytes, vitals } = self;
        format!(
            "soak: {} runs: {completed} completed and compared ({real} of real QEMUs, \
             {unsent} with a store unsent), {killed} killed, {failed} failed as they must; {:.1} GiB received",
            vitals.len(),
            *wire_bytes as f64 / f64::from(1 << 30),
        )
    }
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Short, as it is to be pasted.
fn short_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_micros()) + 1)
}

/// In memory where the host has a place for that: an hour writes a lot.
fn scratch() -> Result<tempfile::TempDir, String> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    tempfile::Builder::new()
        .prefix("landfall-soak-")
        .tempdir_in(&parent)
        .map_err(|error| format!("no scratch directory in {}: {error}", parent.display()))
}

/// The file of a RAM block in a run directory.
fn ram_file(run_directory: &Path, block: &str) -> PathBuf {
    run_directory.join("ram").join(format!("{}.ram", crate::run::escaped(block)))
}

/// How long without being told.
const SECONDS: u64 = 20;
/// Runs however short the time: each kind of source, twice.
const RUNS_MIN: u64 = 8;
/// A run takes about so long: what part of the runs is derived must not depend
/// on how long they take.
const SECONDS_A_RUN: u64 = 2;
/// One of so many runs derives its channel count: the first, as it is over with
/// that once multifd was named.
const DERIVED_SHARE: u64 = 5;
/// Real sources that may fail to send a store of their guest: one, and one of so many.
const UNSENT_SHARE: u64 = 100;
/// From here on a timeout or two do not matter.
const LONG: Duration = Duration::from_secs(600);
