//! Side by side: the same migration into the bare ceiling, an installed QEMU, and landfall.
//!
//! One run after the other on one machine, all contenders in turn, so that what the machine does
//! meanwhile falls on all of them. Every figure is of the destination's whole process: its CPU
//! clock just before the source is told to migrate, and again when the destination has everything.
//! What was used before that (memory mapped, prefaulted) is told apart. Between the two clocks
//! nobody is asked anything: the end is an event.

mod ceiling_child;
mod certificates;
mod cipher_suite;
mod contender;
mod content;
mod cpus;
mod destination;
mod guest_ram;
mod host;
mod judgement;
mod paired;
mod prepare;
mod process;
mod qmp;
mod running_guest;
mod scenario;
mod source;

pub use ceiling_child::run as run_ceiling;
pub use contender::{Contender, Entry, MemorySetup, Receiver, Sender};
pub use content::{Content, Kind};
pub use guest_ram::GuestRam;
pub use host::{facts as host_facts, now_s};
pub use judgement::{Held, HeldSource, Slope, held, held_slopes, held_sources, slopes};
pub use paired::{Ratio, median};
pub use scenario::{Guest, SCENARIOS, Scenario, text_of};

use std::{
    collections::{BTreeMap, btree_map},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use fastrand::Rng;
use landfall_receiver::cpu_list::CpuList;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use destination::Destination;
use prepare::Prepared;
use source::{Source, sent_memory};

/// What is compared, and with what.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The migration.
    pub scenario: Scenario,
    /// How often each contender runs.
    pub pairs: usize,
    /// This landfall.
    pub landfall: PathBuf,
    /// The QEMU at both ends; without one, the synthetic source and no QEMU as destination.
    pub qemu: Option<PathBuf>,
    /// A recording in place of a source; `scenario` is [`Scenario::recorded`] then, and QEMU's
    /// destination must have the recorded guest's shape: q35 and nothing else.
    pub recording: Option<PathBuf>,
    /// A directory with the files of QEMU's `tls-creds-x509`, for both ends; without it they are
    /// made.
    pub tls_creds: Option<PathBuf>,
    /// Where the guest's memory and recordings lie and sockets are made: best a tmpfs.
    pub scratch: PathBuf,
    /// Where mapped-ram files are saved: no tmpfs.
    pub disk: PathBuf,
    /// Set from outside it ends the comparison, and all that it has started.
    pub stop: Arc<AtomicBool>,
}

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// From the order to migrate until the destination had everything, seconds.
    pub wall_s: f64,
    /// CPU seconds of the destination in that time.
    pub cpu_s: f64,
    /// Of them in user space, to a clock tick.
    pub user_s: f64,
    /// Of them in the kernel, to a clock tick.
    pub system_s: f64,
    /// CPU seconds of the destination before it.
    pub startup_s: f64,
    /// CPU seconds of the source.
    pub source_s: f64,
}

impl Cost {
    /// CPU seconds of the destination from its start to the end.
    #[must_use]
    pub fn whole_s(&self) -> f64 {
        self.cpu_s + self.startup_s
    }
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Its place among all runs of the comparison, counted from 0.
    pub order: usize,
    /// When it began, seconds after the first of them.
    pub began_s: f64,
    /// What it cost.
    pub cost: Cost,
    /// Guest RAM in the destination afterwards, as the kernel has it.
    pub ram: GuestRam,
    /// What the destination has counted (`wire` and `pages` of landfall's report, the ceiling's
    /// bytes); null of QEMU, whose destination counts nothing.
    pub received: Value,
    /// What a real source has counted: `ram` of its `query-migrate`; null of others.
    pub sent: Value,
}

/// All runs of one contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Who.
    pub contender: Contender,
    /// In the order of the rounds.
    pub runs: Vec<Run>,
    /// The first run's command lines and QMP commands, of destination and source.
    pub commands: Value,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// One for each contender.
    pub series: Vec<Series>,
    /// Under TLS the cipher suite that each receiver and the source agreed about.
    pub cipher_suites: Vec<(Receiver, String)>,
    /// What the programs say that they are.
    pub programs: Value,
}

impl Series {
    /// The median of one figure.
    #[must_use]
    pub fn median(&self, figure: impl Fn(&Cost) -> f64) -> f64 {
        median(self.runs.iter().map(|run| figure(&run.cost)))
    }

    /// Guest RAM as the last run had it.
    #[must_use]
    pub fn ram(&self) -> GuestRam {
        self.runs.last().map_or_else(GuestRam::default, |run| run.ram)
    }
}

