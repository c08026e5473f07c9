//! `landfall receive`: the destination.

mod contradictions;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender};
use landfall_qmp::{EventSender, Handler, MonitorAddress, OpenMonitors, Role};
use landfall_receiver::listen::{Address, FdSets, Peer};
use landfall_receiver::mapped_ram::FileReads;
use landfall_receiver::migration::Sink;
use landfall_receiver::monitor::{
    AllowPeer, ChannelsDefault, CompressionDefault, Destination, Endings, Monitor, MonitorConfig,
    ShutdownCause, TlsDefault,
};
use landfall_receiver::receiver::{Migration, Receiver, ReceiverConfig};
use landfall_receiver::report::{self, digest, files, run_directory};
use landfall_receiver::status::Status;
use landfall_receiver::tls::{Authz, X509Credentials, X509Options};
use landfall_receiver::wire::Compression;
use serde_json::Value;

use crate::cli::{
    CompressionOption, DevicePackets, HostArguments, ReceiveArguments, ServerTls, SinkOption,
};
use crate::exit::{Exit, Failure, exit_of};
use crate::live::{Live, prefault_progress};
use crate::stop::Starting;
use crate::{output_paths, standard_error, standard_output, table};

/// What the main thread waits for.
enum Happening {
    /// Every client has come that the start waits for.
    Clients,
    /// A run has begun to listen.
    Listening,
    /// The process shall end.
    Quit,
    /// It shall end with this code: a run failed whose exit-on-error was true.
    Exit,
}

/// Runs the destination: without QMP until its migration has ended, with QMP
/// until it is told to quit.
pub(crate) fn run(arguments: ReceiveArguments, quiet: bool) -> Result<Exit, Failure> {
    contradictions::refuse(&arguments)?;
    check_outputs(&arguments)?;
    let addresses = addresses(&arguments)?;
    // Before the pool is mapped, which may take minutes. Whoever ends it meanwhile finds no socket
    // left behind.
    let starting = Starting::new(OpenMonitors::open(&arguments.qmp)?)?;
    let (happen, happenings) = crossbeam_channel::unbounded();
    let events = EventSender::new();
    let destination =
        Arc::new(Destination::new(monitor_config(&arguments)?, events.clone(), endings(&happen)));
    let receiver = Arc::new(receiver(&arguments, &destination, happen.clone(), quiet)?);
    if !quiet {
        standard_error::line(receiver.memory());
    }
    let monitor = Arc::new(Monitor::new(Arc::clone(&destination), Arc::clone(&receiver)));
    let handler: Arc<dyn Handler> = Arc::clone(&monitor) as Arc<dyn Handler>;
    let monitors = stop_on_signal(starting, &destination, &receiver, happen.clone());
    let server = monitors.serve(handler, &events)?;
    // Not waited for here: a signal, or `quit` on another monitor, may come first.
    let clients = server.first_clients();
    let awaited = awaited(&arguments.qmp);
    thread::spawn(move || {
        if !quiet && !clients.wait(Some(Duration::ZERO)) {
            standard_error::line(format_args!("waiting for a QMP client on {awaited}"));
        }
        if clients.wait(None) {
            drop(happen.send(Happening::Clients));
        }
    });
    let session = Session {
        arguments: &arguments,
        addresses: &addresses,
        monitor: &monitor,
        receiver: &receiver,
        quiet,
    };
    let exit = session.run(&happenings);
    server.stop();
    exit
}

/// The life of the process after start-up.
struct Session<'a> {
    arguments: &'a ReceiveArguments,
    addresses: &'a [Address],
    monitor: &'a Monitor,
    receiver: &'a Receiver,
    quiet: bool,
}

