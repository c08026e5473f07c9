//! The guest's devices, invented from the seed: names and shapes like real ones, random contents.

use crate::{
    config::SourceConfig,
    encode::{
        Append,
        device::{Device, Field, State, Value, Vmsd},
        stream,
    },
    form::GlobalStateForm,
    hash::Sequence,
};

/// All sections that are not iterable, in the order of their groups.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    /// Sections that go out around ram's START.
    pub(crate) early: Vec<Device>,
    /// The tail after ram's END.
    pub(crate) tail: Vec<Device>,
}

impl Devices {
    /// The devices that `config` asks for.
    pub(crate) fn new(config: &SourceConfig) -> Self {
        let mut random = Sequence::new(&[config.seed, TAG_DEVICES]);
        let mut ids = SectionIds::new(config);
        let early = (0..config.early_sections).map(|n| early(&mut random, ids.next(), n)).collect();
        let mut tail = Vec::new();
        let timer = fixed(
            ids.next(),
            "timer",
            2,
            vec![
                Field::plain("cpu_ticks_offset", "int64", random.bytes(8)),
                Field::plain("unused", "unused_buffer", vec![0; 8]),
                Field::plain("cpu_clock_offset", "int64", random.bytes(8)),
            ],
        );
        let apic = fixed(
            ids.next(),
            "apic",
            3,
            vec![
                Field::plain("apicbase", "uint32", random.bytes(4)),
                Field::plain("id", "uint8", vec![0]),
                Field {
                    name: "isr".to_owned(),
                    index: None,
                    value: Value::Array { kind: "uint32", bytes: random.bytes(32), len: 8 },
                },
            ],
        );
        tail.extend(if config.form.apic_first { [apic, timer] } else { [timer, apic] });
        for n in 0..config.devices.devices {
            tail.push(invented(&mut random, ids.next(), n, config.devices.device_bytes_max));
        }
        if config.form.globalstate != GlobalStateForm::Absent {
            tail.push(globalstate(ids.next(), config.form.globalstate));
        }
        forge_tails(&mut random, &mut tail, config.devices.forged_tails);
        Self { early, tail }
    }

    /// All devices as the description lists them: early ones first.
    pub(crate) fn in_stream_order(&self) -> Vec<Device> {
        self.early.iter().chain(&self.tail).cloned().collect()
    }
}

/// Numbers for sections, distinct from each other and from those of the iterable sections, and not
/// in stream order: device 0 of the tail has number 0, as observed, early ones come later.
struct SectionIds {
    taken: Vec<u32>,
    next: u32,
}

impl SectionIds {
    fn new(config: &SourceConfig) -> Self {
        let first = if config.early_sections == 0 { 0 } else { 40 };
        let iterables = if config.disk { 3 } else { 2 };
        let taken = crate::script::iterable_ids(config)[..iterables].to_vec();
        Self { taken, next: first }
    }

