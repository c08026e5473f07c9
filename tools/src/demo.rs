//! `landfall demo`: receiver and synthetic source together, over loopback.

use std::sync::Arc;

use landfall_bench::plan::Plan;
use landfall_bench::send::{End, Outcome, Progress, SendOptions, Stop, Target, send};
use landfall_bench::verify::verify;
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Migration, Receiver, allowed_cpus};
use landfall_receiver::report;

use crate::cli::DemoArguments;
use crate::exit::{Exit, Failure, exit_of};
use crate::live::{Live, prefault_progress};
use crate::receive::host_config;
use crate::{standard_error, standard_output, stop, table};

/// Receives a synthetic guest, verifies every page of it, and shows the
/// figures.
pub(crate) fn run(arguments: &DemoArguments, quiet: bool) -> Result<Exit, Failure> {
    let config = crate::send::config(arguments.ram, arguments.multifd, &arguments.source);
    let plan = Plan::new(config).map_err(Failure::usage)?;
    let mut host = host_config(&arguments.host, None)?;
    if host.memory.pool_bytes == 0 {
        host.memory.pool_bytes = plan.config().ram_bytes() + POOL_SLACK_BYTES;
    }
    let progress = prefault_progress(host.memory.pool_bytes, quiet);
    let receiver =
        Receiver::new(host, Arc::new(|_, _| {}), &|done, _| progress.set_position(done))?;
    progress.finish_and_clear();
    if !quiet {
        standard_error::line(receiver.memory());
    }
    let receiver = Arc::new(receiver);
    let address = Address::parse("tcp:127.0.0.1:0").map_err(Failure::usage)?;
    let incoming = Incoming { channels: Some(arguments.multifd), ..Incoming::default() };
    let migration = receiver.start(&[address], incoming, &mut |_| None)?;
    let options = SendOptions { stop: Stop::new(), ..SendOptions::default() };
    let (stopper, stop) = (Arc::clone(&receiver), options.stop.clone());
    stop::on_signal(move || {
        stop.stop();
        stopper.stop();
    })?;
    let outcome = migrate(&migration, &plan, &options, quiet)?;
    finish(&migration, &plan, &outcome, quiet)
}

fn migrate(
    migration: &Migration,
    plan: &Plan,
    options: &SendOptions,
    quiet: bool,
) -> Result<Outcome, Failure> {
    let port = migration.socket_address[0]["port"].as_str().unwrap_or_default();
    let target: Target = format!("tcp:127.0.0.1:{port}").parse().map_err(Failure::usage)?;
    Ok(std::thread::scope(|scope| {
        let source = scope.spawn(|| {
            let outcome = send(plan, &target, options, &Progress::new());
            if outcome.end != End::Completed {
                // A source that never connected would be waited for.
                migration.run.fail(landfall_receiver::error::RunError::new(
                    landfall_receiver::error::Family::Misbehaved,
                    format!("the source ended: {}", outcome.end),
                ));
            }
            outcome
        });
        Live::new(quiet, None).follow(migration);
        source.join().expect("the source does not panic")
    }))
}

fn finish(
    migration: &Migration,
    plan: &Plan,
    outcome: &Outcome,
    quiet: bool,
) -> Result<Exit, Failure> {
    let ended = migration.wait();
    if !quiet {
        table::print(&report::summary(migration), false)?;
        standard_output::line(format_args!("{:#}", report::query_migrate(Some(migration))))?;
    }
    if let Some(error) = &ended.error {
        standard_error::line(format_args!(
            "landfall: migration failed ({}): {error}",
            error.family
        ));
        return Ok(exit_of(error));
    }
    if outcome.end != End::Completed {
        standard_error::line(format_args!("landfall: the source ended: {}", outcome.end));
        return Ok(Exit::Failed);
    }
    let ram = ended.received.ram.as_ref().expect("a completed run has RAM");
    let read = |block: u16, offset: u64, out: &mut [u8]| {
        ram[usize::from(block)].read(offset, out);
        Ok(())
    };
    match verify(plan, allowed_cpus().len(), read) {
        Ok(verified) => {
            if !quiet {
                standard_output::line(format_args!(
                    "every page is right: {} pages verified against seed {}, {} of them zero",
                    verified.pages,
                    plan.config().seed,
                    verified.zero
                ))?;
            }
            Ok(Exit::Ok)
        }
        Err(error) => {
            standard_error::line(format_args!("landfall: {error}"));
            Ok(Exit::Failed)
        }
    }
}

/// Room for the small blocks' alignment.
const POOL_SLACK_BYTES: u64 = 16 << 20;
