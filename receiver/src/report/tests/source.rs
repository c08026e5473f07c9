//! A source of two channels over TCP, as little of one as the reports need.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Connections to a receiver, and what has been told so far.
pub(super) struct Source {
    main: TcpStream,
    channels: Vec<TcpStream>,
}

/// What a packet carries: page indices of the block `mem`, with a byte that
/// fills each normal page.
#[derive(Default)]
pub(super) struct Packet<'a> {
    pub(super) normal: &'a [(u64, u8)],
    pub(super) zero: &'a [u64],
    pub(super) sync: bool,
}

impl Source {
    /// Connects and tells all up to the first sync point, which is passed.
    pub(super) fn begin(port: u16) -> Self {
        let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
        let main = connect();
        let mut source = Self { main, channels: (0..CHANNELS).map(|_| connect()).collect() };
        let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0".to_vec();
        bytes.extend(b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04");
        bytes.extend(((MEM_BYTES + BIOS_BYTES) | 4).to_be_bytes());
        for (name, size) in [("mem", MEM_BYTES), ("/rom@x", BIOS_BYTES)] {
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
            bytes.extend(size.to_be_bytes());
        }
        source.tell(&bytes);
        for (id, channel) in source.channels.iter_mut().enumerate() {
            let mut init = [0; 64];
            init[..8].copy_from_slice(b"\x11\x22\x33\x44\0\0\0\x01");
            init[24] = id as u8;
            channel.write_all(&init).unwrap();
        }
        source.sync();
        source.tell(FOOTER);
        source
    }

    /// One packet on a channel.
    pub(super) fn packet(&mut self, channel: usize, packet: Packet<'_>) {
        let Packet { normal, zero, sync } = packet;
        let mut bytes = b"\x11\x22\x33\x44\0\0\0\x01".to_vec();
        for number in [u32::from(sync), 128, normal.len() as u32, (normal.len() * 4096) as u32] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend([0; 8]);
        bytes.extend((zero.len() as u32).to_be_bytes());
        bytes.resize(64, 0);
        bytes.extend(b"mem");
        bytes.resize(64 + 256, 0);
        for page in normal.iter().map(|(page, _)| page).chain(zero) {
            bytes.extend((page * 4096).to_be_bytes());
        }
        bytes.resize(64 + 256 + 128 * 8, 0);
        for (_, fill) in normal {
            bytes.extend([*fill; 4096]);
        }
        self.channels[channel].write_all(&bytes).unwrap();
    }

    /// A packet with 100 bytes of a device's state.
    pub(super) fn device_packet(&mut self, channel: usize) {
        let mut bytes = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0\x40vfio".to_vec();
        bytes.resize(12 + 256, 0);
        bytes.extend(b"\0\0\0\x03\0\0\0\x64");
        bytes.extend([0xdd; 100]);
        self.channels[channel].write_all(&bytes).unwrap();
    }

    /// A section of RAM with nothing but a sync point.
    pub(super) fn round(&mut self) {
        self.tell(b"\x02\0\0\0\x01");
        self.sync();
        self.tell(FOOTER);
    }

    /// The rest: END, two devices, the end.
    pub(super) fn finish(mut self) {
        self.tell(b"\x08\0\x0b\0\0\x03\0\0\0\x01");
        self.sync();
        self.tell(FOOTER);
        self.tell(b"\x04\0\0\0\x05\x05timer\0\0\0\0\0\0\0\x02");
        self.tell(&[1; 24]);
        self.tell(b"\x7e\0\0\0\x05");
        let mut state = b"\0\0\0\x07paused".to_vec();
        state.resize(4 + 100, 0);
        self.tell(b"\x04\0\0\0\x06\x0bglobalstate\0\0\0\0\0\0\0\x01");
        self.tell(&state);
        self.tell(b"\x7e\0\0\0\x06\0\x06");
        self.tell(&(VMDESC.len() as u32).to_be_bytes());
        self.tell(VMDESC.as_bytes());
        // As QEMU without return path: closes, and is gone.
        self.main.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = self.main.read(&mut [0]);
    }

    /// Goes away in the middle of everything.
    pub(super) fn vanish(self) {}

    fn sync(&mut self) {
        for channel in 0..CHANNELS {
            self.packet(channel, Packet { sync: true, ..Packet::default() });
        }
        self.tell(FLUSH_AND_EOS);
    }

    fn tell(&mut self, bytes: &[u8]) {
        self.main.write_all(bytes).unwrap();
    }
}

pub(super) const CHANNELS: usize = 2;
pub(super) const MEM_BYTES: u64 = 0x40_000;
pub(super) const BIOS_BYTES: u64 = 0x2000;
pub(super) const VMDESC: &str = concat!(
    r#"{"page_size": 4096, "devices": ["#,
    r#"{"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2, "fields": "#,
    r#"[{"name": "data", "type": "buffer", "size": 24}]}, "#,
    r#"{"name": "globalstate", "instance_id": 0, "vmsd_name": "globalstate", "version": 1, "#,
    r#""fields": [{"name": "data", "type": "buffer", "size": 104}]}]}"#
);
const FLUSH_AND_EOS: &[u8] = b"\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x10";
const FOOTER: &[u8] = b"\x7e\0\0\0\x01";
