//! `landfall receive`: the destination.

use std::sync::Arc;

use landfall_receiver::listen::Address;
use landfall_receiver::migration::Sink;
use landfall_receiver::receiver::{Incoming, Receiver, ReceiverConfig};

use crate::cli::{HostArguments, ReceiveArguments, SinkOption};
use crate::exit::{Exit, Failure, exit_of};
use crate::stop;

/// Runs the destination until its migration has ended, or, with QMP, until it
/// is told to quit.
pub(crate) fn run(arguments: ReceiveArguments, _quiet: bool) -> Result<Exit, Failure> {
    let addresses = arguments
        .uris
        .iter()
        .map(|uri| Address::parse_option(uri).map_err(Failure::usage))
        .collect::<Result<Vec<_>, _>>()?;
    let config = ReceiverConfig {
        sink: match arguments.sink {
            SinkOption::Ram => Sink::Ram,
            SinkOption::Discard => Sink::Discard,
        },
        stall: arguments.stall_timeout,
        idle: arguments.idle_timeout,
        max_time: arguments.max_time,
        ..host_config(&arguments.host, arguments.mem_path.clone())
    };
    let receiver = Arc::new(Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {})?);
    let incoming = Incoming { channels: arguments.multifd, uuid: arguments.uuid, ..Incoming::default() };
    let migration = receiver.start(&addresses, incoming, &mut |_| None)?;
    let stopper = Arc::clone(&receiver);
    stop::on_signal(move || stopper.stop())?;
    let ended = migration.wait();
    println!("{}", landfall_receiver::report::query_migrate(Some(&migration)));
    match &ended.error {
        None => Ok(Exit::Ok),
        Some(error) => {
            eprintln!("landfall: {error}");
            Ok(exit_of(error))
        }
    }
}

/// Memory and threads as the options say.
pub(crate) fn host_config(
    host: &HostArguments,
    mem_path: Option<std::path::PathBuf>,
) -> ReceiverConfig {
    let cpus = host.cpus.clone().map_or_else(Vec::new, |list| list.0);
    let mut config = ReceiverConfig {
        readers: host.readers.map(usize::from),
        cpus: cpus.clone(),
        ..ReceiverConfig::default()
    };
    config.memory.pool_bytes = host.pool;
    config.memory.hugepages = host.hugepages;
    config.memory.numa = host.numa.clone();
    config.memory.max_ram_bytes = host.max_ram;
    config.memory.mem_path = mem_path;
    config.memory.prefault_cpus = cpus;
    config
}
