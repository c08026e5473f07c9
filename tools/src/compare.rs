//! `landfall compare`: the same migration into the bare ceiling, QEMU and landfall.

mod record;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use landfall_bench::compare::{
    Comparison, Contender, Cost, SCENARIOS, Scenario, compare, host_facts, now_s, run_ceiling,
};
use landfall_bench::recording::{ChannelKind, RecordedChannel, Recording};
use landfall_receiver::receiver::READERS_DEFAULT_MAX;

use crate::cli::{CeilingArguments, CompareArguments};
use crate::exit::{Exit, Failure};
use crate::{output_paths, standard_error, standard_output, stop};

/// Compares, scenario by scenario.
pub(crate) fn run(
    arguments: &CompareArguments,
    verbose: bool,
    quiet: bool,
) -> Result<Exit, Failure> {
    if arguments.list {
        list(verbose)?;
        return Ok(Exit::Ok);
    }
    let landfall = std::env::current_exe().map_err(Failure::host)?;
    // One that is misspelt would be made on whatever disk there is, and guest RAM lie there.
    if !arguments.scratch.is_dir() {
        let text = format!("--scratch {}: there is no such directory", arguments.scratch.display());
        return Err(Failure::usage(text));
    }
    arguments.json.iter().try_for_each(|path| output_paths::check_file(path))?;
    let is_printed = standard_output::is_named(arguments.json.as_deref());
    let scratch = arguments.scratch.join(format!("landfall-compare-{}", std::process::id()));
    std::fs::create_dir(&scratch)
        .map_err(|error| Failure::host(format!("{}: {error}", scratch.display())))?;
    let scratch = Scratch(scratch);
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Arc::clone(&stop);
    stop::on_signal(move || stopper.store(true, Relaxed))?;
    let (began_s, host_before) = (now_s(), host_facts());
    let mut results = Vec::new();
    for scenario in scenarios(arguments)? {
        let comparison = Comparison {
            scenario,
            pairs: usize::from(arguments.pairs),
            landfall: landfall.clone(),
            qemu: arguments.qemu.clone(),
            recording: arguments.recording.clone(),
            tls_creds: arguments.tls_creds.clone(),
            scratch: scratch.0.clone(),
            disk: arguments.disk.clone(),
            stop: Arc::clone(&stop),
        };
        let mut tell = |contender: &Contender, cost: &Cost| {
            if !quiet {
                let name = contender.to_string();
                standard_error::line(format_args!(
                    "{name:<56}{:7.3} s, {:7.3} CPU-s",
                    cost.wall_s, cost.cpu_s
                ));
            }
        };
        let outcome = compare(&comparison, &mut tell).map_err(|error| {
            if error.is_before { Failure::host(error) } else { Failure::failed(error) }
        })?;
        let text = table::text(&comparison, &outcome);
        match (quiet, is_printed) {
            (true, _) => {}
            (false, true) => standard_error::line(&text),
            (false, false) => standard_output::line(&text)?,
        }
        results.push(record::of_outcome(&comparison, &outcome));
        // After each: what comes later may fail.
        if let Some(path) = arguments.json.as_ref().filter(|_| !is_printed) {
            let text = format!("{:#}\n", record::whole(began_s, &host_before, &results));
            std::fs::write(path, text)
                .map_err(|error| Failure::host(format!("{}: {error}", path.display())))?;
        }
    }
    if is_printed {
        standard_output::line(format_args!(
            "{:#}",
            record::whole(began_s, &host_before, &results)
        ))?;
    }
    Ok(Exit::Ok)
}

/// The child of a comparison that looks at nothing.
pub(crate) fn ceiling(arguments: &CeilingArguments) -> Result<Exit, Failure> {
    let CeilingArguments { kind, channels, readers, ram } = arguments;
    run_ceiling(kind, *channels, *readers, *ram).map_err(|error| {
        let mib = ram.next_multiple_of(RAM_STEP) >> 20;
        Failure::host(format!("{error}: {mib} MiB of 2 MiB pages are needed (vm.nr_hugepages)"))
    })?;
    Ok(Exit::Ok)
}

/// A directory for as long as the comparison lasts.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn list(whole: bool) -> Result<(), Failure> {
    for (name, text) in SCENARIOS {
        if whole {
            standard_output::line(format_args!("# {name}.toml\n{text}"))?;
        } else {
            let about = Scenario::parse(text).map_err(Failure::usage)?.about;
            standard_output::line(format_args!("{name:<18}{about}"))?;
        }
    }
    Ok(())
}

/// What was asked for, with what the command line puts in place of it.
fn scenarios(arguments: &CompareArguments) -> Result<Vec<Scenario>, Failure> {
    let mut asked = arguments.scenario.clone();
    if let Some(directory) = &arguments.recording {
        let recording = Recording::open(directory).map_err(Failure::usage)?;
        let is_channel = |channel: &&RecordedChannel| channel.kind == ChannelKind::Multifd;
        let channels = recording.channels().iter().filter(is_channel).count();
        asked = vec![Scenario::recorded(u8::try_from(channels).map_err(Failure::usage)?)];
    } else if asked.is_empty() {
        asked.push(Scenario::open("random").map_err(Failure::usage)?);
    }
    for scenario in &mut asked {
        if !arguments.ram.is_empty() {
            let mib = |bytes: &u64| bytes.next_multiple_of(RAM_STEP) >> 20;
            let sizes: BTreeSet<u64> = arguments.ram.iter().map(mib).collect();
            scenario.ram_mib = sizes.into_iter().collect();
            scenario.check().map_err(Failure::usage)?;
        }
        if let Some(channels) = arguments.channels {
            scenario.channels = channels;
            scenario.readers = channels.clamp(1, READERS_DEFAULT_MAX as u8);
        }
        scenario.readers = arguments.readers.unwrap_or(scenario.readers);
        for (asked, place) in [
            (&arguments.source_cpus, &mut scenario.source_cpus),
            (&arguments.receiver_cpus, &mut scenario.receiver_cpus),
        ] {
            if asked.is_some() {
                place.clone_from(asked);
            }
        }
    }
    Ok(asked)
}

/// Guest RAM is whole hugepages.
const RAM_STEP: u64 = 2 << 20;
