//! Device state that comes on multifd channels (VFIO, 10.0 and later): packets
//! are counted by device, and kept or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::run::lock;
use crate::staging::{Lease, Staging, StagingFull};
use crate::wire::{DEVICE_STATE_HEADER_BYTES, DeviceStateHeader, VFIO_PACKET_BYTES, VfioPacket};

/// The device-state packets of one run.
#[derive(Debug)]
pub struct DevicePackets {
    staging: Arc<Staging>,
    keep: bool,
    arrived: Mutex<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    devices: BTreeMap<(Box<str>, u32), Device>,
    /// There are more devices than are told apart.
    is_crowded: bool,
    kept: Vec<Arc<KeptPacket>>,
    totals: DeviceTotals,
}

#[derive(Debug, Default)]
struct Device {
    totals: DeviceTotals,
    parts: Parts,
}

/// Which packets of a device have come, as far as they say.
#[derive(Debug, Default)]
struct Parts {
    /// All below this index.
    next: u32,
    /// And these beyond it.
    later: BTreeSet<u32>,
    /// The index of the last one.
    last: Option<u32>,
    /// One does not say, or comes as nobody sends it.
    is_unclear: bool,
}

/// What of the device state on channels has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outstanding {
    /// Every device has sent its last packet, and all before it.
    Nothing,
    /// A device's packets do not tell, or none of its has come.
    Unknown,
    /// This packet of this device, the first that is missing.
    Packet(u32, Box<str>, u32),
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
    /// The first bytes of the payload.
    front: [u8; VFIO_PACKET_BYTES],
    front_have: usize,
    kept: Option<KeptPacket>,
}

impl ArrivingPacket {
    /// Takes the next bytes of its payload.
    pub fn take(&mut self, bytes: &[u8]) {
        let more = bytes.len().min(VFIO_PACKET_BYTES - self.front_have);
        self.front[self.front_have..][..more].copy_from_slice(&bytes[..more]);
        self.front_have += more;
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
        let front = [0; VFIO_PACKET_BYTES];
        Ok(ArrivingPacket { device, payload_bytes, front, front_have: 0, kept })
    }

    /// The packet is whole.
    pub fn end(&self, packet: ArrivingPacket) {
        let ArrivingPacket { device, payload_bytes, front, front_have, kept } = packet;
        let vfio = (front_have == front.len()).then(|| VfioPacket::parse(&front)).flatten();
        let mut arrived = lock(&self.arrived);
        arrived.totals.add(payload_bytes);
        if arrived.devices.len() < DEVICES_MAX || arrived.devices.contains_key(&device) {
            let device = arrived.devices.entry(device).or_default();
            device.totals.add(payload_bytes);
            device.parts.add(vfio);
        } else {
            arrived.is_crowded = true;
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
        let one = |(id, device): (&(Box<str>, u32), &Device)| (id.0.clone(), id.1, device.totals);
        arrived.devices.iter().map(one).collect()
    }

    /// What has not come, of the devices of which something has and of those that are
    /// `announced`, by idstr and instance id.
    pub fn outstanding<'a>(
        &self,
        mut announced: impl Iterator<Item = (&'a str, u32)>,
    ) -> Outstanding {
        let arrived = lock(&self.arrived);
        let told = |(_, device): &(&(Box<str>, u32), &Device)| !device.parts.is_unclear;
        let lacks = |(_, device): &(&(Box<str>, u32), &Device)| !device.parts.are_whole();
        if let Some((id, device)) = arrived.devices.iter().filter(told).find(lacks) {
            return Outstanding::Packet(device.parts.next, id.0.clone(), id.1);
        }
        let came = |(idstr, instance_id): (&str, u32)| {
            arrived.devices.contains_key(&(Box::from(idstr), instance_id))
        };
        let is_known = !arrived.is_crowded
            && arrived.devices.values().all(|device| !device.parts.is_unclear)
            && announced.all(came);
        if is_known { Outstanding::Nothing } else { Outstanding::Unknown }
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

impl Parts {
    fn add(&mut self, packet: Option<VfioPacket>) {
        let Some(VfioPacket { index, is_last }) = packet else {
            self.is_unclear = true;
            return;
        };
        if is_last {
            self.last = Some(index);
        }
        if index < self.next || self.later.len() == LATER_MAX {
            self.is_unclear = true;
        } else {
            self.later.insert(index);
        }
        while self.later.remove(&self.next) {
            self.next += 1;
        }
    }

    fn are_whole(&self) -> bool {
        self.last.is_some_and(|last| self.next == last + 1) && self.later.is_empty()
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

/// Packets of a device that may come before one with a lower index. They are on their way on at
/// most 255 channels.
const LATER_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What is outstanding of a device of which these have come.
    fn after(packets: &[Option<(u32, bool)>]) -> Outstanding {
        let all = DevicePackets::new(Staging::new(1 << 20), false);
        for packet in packets {
            let header = [0; DEVICE_STATE_HEADER_BYTES];
            let parsed = DeviceStateHeader { idstr: "a/vfio", instance_id: 3, payload_bytes: 12 };
            let mut arriving = all.begin(&header, &parsed, false).unwrap();
            let (index, is_last) = packet.unwrap_or((0, false));
            let version = u32::from(packet.is_none());
            let words = [version, index, u32::from(is_last)].map(u32::to_be_bytes).concat();
            // Cut anywhere.
            arriving.take(&words[..5]);
            arriving.take(&words[5..]);
            all.end(arriving);
        }
        all.outstanding(std::iter::once(("a/vfio", 3)))
    }

    #[test]
    fn a_device_is_whole_with_its_last_packet_and_all_before_it_in_any_order() {
        let missing = |index| Outstanding::Packet(index, "a/vfio".into(), 3);
        let (first, second, last) = (Some((0, false)), Some((1, false)), Some((2, true)));
        assert_eq!(after(&[first, second, last]), Outstanding::Nothing);
        assert_eq!(after(&[last, second, first]), Outstanding::Nothing);
        assert_eq!(after(&[first, last]), missing(1));
        assert_eq!(after(&[first, second]), missing(2));
        assert_eq!(after(&[Some((0, true))]), Outstanding::Nothing);
    }

    #[test]
    fn what_does_not_say_which_packet_it_is_leaves_open_whether_it_was_the_last() {
        assert_eq!(after(&[]), Outstanding::Unknown, "announced");
        assert_eq!(after(&[Some((0, true)), None]), Outstanding::Unknown);
        assert_eq!(after(&[Some((0, true)), Some((0, true))]), Outstanding::Unknown, "twice");
    }

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