/// What keeps a comparison from being made.
#[derive(Debug, thiserror::Error)]
#[error("{of}: {reason}")]
pub struct CompareError {
    of: String,
    reason: String,
    /// It is not the migration that failed, but what was to be there before.
    pub is_before: bool,
}

/// Runs every contender `pairs` times, in turn; `tell` hears of each run.
///
/// # Errors
/// The first run that did not complete, with the logs of both ends.
pub fn compare(
    comparison: &Comparison,
    tell: &mut dyn FnMut(&Contender, &Cost),
) -> Result<Outcome, CompareError> {
    let contenders = comparison.contenders();
    let before = |of: &str, reason| CompareError { of: of.to_owned(), reason, is_before: true };
    let name = &comparison.scenario.name;
    if contenders.is_empty() {
        return Err(before(name, "QEMU is its only contender: --qemu PROGRAM".to_owned()));
    }
    let Scenario { source_cpus, receiver_cpus, .. } = &comparison.scenario;
    for (side, list) in [("source", source_cpus), ("receiver", receiver_cpus)] {
        let checked = list.as_ref().map_or(Ok(()), CpuList::check);
        checked.map_err(|reason| before(&format!("{side}-cpus"), reason))?;
    }
    let mut prepared: BTreeMap<u64, Prepared> = BTreeMap::new();
    for contender in &contenders {
        if let btree_map::Entry::Vacant(place) = prepared.entry(contender.ram_bytes) {
            let made = Prepared::new(comparison, contender);
            place.insert(made.map_err(|reason| before(name, reason))?);
        }
    }
    let mut outcome = Outcome { programs: comparison.programs(), ..Outcome::default() };
    if comparison.scenario.tls {
        for receiver in [Receiver::Qemu, Receiver::Landfall] {
            let Some(one) = contenders.iter().find(|one| one.receiver == receiver) else {
                continue;
            };
            let suite = cipher_suite::negotiated(comparison, &prepared[&one.ram_bytes], one)
                .map_err(|reason| before(&one.to_string(), reason))?;
            outcome.cipher_suites.push((receiver, suite));
        }
    }
    outcome.series = contenders
        .iter()
        .map(|&contender| Series { contender, runs: Vec::new(), commands: Value::Null })
        .collect();
    let begin = Instant::now();
    for round in 0..comparison.pairs {
        for (turn, place) in turns(round, contenders.len()).into_iter().enumerate() {
            let series = &mut outcome.series[place];
            let contender = series.contender;
            let began_s = begin.elapsed().as_secs_f64();
            let (run, commands) = comparison.run(&prepared[&contender.ram_bytes], &contender)?;
            tell(&contender, &run.cost);
            if series.runs.is_empty() {
                series.commands = commands;
            }
            let order = round * contenders.len() + turn;
            series.runs.push(Run { order, began_s, ..run });
        }
    }
    Ok(outcome)
}

/// Who goes when in a round. Each second round takes the one before it backwards, so that everybody
/// is as often early as late; between these chance decides, the same in each comparison, so that
/// nobody always follows the one who leaves the machine warmest.
fn turns(round: usize, contenders: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..contenders).collect();
    Rng::with_seed(round as u64 / 2).shuffle(&mut turns);
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

impl Comparison {
    /// An error once it has been told to stop.
    fn go_on(&self) -> Result<(), String> {
        if self.stop.load(Relaxed) { Err("stopped by a signal".to_owned()) } else { Ok(()) }
    }

    fn contenders(&self) -> Vec<Contender> {
        let mut all = self.scenario.contenders();
        all.retain(|one| self.qemu.is_some() || one.receiver != Receiver::Qemu);
        all
    }

    /// What there is to be said of the programs themselves.
    fn programs(&self) -> Value {
        json!({
            "landfall": host::program(&self.landfall),
            "qemu": self.qemu.as_deref().map(host::program),
        })
    }

    /// What the scratch directory's file system has room for.
    fn room(&self) -> Result<u64, String> {
        let space = statvfs(&self.scratch)
            .map_err(|error| format!("{}: {error}", self.scratch.display()))?;
        Ok(space.blocks_available() * space.fragment_size())
    }

