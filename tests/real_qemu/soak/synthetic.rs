//! A run of the synthetic source: as a program that may be killed, or as a library
//! with faults.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use landfall_bench::Plan;
use landfall_bench::send::{End, Fault, Progress, SendOptions, send};

use super::arrival::{compare, compare_counts};
use super::chance::{Ended, Must};
use super::guest::Synthetic;
use super::receiver::{Receiver, Settings};
use super::way::{SourceEnd, Way};
use super::{Done, Run, faults};
use crate::process::Process;

/// Sends a guest, as chance has it.
pub(super) fn run(
    run: &Run<'_>,
    random: &mut Rng,
    receiver: &mut Receiver,
) -> Result<Done, String> {
    let source = Synthetic::by_chance(run.scratch, random)?;
    let plan = Plan::new(source.config.clone()).map_err(|error| error.to_string())?;
    let way = source.way;
    let fate = Fate::by_chance(&plan, way, run, random);
    let folder = format!("{}/", run.scratch.display());
    let text = format!("send {} {fate:?}", source.arguments.join(" ").replace(&folder, ""));
    let with_text = |error: String| format!("{text}: {error}");
    let settings = Settings {
        channels: (!run.is_derived).then_some(source.config.channels),
        switchover_ack: source.config.switchover_ack,
    };
    let to = way.open(run.scratch, receiver, settings).map_err(with_text)?;
    let listening = to.listening().map(str::to_owned);
    let must = match &fate {
        Fate::Well => program(&source, run, to, None).map(|()| Must::Complete),
        Fate::Killed { ms } => program(&source, run, to, Some(*ms)).map(|()| Must::Either),
        Fate::Faulty { fault, must } => {
            library(&plan, to, fault, source.pace, *must).map(|()| *must)
        }
    }
    .map_err(with_text)?;
    way.read_saved(run.scratch, receiver, settings).map_err(with_text)?;
    let end = receiver.ended(listening.as_deref()).map_err(with_text)?;
    let ended = if must.judge(&end.report).map_err(with_text)? {
        compare(&plan, receiver.run_directory())
            .and_then(|()| compare_counts(&plan, &end.report))
            .map_err(with_text)?;
        Ended::Completed { is_real: false, is_whole: true }
    } else if must == Must::Either || matches!(fate, Fate::Faulty { fault: Fault::Kill { .. }, .. })
    {
        Ended::Killed
    } else {
        Ended::Failed
    };
    Ok(Done { ended, line: format!("{ended:<9} {way} {text}"), report: end.report })
}

/// What becomes of a source.
#[derive(Debug)]
enum Fate {
    Well,
    /// The program, after so long.
    Killed {
        ms: u64,
    },
    Faulty {
        fault: Fault,
        must: Must,
    },
}

impl Fate {
    fn by_chance(plan: &Plan, way: Way, run: &Run<'_>, random: &mut Rng) -> Self {
        match random.usize(..8) {
            0 => Self::Killed { ms: random.u64(..500) },
            1 | 2 => {
                let (fault, must) = faults::by_chance(plan, way, run, random);
                Self::Faulty { fault, must }
            }
            _ => Self::Well,
        }
    }
}

/// `landfall send`, to its own good end or for so many milliseconds.
fn program(
    source: &Synthetic,
    run: &Run<'_>,
    to: SourceEnd,
    dies_ms: Option<u64>,
) -> Result<(), String> {
    let uri = to.uri()?;
    let arguments = ["send", &uri].into_iter().chain(source.arguments.iter().map(String::as_str));
    let log = run.scratch.join("send.log");
    let mut process = Process::start(&run.programs.landfall, arguments, log)?;
    drop(to);
    if let Some(ms) = dies_ms {
        thread::sleep(Duration::from_millis(ms));
        return Ok(()); // dropped is killed
    }
    let status = process.wait(SEND_LIMIT)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("landfall send ended with {status}: {}", process.log()))
    }
}

/// Sends it with a fault. The receiver's verdict counts, but the source must be
/// content where the run must complete.
fn library(
    plan: &Plan,
    to: SourceEnd,
    fault: &Fault,
    pace: Option<u64>,
    must: Must,
) -> Result<(), String> {
    let target = to.into_target()?;
    let options = SendOptions {
        bytes_per_second: pace,
        reply_timeout: Some(SEND_LIMIT),
        faults: vec![fault.clone()],
        ..SendOptions::default()
    };
    let end = send(plan, &target, &options, &Progress::new()).end;
    if must == Must::Complete && end != End::Completed {
        return Err(format!("the source ended with {end:?}"));
    }
    Ok(())
}

/// Longest time for a source: it sends at most 1 GiB.
const SEND_LIMIT: Duration = Duration::from_secs(120);
