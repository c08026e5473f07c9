//! The command line.

mod compare;
mod plan;
mod send;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use landfall_pagepool::{Hugepages, Numa};
use landfall_qmp::MonitorAddress;
use landfall_receiver::cpu_list::CpuList;
use landfall_receiver::settings::QemuVersion;

pub(crate) use self::compare::{CeilingArguments, CompareArguments};
pub(crate) use self::plan::{Accelerator, PlanArguments};
pub(crate) use self::send::{
    ClientTlsArguments, SendArguments, SendCompression, ZeroPageDetection,
};
use crate::sizes;

/// A stand-in for the destination of a QEMU live migration.
///
/// A real QEMU source migrates into it unchanged; it receives RAM as fast as
/// this machine can, keeps it whole, and says where the time went.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// More log on stderr; twice for debugging
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// No progress and no table; errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receive a migration: the destination
    Receive(Box<ReceiveArguments>),
    /// Receiver and synthetic source together over loopback: no privileges, no QEMU
    Demo(DemoArguments),
    /// A synthetic source, to landfall or to a real QEMU
    ///
    /// All content follows from the seed, so what arrived can be checked without the source. A
    /// real QEMU destination takes all RAM and then refuses the device state, which only a QEMU
    /// can make.
    Send(Box<SendArguments>),
    /// Compare two RAM images: run directories or raw files
    Verify(VerifyArguments),
    /// Keep every byte of a migration that passes from a source to a destination
    ///
    /// Listens at URI, makes a connection to the destination for each that comes, and stores what
    /// passes in both directions, with the order across connections. TLS is refused: nobody but its destination could read it.
    Record(RecordArguments),
    /// Send a recording to any destination, landfall or a real QEMU
    ///
    /// Sends nothing before the replies that had come before it, and says whether the destination
    /// answered as the recorded one did, and whether the replay was the bottleneck.
    Replay(ReplayArguments),
    /// Run the same migration into the bare ceiling, QEMU and landfall, in turn
    ///
    /// Tells what each destination's process used, and landfall's share of it. The hugepage
    /// contenders need 2 MiB pages reserved for the guest's RAM and 64 MiB more.
    Compare(Box<CompareArguments>),
    /// What a migration would take: time, rounds, the guest's pause, and the destination's CPUs
    ///
    /// Goes through precopy as QEMU does. Without the report of a run over the same network card
    /// the answer is a range. It ends with 1 if precopy would not end.
    Plan(Box<PlanArguments>),
    /// The bare ceiling of a comparison, as a process of its own
    #[command(hide = true)]
    Ceiling(CeilingArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ReceiveArguments {
    /// tcp:HOST:PORT (several for several NICs), unix:PATH, vsock:CID:PORT, fd:N, exec:COMMAND,
    /// file:PATH[,offset=N], or defer, to wait for migrate-incoming on QMP
    #[arg(required = true, value_name = "URI")]
    pub(crate) uris: Vec<String>,
    /// Multifd channels, 0 for none; without it from QMP, else derived from who connects
    #[arg(long, value_name = "N")]
    pub(crate) multifd: Option<u8>,
    /// Where pages go: guest RAM, or nowhere (measures source and network alone; the source
    /// then keeps its guest)
    #[arg(long, value_enum, default_value_t = SinkOption::Ram)]
    pub(crate) sink: SinkOption,
    #[command(flatten)]
    pub(crate) host: HostArguments,
    /// Reads that each reader has under way at once in a mapped-ram file
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) queue_depth: u16,
    /// Read a mapped-ram file past the page cache (O_DIRECT), where its file system can
    #[arg(long)]
    pub(crate) direct_io: bool,
    /// An inherited descriptor for the set N of descriptors, as QEMU's -add-fd: what
    /// file:/dev/fdset/N opens; repeatable
    #[arg(long, value_name = "fd=N,set=N[,opaque=TEXT]")]
    pub(crate) add_fd: Vec<String>,
    /// Use a run directory: RAM blocks as files in DIR/ram, with run.json, configuration,
    /// device-state and vmdesc.json
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pool", "dump"])]
    pub(crate) mem_path: Option<PathBuf>,
    /// Write the same directory from anonymous memory after the run
    #[arg(long, value_name = "DIR")]
    pub(crate) dump: Option<PathBuf>,
    /// Put a BLAKE3 hash of each RAM block into the JSON
    #[arg(long)]
    pub(crate) digest: bool,
    /// How the source compresses pages on its channels: auto follows the packets, anything else
    /// must be the source's multifd-compression; QMP may set it later
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = CompressionOption::Auto)]
    pub(crate) compression: CompressionOption,
    /// Memory for compressed pages on their way, their decoders, and device state that comes on
    /// channels
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "1G")]
    pub(crate) staging_max: u64,
    /// Device state that comes on channels (VFIO, from 10.0): keep it for the run directory, or
    /// drop it (the source then keeps its guest)
    #[arg(long, value_enum, value_name = "HOW", default_value_t = DevicePackets::Keep)]
    pub(crate) device_packets: DevicePackets,
    /// A QMP monitor, in the syntax of QEMU's -qmp: unix:PATH,server=on,wait=off; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(crate) qmp: Vec<MonitorAddress>,
    /// The QEMU whose greeting, tables and texts QMP imitates: 7.2, 10.0 or 11.1
    #[arg(long, value_name = "VERSION", default_value = "10.0")]
    pub(crate) qemu_version: QemuVersion,
    /// The guest's name, for query-name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The guest's UUID: channels with another are refused
    #[arg(long)]
    pub(crate) uuid: Option<uuid::Uuid>,
    /// Write the report of each run to FILE, replaced atomically; - is stdout, unless a monitor
    /// has that, and moves the table to stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Append the report of each run to FILE, one line each; - is stdout, as for --json, which it
    /// then excludes
    #[arg(long, value_name = "FILE")]
    pub(crate) json_lines: Option<PathBuf>,
    /// A line of figures every SECS seconds from the last connection on, where stderr is no
    /// terminal
    #[arg(short = 'i', long = "interval", value_name = "SECS", value_parser = seconds)]
    pub(crate) interval: Option<Duration>,
    /// Nothing for so long inside a handshake, header, packet or section, or at a sync point, is
    /// an error
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "60")]
    pub(crate) stall_timeout: Duration,
    /// Nothing for so long anywhere is an error; off without it
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) idle_timeout: Option<Duration>,
    /// A run may last so long from when its main stream came
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) max_time: Option<Duration>,
    /// Who may connect, as 10.0.0.0/8; repeatable; everybody without it
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow: Vec<IpNet>,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
}

