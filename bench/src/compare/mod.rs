//! Side by side: the same migration into the bare ceiling, an installed QEMU, and landfall.
//!
//! One run after the other on one machine, all contenders in turn, so that what the machine does
//! meanwhile falls on all of them. Every figure is of the destination's whole process: its CPU
//! clock just before the source is told to migrate, and again when the destination has everything.
//! What was used before that (memory mapped, prefaulted) is told apart.

mod ceiling_child;
mod content;
mod destination;
mod paired;
mod process;
mod qmp;
mod scenario;
mod source;

pub use ceiling_child::run as run_ceiling;
pub use content::{Content, Kind};
pub use paired::{Ratio, median};
pub use scenario::{SCENARIOS, Scenario};

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use destination::Destination;
use source::Source;

/// What is compared, and with what.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The migration.
    pub scenario: Scenario,
    /// Guest RAM, bytes.
    pub ram_bytes: u64,
    /// How often each contender runs.
    pub pairs: usize,
    /// This landfall.
    pub landfall: PathBuf,
    /// The QEMU at both ends; without one, the synthetic source and no QEMU as destination.
    pub qemu: Option<PathBuf>,
    /// A recording in place of a source; `scenario` is [`Scenario::recorded`] then, and QEMU's
    /// destination must have the recorded guest's shape: q35 and nothing else.
    pub recording: Option<PathBuf>,
    /// A directory with the files of QEMU's `tls-creds-x509`, for both ends.
    pub tls_creds: Option<PathBuf>,
    /// Where the guest's memory lies and sockets are made: best a tmpfs.
    pub scratch: PathBuf,
}

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Blocking receives that parse nothing.
    BlockingCeiling,
    /// A ring that parses nothing.
    RingCeiling,
    /// QEMU with memory as it comes.
    QemuDefault,
    /// QEMU with prefaulted hugepages.
    QemuHugepages,
    /// landfall with memory as it comes: no pool.
    LandfallDefault,
    /// landfall with a pool of hugepages.
    LandfallHugepages,
}

impl Contender {
    /// True for this landfall.
    #[must_use]
    pub fn is_landfall(self) -> bool {
        matches!(self, Self::LandfallDefault | Self::LandfallHugepages)
    }

    /// True if its memory is there, in hugepages, before the migration begins.
    #[must_use]
    pub fn is_prefaulted(self) -> bool {
        !matches!(self, Self::QemuDefault | Self::LandfallDefault)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BlockingCeiling => "ceiling, blocking",
            Self::RingCeiling => "ceiling, ring",
            Self::QemuDefault => "QEMU, default memory",
            Self::QemuHugepages => "QEMU, hugepages",
            Self::LandfallDefault => "landfall, default memory",
            Self::LandfallHugepages => "landfall, hugepages",
        })
    }
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

/// All runs of one contender.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Who.
    pub contender: Contender,
    /// In the order of the rounds.
    pub costs: Vec<Cost>,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// GiB of guest RAM.
    pub ram_gib: f64,
    /// One for each contender.
    pub series: Vec<Series>,
}

impl Outcome {
    /// The runs of a contender.
    #[must_use]
    pub fn of(&self, contender: Contender) -> Option<&Series> {
        self.series.iter().find(|series| series.contender == contender)
    }

    /// The better of the two ceilings by its median CPU time.
    #[must_use]
    pub fn ceiling(&self) -> Option<&Series> {
        let both = [Contender::BlockingCeiling, Contender::RingCeiling];
        let there = both.into_iter().filter_map(|one| self.of(one));
        there.min_by(|a, b| a.median(|c| c.cpu_s).total_cmp(&b.median(|c| c.cpu_s)))
    }
}

impl Series {
    /// The median of one figure.
    #[must_use]
    pub fn median(&self, figure: impl Fn(&Cost) -> f64) -> f64 {
        median(self.costs.iter().map(figure))
    }
}

/// What keeps a comparison from being made.
#[derive(Debug, thiserror::Error)]
#[error("{contender}: {reason}")]
pub struct CompareError {
    contender: Contender,
    reason: String,
}

/// Runs every contender `pairs` times, in turn; `tell` hears of each run.
///
/// # Errors
/// The first run that did not complete.
pub fn compare(
    comparison: &Comparison,
    tell: &mut dyn FnMut(Contender, &Cost),
) -> Result<Outcome, CompareError> {
    let contenders = comparison.contenders();
    let memory = comparison.scratch.join("source.memory");
    let failed = |contender| move |reason| CompareError { contender, reason };
    if comparison.qemu.is_some() && comparison.recording.is_none() {
        comparison
            .scenario
            .content
            .write(&memory, comparison.ram_bytes)
            .map_err(|error| format!("{}: {error}", memory.display()))
            .map_err(failed(contenders[0]))?;
    }
    let mut series: Vec<Series> =
        contenders.iter().map(|&contender| Series { contender, costs: Vec::new() }).collect();
    for round in 0..comparison.pairs {
        // Who goes first changes, so that nobody always has the warmer machine.
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let contender = contenders[at];
            let cost = comparison.run(contender, &memory).map_err(failed(contender))?;
            tell(contender, &cost);
            series[at].costs.push(cost);
        }
    }
    let _ = fs::remove_file(&memory);
    Ok(Outcome { ram_gib: comparison.ram_bytes as f64 / GIB, series })
}

impl Comparison {
    fn contenders(&self) -> Vec<Contender> {
        use Contender::{
            BlockingCeiling, LandfallDefault, LandfallHugepages, QemuDefault, QemuHugepages,
            RingCeiling,
        };
        let Scenario { has_ceiling, is_default_memory, .. } = self.scenario;
        let all = match (has_ceiling, is_default_memory) {
            (_, true) => vec![QemuDefault, LandfallDefault],
            (true, false) => {
                vec![BlockingCeiling, RingCeiling, QemuDefault, QemuHugepages, LandfallHugepages]
            }
            (false, false) => vec![QemuDefault, QemuHugepages, LandfallHugepages],
        };
        let has_qemu = self.qemu.is_some();
        let is_possible = |one: &Contender| has_qemu || !matches!(one, QemuDefault | QemuHugepages);
        all.into_iter().filter(is_possible).collect()
    }

    /// One run, from two fresh processes to the end.
    fn run(&self, contender: Contender, memory: &Path) -> Result<Cost, String> {
        let mut destination = Destination::start(self, contender)?;
        let mut source = Source::start(self, memory)?;
        let source_before = source.cpu_s()?;
        let before = destination.cpu()?;
        let begin = Instant::now();
        source.migrate(destination.uri())?;
        destination.wait_for_all(&mut source)?;
        let wall_s = begin.elapsed().as_secs_f64();
        let after = destination.cpu()?;
        let source_s = source.cpu_s()? - source_before;
        source.check()?;
        destination.check()?;
        Ok(Cost {
            wall_s,
            cpu_s: after.total_s - before.total_s,
            user_s: after.user_s - before.user_s,
            system_s: after.system_s - before.system_s,
            startup_s: before.total_s,
            source_s,
        })
    }
}

const GIB: f64 = (1u64 << 30) as f64;
