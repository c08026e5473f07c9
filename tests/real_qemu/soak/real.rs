//! A run of a real QEMU, which may be killed.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::chance::{Ended, Must};
use super::receiver::{Listening, Receiver};
use super::{Done, Run, ram_file};
use crate::case::{self, Extra, Guest};
use crate::destination::Received;
use crate::machine::MemoryFile;
use crate::memory_file;
use crate::random::Random;
use crate::run::verify;
use crate::source::Source;

/// Migrates a machine of this QEMU, as chance has it.
pub(super) fn run(
    run: &Run<'_>,
    qemu: &str,
    random: &mut Random,
    receiver: &mut Receiver,
) -> Result<Done, String> {
    let case = case::by_chance(qemu, random);
    let dies_ms = random.one_in(4).then(|| match case.guest {
        Guest::Paused => random.below(600),
        Guest::Running => random.below(3000),
    });
    let memory_seed = random.next();
    let text = case.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let dies = dies_ms.map_or_else(String::new, |ms| format!(" killed after {ms} ms"));
    let with_case = |error: String| format!("{text}{dies}: {error}");
    let mut source = Source::start(&case, run.programs.qemu(&case)?, run.scratch, memory_seed)
        .map_err(with_case)?;
    let uri = receiver
        .listen(&Listening {
            transport: case.transport,
            channels: (!run.is_derived).then_some(case.channels),
            switchover_ack: case.extra == Extra::SwitchoverAck,
        })
        .map_err(with_case)?;
    let (ended, report) = match dies_ms {
        None => {
            let state = source.migrate(&uri).map_err(with_case)?;
            let end = receiver.ended(&uri).map_err(with_case)?;
            Must::Complete.judge(&end.report).map_err(with_case)?;
            let received = Received {
                report: end.report,
                query_migrate: Some(end.query_migrate),
                run_directory: receiver.run_directory().to_owned(),
            };
            verify(&case, &mut source, &state, &received).map_err(with_case)?;
            (Ended::Completed { is_real: true }, received.report)
        }
        Some(ms) => {
            source.begin(&uri).map_err(with_case)?;
            thread::sleep(Duration::from_millis(ms as u64));
            let memory = source.kill();
            let end = receiver.ended(&uri).map_err(with_case)?;
            let ended = if Must::Either.judge(&end.report).map_err(with_case)? {
                compare(&memory, &end.report, receiver).map_err(with_case)?;
                Ended::Completed { is_real: true }
            } else {
                Ended::Killed
            };
            (ended, end.report)
        }
    };
    Ok(Done { ended, line: format!("{ended:<9} {text}{dies}"), report })
}

/// Compares what a dead source has left with what came.
fn compare(memory: &[MemoryFile], report: &Value, receiver: &Receiver) -> Result<(), String> {
    let mut compared = 0;
    for block in report["blocks"].as_array().into_iter().flatten() {
        let name = block["name"].as_str().unwrap_or_default();
        let Some(truth) = memory.iter().find(|file| file.is_below(name)) else { continue };
        let file = ram_file(receiver.run_directory(), name);
        let difference = memory_file::difference(&truth.path, &file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        if let Some(difference) = difference {
            return Err(format!("block {name}: {difference}"));
        }
        compared += 1;
    }
    if compared == memory.len() {
        Ok(())
    } else {
        Err(format!("of {} memory files {compared} are blocks of {report}", memory.len()))
    }
}
