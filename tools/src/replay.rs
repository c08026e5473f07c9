//! `landfall replay`: a recording as a source.

use landfall_bench::recording::Recording;
use landfall_bench::recording::replay::{ReplayOptions, Replayed, replay, warm};
use landfall_bench::send::{Stop, Target};

use crate::cli::ReplayArguments;
use crate::exit::{Exit, Failure};
use crate::live::GIB;
use crate::{standard_error, standard_output, stop};

/// Sends a recording and says how it went.
pub(crate) fn run(arguments: &ReplayArguments, quiet: bool) -> Result<Exit, Failure> {
    let target: Target = arguments.uri.parse().map_err(Failure::usage)?;
    let recording = Recording::open(&arguments.directory).map_err(Failure::usage)?;
    if !quiet && !recording.is_complete() {
        standard_error::line(format_args!(
            "landfall: {} is not complete, the migration was cut off; it is sent as far as it went",
            arguments.directory.display()
        ));
    }
    if !arguments.cold {
        warm(&recording).map_err(Failure::host)?;
    }
    let stop = Stop::new();
    let stopper = stop.clone();
    stop::on_signal(move || stopper.stop())?;
    let (paced, reply_timeout) = (arguments.paced, arguments.reply_timeout);
    let options = ReplayOptions { paced, reply_timeout, stop };
    let replayed = replay(&recording, &target, &options).map_err(Failure::failed)?;
    if !quiet {
        tell(&replayed)?;
    }
    Ok(match replayed.cut {
        None => Exit::Ok,
        Some(connection) => {
            standard_error::line(format_args!(
                "landfall: the destination closed connection {connection} before its end"
            ));
            Exit::Failed
        }
    })
}

fn tell(replayed: &Replayed) -> Result<(), Failure> {
    let gib = replayed.bytes as f64 / GIB;
    standard_output::line(format_args!(
        "{gib:.2} GiB sent in {:.3} s, {:.2} GiB/s, {:.3} CPU-s/GiB",
        replayed.elapsed.as_secs_f64(),
        gib / replayed.elapsed.as_secs_f64(),
        replayed.cpu.as_secs_f64() / gib,
    ))?;
    standard_output::line(format_args!(
        "the destination {} as the recorded one",
        if replayed.same_replies { "answered" } else { "did not answer" }
    ))?;
    let (how, limit) = match &replayed.late {
        None => (
            format!(
                "the destination kept the replay waiting for {:.0} % of the time",
                replayed.held_share * 100.0
            ),
            ": the replay was the limit, the destination could have taken more",
        ),
        Some(late) => (
            format!(
                "at most {:.3} s later than recorded, {:.3} s at the end; by the replay's own doing \
                 at most {:.3} s",
                late.max.as_secs_f64(),
                late.end.as_secs_f64(),
                late.own_max.as_secs_f64()
            ),
            ": the replay was the limit, the source had been faster",
        ),
    };
    let limit = if replayed.was_the_bottleneck() { limit } else { "" };
    standard_output::line(format_args!("{how}{limit}"))
}
