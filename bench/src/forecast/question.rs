//! What is known before a migration: the guest, the source's settings, the network.

use super::PAGE_BYTES;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// The guest.
    pub guest: Guest,
    /// How its QEMU is set.
    pub source: SourceSettings,
    /// What lies between.
    pub network: Network,
    /// Reader threads of the destination, at least 1.
    pub readers: u8,
}

/// A guest: its memory, and how it writes to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guest {
    /// RAM in bytes, at least a page, at most 1 PiB.
    pub ram_bytes: u64,
    /// Share of pages that are zero when they are first sent, 0 to 1.
    pub zero_share: f64,
    /// Bytes of pages written per second: a page that is written again counts again.
    pub dirty_bytes_per_second: f64,
    /// The pages written are evenly spread over so many bytes of RAM.
    pub working_set_bytes: u64,
}

/// When a page that the source still has to send is watched for writes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyTracking {
    /// Just before the part of RAM that it lies in is sent (KVM's dirty log, cleared by hand: QEMU
    /// 4.2 and later). What is written before that costs nothing.
    BeforeSending,
    /// At the sync of the bitmap (TCG): what is written before the page is sent is sent again.
    AtSync,
}

/// The parameters of the source that decide how precopy goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceSettings {
    /// `downtime-limit`, seconds.
    pub downtime_limit_s: f64,
    /// `max-bandwidth`, bytes per second; 0 is no limit. The last pass does not keep to it.
    pub max_bandwidth: u64,
    /// `multifd-channels`, 1 to 255.
    pub channels: u8,
    /// How writes are found.
    pub tracking: DirtyTracking,
}

/// The network between source and destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// Bits per second on the wire, frames and all.
    pub link_bits_per_second: f64,
    /// The largest IP packet, bytes.
    pub mtu: u32,
}

impl Network {
    /// Bytes per second that are left for TCP's payload: of every frame 52 bytes are IPv4's and
    /// TCP's headers with timestamps, and Ethernet adds 38 (header, checksum, preamble, gap).
    #[must_use]
    pub fn payload_bytes_per_second(&self) -> f64 {
        let mtu = f64::from(self.mtu);
        self.link_bits_per_second / 8.0 * (mtu - 52.0) / (mtu + 38.0)
    }
}

impl Question {
    /// Says whether there can be an answer.
    ///
    /// # Errors
    /// The first value that no migration has.
    pub fn check(&self) -> Result<(), QuestionError> {
        let Guest { ram_bytes, zero_share, dirty_bytes_per_second, working_set_bytes } = self.guest;
        let wrong = |what, found: f64, allowed| Err(QuestionError { what, found, allowed });
        if !(PAGE_BYTES..=RAM_BYTES_MAX).contains(&ram_bytes) {
            return wrong("guest RAM", ram_bytes as f64, "4 KiB to 1 PiB");
        }
        if !(0.0..=1.0).contains(&zero_share) {
            return wrong("share of zero pages", zero_share, "0 to 1");
        }
        if !dirty_bytes_per_second.is_finite() || dirty_bytes_per_second < 0.0 {
            return wrong("dirty rate", dirty_bytes_per_second, "0 or more");
        }
        if !(PAGE_BYTES..=ram_bytes).contains(&working_set_bytes) {
            return wrong("working set", working_set_bytes as f64, "4 KiB to the guest's RAM");
        }
        let limit = self.source.downtime_limit_s;
        if !(0.0..=DOWNTIME_LIMIT_S_MAX).contains(&limit) {
            return wrong("downtime limit", limit * 1e3, "0 to 2000000 ms");
        }
        if self.source.channels == 0 {
            return wrong("number of channels", 0.0, "1 to 255");
        }
        let link = self.network.link_bits_per_second;
        if !link.is_finite() || link < LINK_MIN {
            return wrong("link", link, "1000 bit/s or more");
        }
        if !(576..=65535).contains(&self.network.mtu) {
            return wrong("MTU", f64::from(self.network.mtu), "576 to 65535");
        }
        if self.readers == 0 {
            return wrong("number of readers", 0.0, "1 to 255");
        }
        Ok(())
    }
}

/// A value that no migration has.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the {what} is {found}, allowed is {allowed}")]
pub struct QuestionError {
    what: &'static str,
    found: f64,
    allowed: &'static str,
}

/// Pages and bytes up to here are whole numbers in an `f64`.
const RAM_BYTES_MAX: u64 = 1 << 50;
/// As QEMU bounds `downtime-limit` (migration/options.c, `MAX_MIGRATE_DOWNTIME`).
pub(super) const DOWNTIME_LIMIT_S_MAX: f64 = 2000.0;
const LINK_MIN: f64 = 1000.0;
