//! `landfall record`: a proxy that keeps a migration.

use std::path::Path;

use landfall_bench::recording::RecordingError;
use landfall_bench::recording::record::{RecordOptions, record};
use landfall_bench::send::{Stop, Target};
use landfall_receiver::listen::{Address, FdSets, Listeners};
use nix::sys::statvfs::statvfs;

use crate::cli::RecordArguments;
use crate::exit::{Exit, Failure};
use crate::live::GIB;
use crate::{standard_error, standard_output, stop};

/// Records one migration.
pub(crate) fn run(arguments: &RecordArguments, quiet: bool) -> Result<Exit, Failure> {
    let address = Address::parse(&arguments.uri).map_err(Failure::usage)?;
    let target: Target = arguments.to.parse().map_err(Failure::usage)?;
    std::fs::create_dir_all(&arguments.directory)
        .map_err(|error| Failure::host(format!("{}: {error}", arguments.directory.display())))?;
    let max_bytes = match arguments.max_size {
        Some(bytes) => bytes,
        None => room(&arguments.directory)?.min(MAX_BYTES),
    };
    let listeners = Listeners::bind(&[address], &mut |_| None, &FdSets::default())
        .map_err(|error| Failure::host(error.to_string()))?;
    if !quiet {
        standard_error::line(format_args!(
            "landfall: recording what comes to {} and goes on to {}; each connection may send \
             {:.1} GiB",
            listening(&listeners, &arguments.uri),
            arguments.to,
            max_bytes as f64 / GIB
        ));
    }
    let stop = Stop::new();
    let stopper = stop.clone();
    stop::on_signal(move || stopper.stop())?;
    let options = RecordOptions { max_bytes, stop };
    let recorded =
        record(listeners, &target, &arguments.directory, &options).map_err(
            |error| match error {
                RecordingError::Tls { .. } => Failure::failed(error),
                error => Failure::host(error),
            },
        )?;
    if !quiet {
        let bytes: u64 = recorded.channels.iter().map(|channel| channel.bytes).sum();
        let replies: u64 = recorded.channels.iter().map(|channel| channel.reply_bytes).sum();
        standard_output::line(format_args!(
            "{:.2} GiB on {} connections in {:.3} s, {replies} bytes of replies{}",
            bytes as f64 / GIB,
            recorded.channels.len(),
            recorded.duration.as_secs_f64(),
            if recorded.complete { "" } else { "; not complete" },
        ))?;
    }
    match recorded.cut {
        None if recorded.complete => return Ok(Exit::Ok),
        None => standard_error::line("landfall: stopped before the end"),
        Some(cut) => standard_error::line(format_args!("landfall: {cut}")),
    }
    Ok(Exit::Failed)
}

/// Where a source can connect to: the port that the system chose, if it was to.
fn listening(listeners: &Listeners, uri: &str) -> String {
    let addresses = listeners.inet_addresses();
    addresses.first().map_or_else(|| uri.to_owned(), |address| format!("tcp:{address}"))
}

/// What the directory's file system has room for.
fn room(directory: &Path) -> Result<u64, Failure> {
    let space = statvfs(directory)
        .map_err(|error| Failure::host(format!("{}: {error}", directory.display())))?;
    Ok(space.blocks_available() * space.fragment_size())
}

/// Bytes that one connection may send unless told otherwise: its file is mapped whole from the
/// start, and main with 255 channels must fit into half of a process's 128 TiB of addresses.
const MAX_BYTES: u64 = (64 << 40) / 256;
