//! The command line of `landfall send`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use landfall_bench::form::Version;
use landfall_bench::send::TlsVersion;

use super::{SourceArguments, seconds};
use crate::sizes;

#[derive(Debug, Args)]
pub(crate) struct SendArguments {
    /// tcp:HOST:PORT, unix:PATH or vsock:CID:PORT of a destination; or one stream without channels:
    /// file:PATH[,offset=N], exec:COMMAND, fd:N
    #[arg(value_name = "URI")]
    pub(crate) uri: String,
    /// RAM of the synthetic guest
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "1G")]
    pub(crate) ram: u64,
    /// Multifd channels, 0 for none
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) multifd: u8,
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    #[command(flatten)]
    pub(crate) form: FormArguments,
    /// How pages on channels are compressed, as the source's multifd-compression
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = SendCompression::None)]
    pub(crate) compression: SendCompression,
    /// How hard pages are compressed, 0 to 9, with zstd to 20
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) level: u32,
    /// Share of pages that can be made smaller, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(..=100))]
    pub(crate) compressible: u8,
    /// The capability compress, which QEMU had up to 9.0: pages on main are compressed, each for
    /// itself; with --xbzrle those of the first round. Without multifd
    #[arg(long)]
    pub(crate) compress: bool,
    /// The capability xbzrle: of a page that a later round has sent before, what changed; three of
    /// four pages change in places only. Without multifd
    #[arg(long, conflicts_with = "image")]
    pub(crate) xbzrle: bool,
    /// Packets of a VFIO device's state on the channels
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) device_packets: u32,
    /// Save the guest to a file with a place for every page (the capability mapped-ram), sparse,
    /// in place of sending it
    #[arg(long, conflicts_with_all = ["pace", "reply_timeout", "background_snapshot", "postcopy_ram", "switchover_ack", "no_footers", "xbzrle", "compress", "block", "dirty_bitmaps", "x_ignore_shared"])]
    pub(crate) mapped_ram: bool,
    /// Send a file's pages as the main RAM block instead of content from the seed; its size
    /// replaces --ram
    #[arg(long, value_name = "FILE", conflicts_with = "ram")]
    pub(crate) image: Option<PathBuf>,
    /// Send pages on channels without a copy in the kernel (the capability zero-copy-send,
    /// MSG_ZEROCOPY); where the kernel copies them all the same, as on loopback, a connection goes
    /// on without, and the end says so
    #[arg(long, conflicts_with_all = ["mapped_ram", "image", "creds"])]
    pub(crate) zero_copy: bool,
    /// Bytes per second over all channels, as 100M; without it as fast as it goes
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub(crate) pace: Option<u64>,
    /// How long the destination may take for its answers; without it for ever, as QEMU waits
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) reply_timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) tls: ClientTlsArguments,
}

/// TLS of the source.
#[derive(Debug, Args)]
pub(crate) struct ClientTlsArguments {
    /// Every connection is under TLS: the directory of QEMU's tls-creds-x509, with ca-cert.pem,
    /// and client-cert.pem and client-key.pem if the destination asks for them
    #[arg(long = "tls-creds", value_name = "DIR")]
    pub(crate) creds: Option<PathBuf>,
    /// The name that the destination's certificate must have; without it the URI's host
    #[arg(long = "tls-hostname", value_name = "NAME", requires = "creds")]
    pub(crate) hostname: Option<String>,
    /// Offer this version of TLS only: 1.2 or 1.3
    #[arg(long = "tls-version", value_name = "VERSION", value_parser = tls_version, requires = "creds")]
    pub(crate) version: Option<TlsVersion>,
}

/// The wire's shape: that of a QEMU and machine type, and what differs from it.
#[derive(Debug, Args)]
pub(crate) struct FormArguments {
    /// The QEMU that is imitated: 7.2 to 11.1
    #[arg(long, value_name = "VERSION", default_value = "10.0", value_parser = version)]
    pub(crate) speak: Version,
    /// The machine type, which decides much of the wire; without it q35 of that QEMU
    #[arg(long, short = 'M', value_name = "TYPE")]
    pub(crate) machine: Option<String>,
    /// Send without a return path: the source then waits for nobody
    #[arg(long)]
    pub(crate) no_return_path: bool,
    /// The capability switchover-ack
    #[arg(long, conflicts_with = "no_return_path")]
    pub(crate) switchover_ack: bool,
    /// How zero pages go: in packets (from 9.0), on main (legacy), or as full pages (none)
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) zero_page_detection: Option<ZeroPageDetection>,
    /// Size of a target page: 4K to 64K
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse, default_value = "4K")]
    pub(crate) page_size: u64,
    /// The guest's UUID
    #[arg(long)]
    pub(crate) uuid: Option<uuid::Uuid>,
    /// The capability validate-uuid: the configuration section names the UUID
    #[arg(long, requires = "uuid")]
    pub(crate) validate_uuid: bool,
    /// The shape of background-snapshot: no commands, no END of ram
    #[arg(long)]
    pub(crate) background_snapshot: bool,
    /// The capability postcopy-ram, on and never used
    #[arg(long)]
    pub(crate) postcopy_ram: bool,
    /// The capability x-ignore-shared: blocks are announced with their addresses, and the main one,
    /// which the destination is taken to share, is not sent
    #[arg(long, conflicts_with = "image")]
    pub(crate) x_ignore_shared: bool,
    /// The capability dirty-bitmaps: a section with a disk's bitmap beside ram
    #[arg(long)]
    pub(crate) dirty_bitmaps: bool,
    /// The capability block, which QEMU had up to 9.0: a section with a disk of 2 MiB beside ram
    #[arg(long)]
    pub(crate) block: bool,
    /// virtio-mem devices with an early section
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) early_sections: u32,
    /// Rounds, each with its FLUSH, in one section of ram
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) rounds_per_section: u32,
    /// False ends of the stream inside device state
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) forged_tails: u32,
    /// Sections without footers
    #[arg(long)]
    pub(crate) no_footers: bool,
    /// No description of the device state at the end (suppress-vmdesc)
    #[arg(long)]
    pub(crate) no_vmdesc: bool,
}

/// `zero-page-detection`, as QEMU names its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ZeroPageDetection {
    Multifd,
    Legacy,
    None,
}

/// `multifd-compression`, as QEMU names its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SendCompression {
    None,
    Zlib,
    Zstd,
    Qpl,
    Uadk,
    Qatzip,
}

fn version(text: &str) -> Result<Version, String> {
    let version = Version::of_machine(text)
        .filter(|version| (Version::new(7, 2)..=Version::new(11, 1)).contains(version));
    version.ok_or_else(|| "must be a version from 7.2 to 11.1".to_owned())
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err("must be 1.2 or 1.3".to_owned()),
    }
}
