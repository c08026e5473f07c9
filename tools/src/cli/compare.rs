//! What `landfall compare` takes.

use std::path::PathBuf;

use clap::Args;
use landfall_bench::compare::Scenario;
use landfall_receiver::cpu_list::CpuList;

use crate::sizes;

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// What is migrated: a name, or a file that describes it (see --list -v); repeatable, random
    /// without it
    #[arg(long, value_name = "NAME|FILE", value_parser = Scenario::open)]
    pub(crate) scenario: Vec<Scenario>,
    /// List the scenarios; with -v as the files that they are, to begin one's own from
    #[arg(long)]
    pub(crate) list: bool,
    /// Guest RAM in place of the scenario's; several sizes, as 2G,4G,8G, are compared with each
    /// other, and tell what a page more costs
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, value_delimiter = ',')]
    pub(crate) ram: Vec<u64>,
    /// How often each destination runs; under 6 there is no interval
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) pairs: u16,
    /// Multifd channels in place of the scenario's, with one reader each, up to 8
    #[arg(long, value_name = "N")]
    pub(crate) channels: Option<u8>,
    /// landfall's readers in place of the scenario's
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) readers: Option<u8>,
    /// CPUs that the source, its threads and its children may use, as 0-3,8, in place of the
    /// scenario's; without either all
    #[arg(long, value_name = "LIST")]
    pub(crate) source_cpus: Option<CpuList>,
    /// CPUs that every receiver may use, QEMU, landfall and the ceilings alike
    #[arg(long, value_name = "LIST")]
    pub(crate) receiver_cpus: Option<CpuList>,
    /// The QEMU at both ends; without it the synthetic source, and no QEMU as destination
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) qemu: Option<PathBuf>,
    /// Send this recording in place of a scenario; --ram is the recorded guest's, and --qemu only
    /// a destination then
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scenario", "channels"])]
    pub(crate) recording: Option<PathBuf>,
    /// Certificates of both ends where the scenario is under TLS, in place of new ones: the files
    /// of QEMU's tls-creds-x509
    #[arg(long, value_name = "DIR")]
    pub(crate) tls_creds: Option<PathBuf>,
    /// Where the guest's memory lies meanwhile: a directory that is there, best on a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) scratch: PathBuf,
    /// Where mapped-ram files are saved: a disk with O_DIRECT
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) disk: PathBuf,
    /// Write the machine, the programs, their command lines and every run to FILE as JSON; - is stdout and moves the table to stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CeilingArguments {
    pub(crate) kind: String,
    pub(crate) channels: u8,
    pub(crate) readers: u8,
    pub(crate) ram: u64,
}