impl Session<'_> {
    fn run(&self, happenings: &Inbox<Happening>) -> Result<Exit, Failure> {
        let mut last = Exit::Ok;
        for happening in happenings {
            match happening {
                Happening::Clients if self.addresses.is_empty() => {}
                Happening::Clients => drop(self.monitor.start(self.addresses)?),
                Happening::Listening => {
                    let Some(migration) = self.receiver.current() else { continue };
                    last = self.follow(&migration);
                    if self.arguments.qmp.is_empty() {
                        break;
                    }
                }
                Happening::Quit => break,
                Happening::Exit => return Ok(last),
            }
        }
        Ok(last)
    }

    /// Shows a run until it has ended, says how, then writes what was asked for.
    fn follow(&self, migration: &Migration) -> Exit {
        if !self.quiet {
            self.announce(migration);
        }
        Live::new(self.quiet, self.arguments.interval).follow(migration);
        let ended = migration.wait();
        let shown = if self.quiet {
            Ok(())
        } else {
            let is_taken = contradictions::is_stdout_taken(self.arguments);
            table::print(&report::summary(migration), is_taken)
        };
        let exit = ended.error.as_ref().map_or(Exit::Ok, |error| {
            standard_error::line(format_args!(
                "landfall: migration failed ({}): {error}",
                error.family
            ));
            exit_of(error)
        });
        // Behind what was said of the run: that stays true.
        let written = self.write(migration);
        shown.and(written).map_or_else(
            |failure| {
                standard_error::line(format_args!("landfall: {failure}"));
                failure.exit
            },
            |()| exit,
        )
    }

    fn announce(&self, migration: &Migration) {
        let mut places: Vec<String> =
            migration.socket_address.as_array().into_iter().flatten().map(place).collect();
        if places.is_empty() {
            // Handed over, not listened on.
            places.clone_from(&self.arguments.uris);
        }
        let cpus: Vec<String> = migration
            .run
            .readers
            .iter()
            .map(|reader| reader.cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string()))
            .collect();
        let near = migration.near.as_ref().map_or_else(String::new, |near| {
            format!(" ({} is on NUMA node {})", near.interface, near.node)
        });
        let end = match self.arguments.sink {
            SinkOption::Ram => "at completion the guest stays stopped on the source",
            SinkOption::Discard => {
                "pages are dropped: at the end the source is told so, and with return-path on it \
                 keeps its guest running"
            }
        };
        standard_error::line(format_args!(
            "listening on {}; {} readers on CPUs {}{near}; {end}",
            places.join(", "),
            migration.run.readers.len(),
            cpus.join(",")
        ));
    }

    fn write(&self, migration: &Migration) -> Result<(), Failure> {
        let arguments = self.arguments;
        let mut value = report::query_receiver(migration);
        if arguments.digest {
            let ram = migration.ended().and_then(|ended| ended.received.ram.as_ref());
            if let Some(ram) = ram {
                digest::add_digests(&mut value, &digest::digest(ram));
            }
        }
        if let Some(directory) = &arguments.mem_path {
            run_directory::write_run_directory(directory, migration, &value)?;
        }
        if let Some(directory) = &arguments.dump {
            run_directory::dump(directory, migration, &value)?;
        }
        match arguments.json.as_deref() {
            Some(path) if standard_output::is_named(Some(path)) => {
                standard_output::line(format_args!("{value:#}"))?;
            }
            Some(path) => files::write_json(path, &value)?,
            None => {}
        }
        match arguments.json_lines.as_deref() {
            Some(path) if standard_output::is_named(Some(path)) => standard_output::line(value)?,
            Some(path) => files::append_json_line(path, &value)?,
            None => {}
        }
        Ok(())
    }
}

/// The monitors without whose first clients nothing begins.
fn awaited(monitors: &[MonitorAddress]) -> String {
    let places = monitors.iter().filter_map(|monitor| match monitor {
        MonitorAddress::Socket { socket, role: Role::Listen { wait: true } } => {
            Some(socket.to_string())
        }
        _ => None,
    });
    places.collect::<Vec<_>>().join(", ")
}

/// What is written when the guest is there, and could not be received again.
fn check_outputs(arguments: &ReceiveArguments) -> Result<(), Failure> {
    arguments.json.iter().try_for_each(|path| output_paths::check_replaced(path))?;
    arguments.json_lines.iter().try_for_each(|path| output_paths::check_file(path))?;
    arguments.dump.iter().try_for_each(|path| output_paths::check_directory(path))
}

/// One entry of QEMU's `socket-address`, as a URI.
fn place(address: &Value) -> String {
    let text = |name: &str| address.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "inet" if text("host").contains(':') => format!("tcp:[{}]:{}", text("host"), text("port")),
        "inet" => format!("tcp:{}:{}", text("host"), text("port")),
        "unix" => format!("unix:{}", text("path")),
        "vsock" => format!("vsock:{}:{}", text("cid"), text("port")),
        other => other.to_owned(),
    }
}

fn addresses(arguments: &ReceiveArguments) -> Result<Vec<Address>, Failure> {
    let mut addresses = Vec::new();
    for uri in &arguments.uris {
        match Address::parse_option(uri)
            .map_err(|error| Failure::usage(format!("{uri}: {error}")))?
        {
            Address::Defer if arguments.uris.len() > 1 => {
                return Err(Failure::usage("defer stands alone"));
            }
            Address::Defer if arguments.qmp.is_empty() => {
                return Err(Failure::usage("defer waits for migrate-incoming: give --qmp"));
            }
            Address::Defer => {}
            address => addresses.push(address),
        }
    }
    Ok(addresses)
}

