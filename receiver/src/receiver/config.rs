//! What a receiver is made with, and what one run is asked for.

use std::sync::Arc;
use std::time::Duration;

use landfall_pagepool::MemoryConfig;
use uuid::Uuid;

use crate::door::Allow;
use crate::listen::FdSets;
use crate::mapped_ram::FileReads;
use crate::migration::Sink;
use crate::staging::STAGING_MAX_DEFAULT;
use crate::tls::TlsServer;
use crate::wire::Compression;

/// What stays the same for all runs of a receiver.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Guest memory.
    pub memory: MemoryConfig,
    /// Reader threads; `None`: one per channel, up to 8.
    pub readers: Option<usize>,
    /// CPUs to pin readers to, in turn; empty: all that are allowed.
    pub cpus: Vec<usize>,
    /// Where pages go.
    pub sink: Sink,
    /// Bytes that a run may take for payloads, decoders and device state of
    /// channels.
    pub staging_max: u64,
    /// Device state that comes on channels is kept.
    pub keep_device_packets: bool,
    /// How the pages of a mapped-ram file are read.
    pub file_reads: FileReads,
    /// `--stall-timeout`.
    pub stall: Duration,
    /// `--idle-timeout`.
    pub idle: Option<Duration>,
    /// `--max-time`, from when the main stream came.
    pub max_time: Option<Duration>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            memory: MemoryConfig::default(),
            readers: None,
            cpus: Vec::new(),
            sink: Sink::Ram,
            staging_max: STAGING_MAX_DEFAULT,
            keep_device_packets: true,
            file_reads: FileReads::default(),
            stall: Duration::from_secs(60),
            idle: None,
            max_time: None,
        }
    }
}

/// What one run is asked for.
#[derive(Default)]
pub struct Incoming {
    /// How many multifd channels; `None`: derived.
    pub channels: Option<u8>,
    /// How pages on channels are compressed; `None` follows the packets.
    pub compression: Option<Compression>,
    /// The capability `switchover-ack`.
    pub switchover_ack: bool,
    /// The parameter `direct-io`: files are read past the page cache.
    pub direct_io: bool,
    /// What files named `/dev/fdset/N` are.
    pub fdsets: Arc<FdSets>,
    /// The guest's UUID: channels with another are strays, and a main stream that says another
    /// (`validate-uuid`) fails the run.
    pub uuid: Option<Uuid>,
    /// Who may connect.
    pub allow: Option<Allow>,
    /// Every connection is under TLS, and how it is met.
    pub tls: Option<TlsServer>,
}
