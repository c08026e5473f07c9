//! What `landfall plan` takes.

use std::path::PathBuf;

use clap::Args;

use crate::sizes;

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Guest RAM
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) ram: u64,
    /// The network, in bits per second as networks count: 200G is 200,000,000,000
    #[arg(long, value_name = "RATE", value_parser = sizes::parse_bits)]
    pub(crate) link: u64,
    /// Bytes of pages that the guest writes per second, each time counted
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "0")]
    pub(crate) dirty_rate: u64,
    /// They are spread over so much RAM; without it over all
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) working_set: Option<u64>,
    /// Share of zero pages, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) zero: u8,
    /// The source's downtime-limit
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pub(crate) downtime_limit: u64,
    /// The source's max-bandwidth, bytes per second; 0 is no limit
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "0")]
    pub(crate) max_bandwidth: u64,
    /// The source's multifd-channels
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) channels: u8,
    /// The source's accelerator, which decides when a page is watched for writes again
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Accelerator::Kvm)]
    pub(crate) accel: Accelerator,
    /// Largest IP packet
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    pub(crate) mtu: u32,
    /// The destination's readers; without it one per channel, up to 8
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) readers: Option<u8>,
    /// The report of a run of landfall receive, best over the network in question and at full
    /// speed; repeatable: five or more of different shapes tell what each thing costs
    #[arg(long, value_name = "RUN.json")]
    pub(crate) calibration: Vec<PathBuf>,
    /// Write the answer to FILE as JSON; - is stdout and moves the table to stderr
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How the guest's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}