fn monitor_config(arguments: &ReceiveArguments) -> Result<MonitorConfig, Failure> {
    let allow = arguments.allow.clone();
    let fdsets = FdSets::default();
    for option in &arguments.add_fd {
        let refused = |why| Failure::usage(format!("--add-fd {option}: {why}"));
        fdsets.add_inherited(option).map_err(refused)?;
    }
    Ok(MonitorConfig {
        version: arguments.qemu_version,
        name: arguments.name.clone(),
        uuid: arguments.uuid,
        allow: (!allow.is_empty()).then(|| -> AllowPeer {
            Arc::new(move |peer: &Peer| {
                peer.ip().is_none_or(|ip| allow.iter().any(|net| net.contains(&ip.to_canonical())))
            })
        }),
        fdsets: Arc::new(fdsets),
        channels: arguments.multifd.map_or(ChannelsDefault::Derived, ChannelsDefault::Fixed),
        compression: match arguments.compression {
            CompressionOption::Auto => CompressionDefault::Auto,
            CompressionOption::None => CompressionDefault::Fixed(Compression::None),
            CompressionOption::Zlib => CompressionDefault::Fixed(Compression::Zlib),
            CompressionOption::Zstd => CompressionDefault::Fixed(Compression::Zstd),
            CompressionOption::Qpl => CompressionDefault::Fixed(Compression::Qpl),
            CompressionOption::Uadk => CompressionDefault::Fixed(Compression::Uadk),
            CompressionOption::Qatzip => CompressionDefault::Fixed(Compression::Qatzip),
        },
        tls: tls(&arguments.tls)?,
    })
}

fn tls(arguments: &ServerTls) -> Result<Option<TlsDefault>, Failure> {
    let Some(dir) = &arguments.creds else { return Ok(None) };
    let options = X509Options {
        verify_peer: arguments.verify_peer,
        priority: arguments.priority.clone(),
        ..X509Options::new(dir)
    };
    let credentials = X509Credentials::load(&options).map_err(Failure::usage)?;
    let authz = arguments.authz.clone().map(|identity| Authz::Simple { identity });
    Ok(Some(TlsDefault { credentials, authz }))
}

fn endings(happen: &Sender<Happening>) -> Endings {
    let (quit, exit) = (happen.clone(), happen.clone());
    // The main thread has gone if nobody takes these: the process ends anyway.
    Endings {
        on_quit: Box::new(move || drop(quit.send(Happening::Quit))),
        on_exit: Box::new(move |_code| drop(exit.send(Happening::Exit))),
    }
}

fn receiver(
    arguments: &ReceiveArguments,
    destination: &Arc<Destination>,
    happen: Sender<Happening>,
    quiet: bool,
) -> Result<Receiver, Failure> {
    let config = ReceiverConfig {
        sink: match arguments.sink {
            SinkOption::Ram => Sink::Ram,
            SinkOption::Discard => Sink::Discard,
        },
        staging_max: arguments.staging_max,
        keep_device_packets: arguments.device_packets == DevicePackets::Keep,
        file_reads: FileReads {
            queue_depth: usize::from(arguments.queue_depth),
            direct_io: arguments.direct_io,
        },
        stall: arguments.stall_timeout,
        idle: arguments.idle_timeout,
        max_time: arguments.max_time,
        ..host_config(&arguments.host, arguments.mem_path.clone())?
    };
    let destination = Arc::clone(destination);
    let observer = Arc::new(move |migration: &Migration, status: Status| {
        destination.observe(migration, status);
        if status == Status::Setup {
            drop(happen.send(Happening::Listening));
        }
    });
    let progress = prefault_progress(config.memory.pool_bytes, quiet);
    let receiver = Receiver::new(config, observer, &|done, _| progress.set_position(done))?;
    progress.finish_and_clear();
    Ok(receiver)
}

fn stop_on_signal(
    starting: Starting<OpenMonitors>,
    destination: &Arc<Destination>,
    receiver: &Arc<Receiver>,
    happen: Sender<Happening>,
) -> OpenMonitors {
    let (destination, receiver) = (Arc::clone(destination), Arc::clone(receiver));
    starting.on_signal(move || {
        destination.announce_shutdown(ShutdownCause::HostSignal);
        receiver.stop();
        drop(happen.send(Happening::Quit));
    })
}

/// Memory and threads as the options say.
pub(crate) fn host_config(
    host: &HostArguments,
    mem_path: Option<PathBuf>,
) -> Result<ReceiverConfig, Failure> {
    if let Some(list) = &host.cpus {
        list.check().map_err(|reason| Failure::usage(format!("--cpus {list}: {reason}")))?;
    }
    let cpus = host.cpus.as_ref().map_or_else(Vec::new, |list| list.cpus().to_vec());
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
    Ok(config)
}
