//! `landfall send`: the synthetic source.

use landfall_bench::config::SourceConfig;
use landfall_bench::plan::Plan;
use landfall_bench::send::{End, Progress, SendOptions, Target, send};

use crate::cli::{SendArguments, SourceArguments};
use crate::exit::{Exit, Failure};
use crate::live::GIB;

/// Sends a synthetic guest and says how it ended.
pub(crate) fn run(arguments: &SendArguments, quiet: bool) -> Result<Exit, Failure> {
    let mut config = config(arguments.ram, arguments.multifd, &arguments.source);
    config.return_path = !arguments.no_return_path;
    let plan = Plan::new(config).map_err(Failure::usage)?;
    let target: Target = arguments.uri.parse().map_err(Failure::usage)?;
    let outcome = send(&plan, &target, &SendOptions::default(), &Progress::new());
    if !quiet {
        println!(
            "{:.2} GiB sent in {:.3} s, {:.2} GiB/s",
            outcome.bytes as f64 / GIB,
            outcome.elapsed.as_secs_f64(),
            outcome.bytes as f64 / GIB / outcome.elapsed.as_secs_f64(),
        );
    }
    match outcome.end {
        End::Completed => Ok(Exit::Ok),
        end => {
            eprintln!("landfall: {}", described(&end));
            Ok(Exit::Failed)
        }
    }
}

/// A guest as the options say.
pub(crate) fn config(ram: u64, channels: u8, source: &SourceArguments) -> SourceConfig {
    let mut config = SourceConfig::new(source.seed, ram, channels);
    config.rounds = source.rounds;
    config.dirty_share = f64::from(source.dirty) / 100.0;
    config.zero_share = f64::from(source.zero) / 100.0;
    config
}

/// How a source ended, for people.
pub(crate) fn described(end: &End) -> String {
    match end {
        End::Completed => "completed".to_owned(),
        End::Failed { shut } => {
            format!("the destination refused the guest (SHUT {shut}); it goes on at the source")
        }
        End::Unanswered => "the destination closed without an answer".to_owned(),
        End::BadReply { reason } => format!("the destination sent a wrong reply: {reason}"),
        End::TimedOut { awaited } => format!("no {awaited} in time"),
        End::ConnectionLost { stream, error } => format!("{stream:?}: {error}"),
        End::Stopped => "stopped".to_owned(),
        other => format!("{other:?}"),
    }
}