    /// One run, from two fresh processes to the end.
    fn run(
        &self,
        prepared: &Prepared,
        contender: &Contender,
    ) -> Result<(Run, Value), CompareError> {
        let failed =
            |is_before| move |reason| CompareError { of: contender.to_string(), reason, is_before };
        self.go_on().map_err(failed(false))?;
        let destination = Destination::start(self, prepared, contender);
        let mut destination = destination
            .map_err(|reason| reason + contender.way_without_hugepages())
            .map_err(failed(true))?;
        let mut source = Source::start(self, prepared, contender).map_err(failed(true))?;
        let run = self.measure(prepared, contender, &mut destination, &mut source);
        run.map_err(|reason| {
            let reason = destination.cause(reason);
            let logs = [Some(destination.process()), source.process()];
            let logs = logs.into_iter().flatten().map(process::Process::log);
            let all: Vec<String> = std::iter::once(reason).chain(logs).collect();
            all.join("\n")
        })
        .map_err(failed(false))
    }

    fn measure(
        &self,
        prepared: &Prepared,
        contender: &Contender,
        destination: &mut Destination,
        source: &mut Source<'_>,
    ) -> Result<(Run, Value), String> {
        let source_before = source.cpu_s()?;
        let before = destination.cpu()?;
        let begin = Instant::now();
        match source {
            Source::None => destination.load()?,
            _ => source.migrate(destination.uri())?,
        }
        destination.wait_for_all(source, || self.go_on())?;
        let wall_s = begin.elapsed().as_secs_f64();
        let after = destination.cpu()?;
        let source_s = source.cpu_s()? - source_before;
        // From here on it may cost what it likes.
        let Scenario { source_cpus, receiver_cpus, .. } = &self.scenario;
        cpus::look(destination.process().id(), receiver_cpus.as_ref())?;
        if let Some(process) = source.process() {
            cpus::look(process.id(), source_cpus.as_ref())?;
        }
        source.check()?;
        destination.check()?;
        let cost = Cost {
            wall_s,
            cpu_s: after.total_s - before.total_s,
            user_s: after.user_s - before.user_s,
            system_s: after.system_s - before.system_s,
            startup_s: before.total_s,
            source_s,
        };
        let sent = source.counted()?.unwrap_or(Value::Null);
        let report = destination.report()?.unwrap_or(Value::Null);
        let received = json!({ "wire": report["wire"], "pages": report["pages"] });
        let of_landfall = &report["pages"];
        if contender.is_landfall() && of_landfall["unique-pages"] != of_landfall["ram-pages"] {
            return Err(format!("not every page came: {of_landfall}"));
        }
        if contender.receiver.is_ceiling() {
            check_bytes(&report["wire"]["bytes"], &sent["normal-bytes"])?;
        }
        let memory =
            sent_memory(self, prepared, contender).filter(|_| !contender.receiver.is_ceiling());
        let ram = guest_ram::look(destination.process().id(), contender.ram_bytes, memory)?;
        let commands = json!({
            "destination": destination.commands(), "source": source.commands(),
        });
        Ok((Run { cost, ram, received, sent, ..Run::default() }, commands))
    }
}

/// A ceiling looks at nothing; but all pages that the source has sent must have come, and headers
/// beside. Sources that do not tell are not held against anything.
fn check_bytes(came: &Value, sent_in_pages: &Value) -> Result<(), String> {
    match (came.as_u64(), sent_in_pages.as_u64()) {
        (Some(came), Some(sent)) if came < sent => {
            Err(format!("{came} bytes came of {sent} in pages alone"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_as_often_early_as_late_and_after_different_others() {
        for contenders in 2..6 {
            let mut sums = vec![0; contenders];
            let mut before_the_last = std::collections::BTreeSet::new();
            for round in 0..10 {
                let turns = turns(round, contenders);
                for (turn, place) in turns.iter().enumerate() {
                    sums[*place] += turn;
                }
                let last = turns.iter().position(|&place| place == contenders - 1);
                before_the_last.insert(last.and_then(|at| at.checked_sub(1)).map(|at| turns[at]));
            }
            // Places add up to the same for all: ten rounds of 0 to n - 1.
            assert_eq!(sums, vec![5 * (contenders - 1); contenders]);
            assert!(before_the_last.len() > contenders / 2, "{before_the_last:?}");
        }
    }

    #[test]
    fn a_ceiling_that_missed_bytes_is_found() {
        assert!(check_bytes(&json!(4096), &json!(4096)).is_ok());
        assert!(check_bytes(&json!(4096), &Value::Null).is_ok(), "a source that does not tell");
        let error = check_bytes(&json!(4095), &json!(4096)).unwrap_err();
        assert_eq!(error, "4095 bytes came of 4096 in pages alone");
    }
}
