//! What all channels of a run share: where their bytes may go, and the one
//! method in which their pages are compressed.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::device_packets::DevicePackets;
use crate::staging::Staging;
use crate::wire::Compression;

/// What the channels of a run are driven under.
#[derive(Debug)]
pub struct Terms {
    /// Pages get to guest RAM. Without it they are only counted, and compressed
    /// ones not decoded (`--sink discard`).
    pub keep: bool,
    /// How pages are compressed.
    pub method: RunMethod,
    /// For decoders, and payloads on their way to them.
    pub staging: Arc<Staging>,
    /// Device state that comes on channels.
    pub device_packets: DevicePackets,
}

impl Terms {
    /// Terms under which any method goes and device state is kept, in a budget of
    /// `staging_max` bytes.
    pub fn new(keep: bool, staging_max: u64) -> Self {
        let staging = Staging::new(staging_max);
        Self {
            keep,
            method: RunMethod::default(),
            device_packets: DevicePackets::new(Arc::clone(&staging), true),
            staging,
        }
    }
}

/// The one method of a run: as configured, or else that of its first packet with
/// pages (`multifd-compression`).
#[derive(Debug, Default)]
pub struct RunMethod {
    configured: Option<Compression>,
    found: OnceLock<Compression>,
}

impl RunMethod {
    /// `None` follows the packets.
    pub fn new(configured: Option<Compression>) -> Self {
        Self { configured, found: OnceLock::new() }
    }

    /// What the packets had, once one with pages has come.
    pub fn found(&self) -> Option<Compression> {
        self.found.get().copied()
    }

    /// What was configured; `None` follows the packets.
    pub fn configured(&self) -> Option<Compression> {
        self.configured
    }

    /// Judges the method of a packet with pages.
    pub(super) fn judge(&self, found: Compression) -> Result<(), WrongMethod> {
        if let Some(configured) = self.configured.filter(|&configured| configured != found) {
            return Err(WrongMethod::Configured { found, configured });
        }
        match *self.found.get_or_init(|| found) {
            before if before == found => Ok(()),
            before => Err(WrongMethod::Changed { found, before }),
        }
    }
}

/// A packet's method is not the run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrongMethod {
    /// Not the one that was set.
    Configured { found: Compression, configured: Compression },
    /// Not that of the packets before.
    Changed { found: Compression, before: Compression },
}

impl fmt::Display for WrongMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured { found, configured } => write!(
                f,
                "the packet's compression is {}, multifd-compression is set to {} here: set the \
                 source's value",
                found.as_str(),
                configured.as_str()
            ),
            Self::Changed { found, before } => write!(
                f,
                "the packet's compression is {}, the run's packets before had {}",
                found.as_str(),
                before.as_str()
            ),
        }
    }
}
