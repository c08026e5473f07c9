//! Device state that comes on multifd channels (VFIO, 10.0 and later): packets
//! are counted by device, and kept or dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::run::lock;
use crate::staging::{Lease, Staging, StagingFull};
use crate::wire::{DEVICE_STATE_HEADER_BYTES, DeviceStateHeader};

/// The device-state packets of one run.
#[derive(Debug)]
pub struct DevicePackets {
    staging: Arc<Staging>,
    keep: bool,
    arrived: Mutex<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    devices: BTreeMap<(Box<str>, u32), DeviceTotals>,
    kept: Vec<Arc<KeptPacket>>,
    totals: DeviceTotals,
}

/// What came of one device, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTotals {
    /// Whole packets.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// A whole packet, kept as it came.
#[derive(Debug)]
pub struct KeptPacket {
    /// The header ([`DeviceStateHeader`]) and its payload.
    pub bytes: Vec<u8>,
    _lease: Lease,
}

/// A packet on its way.
#[derive(Debug)]
pub struct ArrivingPacket {
    device: (Box<str>, u32),
    payload_bytes: u64,
    kept: Option<KeptPacket>,
}

impl ArrivingPacket {
    /// Takes the next bytes of its payload.
    pub fn take(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.kept {
            kept.bytes.extend_from_slice(bytes);
        }
    }
}

impl DevicePackets {
    /// None yet. With `keep` they are kept, in memory of `staging`.
    pub fn new(staging: Arc<Staging>, keep: bool) -> Self {
        Self { staging, keep, arrived: Mutex::default() }
    }

    /// A packet whose header has come; kept if `keep` and all of us keep.
    ///
    /// # Errors
    /// The budget, or the host, has no room for it.
    pub fn begin(
        &self,
        header: &[u8; DEVICE_STATE_HEADER_BYTES],
        parsed: &DeviceStateHeader<'_>,
        keep: bool,
    ) -> Result<ArrivingPacket, StagingFull> {
        let payload_bytes = u64::from(parsed.payload_bytes);
        let kept = if keep && self.keep {
            let whole = DEVICE_STATE_HEADER_BYTES as u64 + payload_bytes;
            let lease = self.staging.lend(whole)?;
            // All at once: growing by doubling would take more than was lent. Memory that nobody
            // touches costs nothing.
            let mut bytes = Vec::new();
            if bytes.try_reserve_exact(whole as usize).is_err() {
                return Err(StagingFull {
                    wanted: whole,
                    lent: self.staging.lent(),
                    max: self.staging.max(),
                });
            }
            bytes.extend_from_slice(header);
            Some(KeptPacket { bytes, _lease: lease })
        } else {
            None
        };
        let device = (parsed.idstr.into(), parsed.instance_id);
        Ok(ArrivingPacket { device, payload_bytes, kept })
    }

    /// The packet is whole.
    pub fn end(&self, packet: ArrivingPacket) {
        let ArrivingPacket { device, payload_bytes, kept } = packet;
        let mut arrived = lock(&self.arrived);
        arrived.totals.add(payload_bytes);
        if arrived.devices.len() < DEVICES_MAX || arrived.devices.contains_key(&device) {
            arrived.devices.entry(device).or_default().add(payload_bytes);
        }
        arrived.kept.extend(kept.map(Arc::new));
    }

    /// What came of all devices.
    pub fn totals(&self) -> DeviceTotals {
        lock(&self.arrived).totals
    }

    /// What came, by idstr and instance id.
    pub fn by_device(&self) -> Vec<(Box<str>, u32, DeviceTotals)> {
        let arrived = lock(&self.arrived);
        let one = |(device, totals): (&(Box<str>, u32), &DeviceTotals)| {
            (device.0.clone(), device.1, *totals)
        };
        arrived.devices.iter().map(one).collect()
    }

    /// Looks at the packets that were kept, in the order in which they were whole.
    pub fn with_kept<T>(&self, look: impl FnOnce(&[Arc<KeptPacket>]) -> T) -> T {
        // Outside of the lock: who looks may write them to a disk, for which no query waits.
        let kept = lock(&self.arrived).kept.clone();
        look(&kept)
    }

    /// True if packets came and were not kept.
    pub fn has_dropped(&self) -> bool {
        let arrived = lock(&self.arrived);
        arrived.totals.packets > arrived.kept.len() as u64
    }
}

impl DeviceTotals {
    fn add(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
    }
}

/// Devices that are told apart; a guest has a handful.
const DEVICES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_looks_at_what_was_kept_keeps_no_query_waiting() {
        let packets = Arc::new(DevicePackets::new(Staging::new(1 << 20), true));
        let parsed = DeviceStateHeader { idstr: "vfio", instance_id: 3, payload_bytes: 2 };
        let mut packet = packets.begin(&[0; DEVICE_STATE_HEADER_BYTES], &parsed, true).unwrap();
        packet.take(b"ab");
        packets.end(packet);
        packets.with_kept(|kept| {
            assert!(kept[0].bytes.ends_with(b"ab"));
            let (tell, answer) = mpsc::channel();
            let asked = Arc::clone(&packets);
            // Detached: were the lock held, it would never end.
            thread::spawn(move || tell.send((asked.totals(), asked.by_device().len())));
            let answer = answer.recv_timeout(Duration::from_secs(10));
            assert_eq!(answer, Ok((DeviceTotals { packets: 1, bytes: 2 }, 1)));
        });
    }
}