/// TLS of the destination.
#[derive(Debug, Args)]
pub(crate) struct ServerTls {
    /// Every connection is under TLS: the directory of QEMU's tls-creds-x509, with ca-cert.pem,
    /// server-cert.pem, server-key.pem, and ca-crl.pem if there are revocations
    #[arg(long = "tls-creds", value_name = "DIR")]
    pub(crate) creds: Option<PathBuf>,
    /// Whether the source must show a certificate of the CA
    #[arg(
        long = "tls-verify-peer", value_name = "on|off", default_value = "on",
        value_parser = on_off, action = clap::ArgAction::Set, requires = "creds"
    )]
    pub(crate) verify_peer: bool,
    /// The distinguished name that the source's certificate must have, as QEMU writes it:
    /// C=GB,O=Example,CN=source
    #[arg(long = "tls-authz", value_name = "NAME", requires = "creds")]
    pub(crate) authz: Option<String>,
    /// TLS versions and ciphers, as a GnuTLS priority string: NORMAL:-VERS-TLS1.2
    #[arg(long = "tls-priority", value_name = "STRING", requires = "creds")]
    pub(crate) priority: Option<String>,
}

/// Memory and threads.
#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// Guest memory to map and prefault before the listener opens, as 64G
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "0")]
    pub(crate) pool: u64,
    /// Which pages to use: auto takes the best there is and says what it got; 1G, 2M, thp, off
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) hugepages: Hugepages,
    /// NUMA nodes of guest memory: NODE or NODE,NODE, interleave, or local
    #[arg(long, value_name = "NODES", default_value = "local")]
    pub(crate) numa: Numa,
    /// Refuse guests with more RAM; without it 90 % of available memory and free hugepages
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) max_ram: Option<u64>,
    /// Reader threads, one ring each; without it one per channel, up to 8
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) readers: Option<u8>,
    /// CPUs to pin readers to, as 0-3,8; without it those of the listener's NIC node, else all
    /// that are allowed
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SinkOption {
    Ram,
    Discard,
}

/// `multifd-compression`, as QEMU names its values, and `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompressionOption {
    Auto,
    None,
    Zlib,
    Zstd,
    Qpl,
    Uadk,
    Qatzip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DevicePackets {
    Keep,
    Drop,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// RAM of the synthetic guest
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "2G")]
    pub(crate) ram: u64,
    /// Multifd channels
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) multifd: u8,
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    #[command(flatten)]
    pub(crate) host: HostArguments,
}

/// What the synthetic guest does.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// Content, dirty pages and channels follow from this number
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Rounds over memory, the first included
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) rounds: u32,
    /// Share of pages dirtied between rounds, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) dirty: u8,
    /// Share of zero pages, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) zero: u8,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// A run directory, or the raw file of one block
    pub(crate) a: PathBuf,
    /// What to compare it with
    pub(crate) b: PathBuf,
    /// Compare only this block of the run directory with FILE, which stands for the side that is
    /// no run directory, or for B if both are; repeatable
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) block: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArguments {
    /// Where the source migrates to: tcp:HOST:PORT, unix:PATH or vsock:CID:PORT
    #[arg(value_name = "URI")]
    pub(crate) uri: String,
    /// The destination that it goes on to: tcp:HOST:PORT, unix:PATH or vsock:CID:PORT
    #[arg(long, value_name = "URI")]
    pub(crate) to: String,
    /// The directory of the recording, empty or not there yet
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Bytes that one connection may send; without it all that the file system has room for, up
    /// to 256G. Its file is mapped from the start: all connections together may have 128T of
    /// addresses, and each takes 1G more for replies
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) max_size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The directory of the recording
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// tcp:HOST:PORT, unix:PATH or vsock:CID:PORT of a destination
    #[arg(value_name = "URI")]
    pub(crate) uri: String,
    /// Keep the recorded times, and the recorded order across connections; without it as fast as
    /// the destination takes it
    #[arg(long)]
    pub(crate) paced: bool,
    /// Do not read the recording before it is sent: its disk may then be the limit
    #[arg(long)]
    pub(crate) cold: bool,
    /// How long the destination may take for what the recorded one answered
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "60")]
    pub(crate) reply_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be more than 0 seconds".to_owned())
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