    fn next(&mut self) -> u32 {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

/// A virtio-mem device's early section: where it is and which of its blocks are plugged.
fn early(random: &mut Sequence, id: u32, n: u32) -> Device {
    let blocks: u64 = 64 + random.below(1024);
    let words = blocks.div_ceil(64);
    let be64 = |value: u64| value.to_be_bytes().to_vec();
    let fields = vec![
        Field::plain("addr", "uint64", be64(0x1_4000_0000 + (u64::from(n) << 36))),
        Field::plain("region_size", "uint64", be64(blocks << 21)),
        Field::plain("block_size", "uint64", be64(1 << 21)),
        Field::plain("node", "uint32", vec![0; 4]),
        Field::plain("size", "uint64", be64(0)),
        Field::plain("bitmap", "bitmap", random.bytes(words as usize * 8)),
    ];
    let mut device = fixed(id, "virtio-mem-device-early", 1, fields);
    device.idstr = format!("0000:00:{:02x}.0/virtio-mem-device-early", n + 3);
    device
}

/// A device whose shape and content are random: plain fields, arrays, indexed elements, nested
/// structures, subsections, or old style as one buffer.
fn invented(random: &mut Sequence, id: u32, n: u32, bytes_max: u32) -> Device {
    let idstr = format!("0000:00:{:02x}.{}/{}", n / 8 + 1, n % 8, NAMES[n as usize % NAMES.len()]);
    let bytes = random.below(u64::from(bytes_max) + 1) as usize;
    if random.below(12) == 0 {
        let state = State::Buffer { version: 4, bytes: random.bytes(bytes) };
        return Device { id, idstr: "slirp".to_owned(), instance: n, state };
    }
    let mut fields = vec![
        Field::plain("version_id", "int32", random.bytes(4)),
        Field::plain("config", "pci config", random.bytes(256)),
        Field::plain("enabled", "bool", vec![1]),
        Field::plain("state", "buffer", random.bytes(bytes)),
    ];
    let len = 1 + random.below(9) as u32;
    let value = Value::Array { kind: "uint16", bytes: random.bytes(2 * len as usize), len };
    fields.push(Field { name: "regs".to_owned(), index: None, value });
    for index in 0..random.below(4) as u32 {
        let value = Value::Plain { kind: "timer", bytes: random.bytes(8) };
        fields.push(Field { name: "timers".to_owned(), index: Some(index), value });
    }
    let inner = Vmsd {
        name: "queue".to_owned(),
        version: 1,
        fields: vec![
            Field::plain("num", "uint32", random.bytes(4)),
            Field::plain("pa", "uint64", random.bytes(8)),
        ],
        subsections: subsections(random, "queue"),
    };
    fields.push(Field { name: "vq".to_owned(), index: None, value: Value::Struct(inner) });
    let name = NAMES[n as usize % NAMES.len()].to_owned();
    let subsections = subsections(random, &name);
    let version = 1 + random.below(4) as u32;
    let state = State::Fields(Vmsd { name, version, fields, subsections });
    Device { id, idstr, instance: 0, state }
}

fn subsections(random: &mut Sequence, of: &str) -> Vec<Vmsd> {
    let one = |n| Vmsd {
        name: format!("{of}/part{n}"),
        version: 1,
        fields: vec![Field::plain("value", "uint32", vec![0, 0, 0, n])],
        subsections: Vec::new(),
    };
    (0..random.below(3) as u8).map(one).collect()
}

fn globalstate(id: u32, form: GlobalStateForm) -> Device {
    let runstate = "running";
    let mut state = runstate.as_bytes().to_vec();
    let size = runstate.len() as u32 + 1;
    let mut fields = vec![Field::plain("size", "uint32", size.to_be_bytes().to_vec())];
    if form == GlobalStateForm::Split {
        state.resize(32, 0);
        fields.push(Field::plain("runstate", "buffer", state));
        fields.push(Field::plain("has_vm_was_suspended", "bool", vec![1]));
        fields.push(Field::plain("vm_was_suspended", "bool", vec![0]));
        fields.push(Field::plain("unused", "unused_buffer", vec![0; 66]));
    } else {
        state.resize(100, 0);
        fields.push(Field::plain("runstate", "buffer", state));
    }
    fixed(id, "globalstate", 1, fields)
}

fn fixed(id: u32, name: &str, version: u32, fields: Vec<Field>) -> Device {
    let vmsd = Vmsd { name: name.to_owned(), version, fields, subsections: Vec::new() };
    Device { id, idstr: name.to_owned(), instance: 0, state: State::Fields(vmsd) }
}

/// Puts what looks like the end of the stream inside device bodies: a footer, EOF, the head of a
/// description whose JSON is complete and even lists devices.
fn forge_tails(random: &mut Sequence, tail: &mut [Device], count: u32) {
    let json = "{\"page_size\": 4096, \"devices\": []}";
    for _ in 0..count {
        let device = random.below(tail.len() as u64) as usize;
        let mut forged = Vec::new();
        stream::footer(&mut forged, tail[device].id);
        stream::eof(&mut forged);
        if random.below(2) == 0 {
            stream::vmdesc(&mut forged, json);
        } else {
            // The length leads far beyond this device.
            forged.byte(6);
            forged.be32(20_000);
            forged.extend_from_slice(b"{\"page_size\"");
        }
        match &mut tail[device].state {
            State::Buffer { bytes, .. } => bytes.extend_from_slice(&forged),
            State::Fields(vmsd) => {
                vmsd.fields.push(Field::plain("guest_bytes", "buffer", forged));
            }
        }
    }
}

const NAMES: [&str; 6] = ["virtio-net", "virtio-blk", "e1000e", "ahci", "xhci", "serial"];
const TAG_DEVICES: u64 = 0x6465_7600_0000_0000;
