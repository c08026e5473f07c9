//! A run of a real QEMU, which may be killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use landfall_bench::writing_guest::WALKS_AT;
use serde_json::Value;

use super::chance::{Ended, Must};
use super::receiver::{Receiver, Settings};
use super::{Done, Run, ram_file};
use crate::case::{self, Case, Extra, Guest, Tls};
use crate::destination::Received;
use crate::machine::MemoryFile;
use crate::memory_file::{self, PAGE_BYTES};
use crate::run::verify;
use crate::source::Source;

/// Migrates a machine of this QEMU, as chance has it.
pub(super) fn run(
    run: &Run<'_>,
    qemu: &str,
    random: &mut Rng,
    receiver: &mut Receiver,
) -> Result<Done, String> {
    // The one receiver of a soak is told once whether it is under TLS.
    let case = Case { tls: Tls::Off, ..case::by_chance(qemu, random) };
    let dies_ms = (random.u8(..4) == 0).then(|| match case.guest {
        Guest::Paused => random.usize(..600),
        Guest::Running => random.usize(..3000),
    });
    let memory_seed = random.u64(..);
    let text = case.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let dies = dies_ms.map_or_else(String::new, |ms| format!(" killed after {ms} ms"));
    let with_case = |error: String| format!("{text}{dies}: {error}");
    let mut source = Source::start(&case, run.programs.qemu(&case)?, run.scratch, memory_seed)
        .map_err(with_case)?;
    let settings = Settings {
        channels: (!run.is_derived).then_some(case.channels),
        switchover_ack: case.extra == Extra::SwitchoverAck,
    };
    let uri = receiver.listen(case.transport, settings).map_err(with_case)?;
    let (end, memory, verdict) = match dies_ms {
        None => {
            let state = source.migrate(&uri).map_err(with_case)?;
            let end = receiver.ended(Some(&uri)).map_err(with_case)?;
            Must::Complete.judge(&end.report).map_err(with_case)?;
            let received = Received {
                report: end.report.clone(),
                query_migrate: Some(end.query_migrate.clone()),
                run_directory: receiver.run_directory().to_owned(),
            };
            let verdict = verify(&case, &mut source, &state, &received).map(drop);
            (end, source.kill(), verdict)
        }
        Some(ms) => {
            source.begin(&uri).map_err(with_case)?;
            thread::sleep(Duration::from_millis(ms as u64));
            let memory = source.kill();
            let end = receiver.ended(Some(&uri)).map_err(with_case)?;
            if !Must::Either.judge(&end.report).map_err(with_case)? {
                let line = format!("{:<9} {text}{dies}", Ended::Killed);
                return Ok(Done { ended: Ended::Killed, line, report: end.report });
            }
            let verdict = compare(&memory, &end.report, receiver);
            (end, memory, verdict)
        }
    };
    let unsent = match verdict {
        Ok(()) => None,
        Err(error) if qemu == "7.2" && case.guest == Guest::Running => {
            let store = unsent_store(&memory, &end.report, receiver).map_err(with_case)?;
            Some(store.ok_or_else(|| with_case(error))?)
        }
        Err(error) => return Err(with_case(error)),
    };
    let ended = Ended::Completed { is_real: true, is_whole: unsent.is_none() };
    let unsent = unsent.map_or_else(String::new, |at| format!(" UNSENT STORE at {at:#x}"));
    Ok(Done { ended, line: format!("{ended:<9} {text}{dies}{unsent}"), report: end.report })
}

/// Compares what a dead source has left with what came.
fn compare(memory: &[MemoryFile], report: &Value, receiver: &Receiver) -> Result<(), String> {
    let pairs = pairs(memory, report, receiver);
    for (truth, file) in &pairs {
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        if let Some(difference) = memory_file::difference(truth, file).map_err(failed)? {
            return Err(format!("{}: {difference}", file.display()));
        }
    }
    let compared = pairs.len();
    if compared == memory.len() {
        Ok(())
    } else {
        Err(format!("of {} memory files {compared} are blocks of {report}", memory.len()))
    }
}

/// Where the one place is in which memory differs, if that may be the doing of
/// QEMU 7.2.
///
/// Its stream may lack what its guest wrote in the moments before it stopped:
/// seen with 7.2.22 under TCG in what it writes to a file (`exec:`), nearly
/// always if the guest is interrupted 4000 times a second, and never with 10.0.
/// With 18 ticks a second it is one run in a hundred, and then what shows is a
/// variable of the BIOS. A single store of the BIOS to low memory is let pass, and
/// counted; none of the guest itself is, and no second place.
fn unsent_store(
    memory: &[MemoryFile],
    report: &Value,
    receiver: &Receiver,
) -> Result<Option<usize>, String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut store = None;
    for (truth, file) in pairs(memory, report, receiver) {
        let (whole, copy) = (read(truth)?, read(&file)?);
        if truth == memory[0].path {
            store = lone_store(&whole, &copy);
        } else if whole != copy {
            return Ok(None);
        }
    }
    Ok(store)
}

/// Where a copy of main memory differs, if it does so in one store of the BIOS.
fn lone_store(truth: &[u8], copy: &[u8]) -> Option<usize> {
    if truth.len() != copy.len() {
        return None;
    }
    let mut differing = (0..truth.len()).filter(|&at| truth[at] != copy[at]);
    let first = differing.next()?;
    let last = differing.next_back().unwrap_or(first);
    let is_counter = first / PAGE_BYTES == WALKS_AT as usize / PAGE_BYTES;
    (last < BIOS_END && last - first < STORE_BYTES && !is_counter).then_some(first)
}

/// The source's memory files, and the files of the same blocks that came.
fn pairs<'a>(
    memory: &'a [MemoryFile],
    report: &Value,
    receiver: &Receiver,
) -> Vec<(&'a Path, PathBuf)> {
    let names = report["blocks"].as_array().into_iter().flatten();
    names
        .filter_map(|block| {
            let name = block["name"].as_str()?;
            let truth = memory.iter().find(|file| file.is_below(name))?;
            Some((truth.path.as_path(), ram_file(receiver.run_directory(), name)))
        })
        .collect()
}

/// Low memory, where the BIOS has its variables and stacks.
const BIOS_END: usize = 1 << 20;
/// The most that one instruction of the BIOS writes.
const STORE_BYTES: usize = 4;

#[test]
fn one_store_to_low_memory_is_let_pass_and_nothing_else() {
    let truth = vec![0; 2 * BIOS_END];
    let found = |places: &[usize]| {
        let mut copy = truth.clone();
        places.iter().for_each(|&at| copy[at] = 1);
        lone_store(&truth, &copy)
    };
    assert_eq!(found(&[0xe8cd0]), Some(0xe8cd0));
    assert_eq!(found(&[0xe8cd0, 0xe8cd3]), Some(0xe8cd0));
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[0xe8cd0, 0xe8cd4]), None, "two stores");
    assert_eq!(found(&[0xe8cd0, 0xe9cd0]), None, "two pages");
    assert_eq!(found(&[WALKS_AT as usize]), None, "the guest's own");
    assert_eq!(found(&[BIOS_END]), None, "where the guest walks");
    assert_eq!(lone_store(&truth, &truth[1..]), None, "another size");
}
