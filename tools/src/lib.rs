//! The command `landfall`, as a library that its binary and the fuzzers call.

mod cli;
mod compare;
mod demo;
mod exit;
pub mod fuzzing;
mod live;
mod logging;
mod output_paths;
mod plan;
mod receive;
mod record;
mod replay;
mod send;
mod sizes;
mod standard_error;
mod standard_output;
mod stop;
mod table;
mod verify;

use clap::Parser;

use cli::{Cli, Command};
use exit::{Exit, Failure};

/// The whole command: reads the process's arguments, returns its exit code.
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose, cli.quiet);
    let result = stop::outlive_file_limits().and_then(|()| run(cli));
    let exit = result.unwrap_or_else(|failure| {
        standard_error::line(format_args!("landfall: {failure}"));
        failure.exit
    });
    exit.into()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Receive(arguments) => receive::run(*arguments, cli.quiet),
        Command::Demo(arguments) => demo::run(&arguments, cli.quiet),
        Command::Send(arguments) => send::run(&arguments, cli.quiet),
        Command::Verify(arguments) => verify::run(&arguments, cli.quiet),
        Command::Record(arguments) => record::run(&arguments, cli.quiet),
        Command::Replay(arguments) => replay::run(&arguments, cli.quiet),
        Command::Compare(arguments) => compare::run(&arguments, cli.verbose > 0, cli.quiet),
        Command::Plan(arguments) => plan::run(&arguments, cli.quiet),
        Command::Ceiling(arguments) => compare::ceiling(&arguments),
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
