//! A destination as simple as can be: RAM in vectors, pages applied one by one, streams parsed from
//! their bytes with nothing shared with the encoders.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod checked;
pub(crate) mod main_stream;

use std::collections::{HashMap, HashSet};

use landfall_bench::{
    Plan,
    form::{SyncForm, VmdescForm},
    script::Stream,
};

use self::main_stream::{Event, Known, MainStream};

/// What a page did last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) normal: u64,
    pub(crate) zero: u64,
    /// Of the normal ones.
    pub(crate) xbzrle: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Ram {
    pub(crate) blocks: Vec<(String, Vec<u8>)>,
    pub(crate) names: HashMap<String, usize>,
    pub(crate) counts: Counts,
    pub(crate) page_bytes: usize,
}

impl Ram {
    pub(crate) fn new(page_bytes: usize) -> Self {
        Self { page_bytes, ..Self::default() }
    }

    pub(crate) fn add(&mut self, name: &str, bytes: usize) {
        assert!(self.names.insert(name.to_owned(), self.blocks.len()).is_none(), "{name} twice");
        // Not zero: every zero page must be announced.
        self.blocks.push((name.to_owned(), vec![0xee; bytes]));
    }

    fn slot(&mut self, name: &str, offset: u64) -> &mut [u8] {
        let block = self.names[name];
        let at = usize::try_from(offset).expect("small");
        assert_eq!(at % self.page_bytes, 0, "{name} at {offset:#x}");
        &mut self.blocks[block].1[at..at + self.page_bytes]
    }

    pub(crate) fn put(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        self.slot(name, offset).copy_from_slice(bytes);
        self.counts.normal += 1;
    }

    /// Changes the page where runs say so. (QEMU: migration/xbzrle.c)
    pub(crate) fn patch(&mut self, name: &str, offset: u64, runs: &[u8]) {
        let page = self.slot(name, offset);
        let mut runs = Bytes(runs);
        let mut at = 0;
        while !runs.0.is_empty() {
            let unchanged = runs.small();
            assert!(unchanged > 0 || at == 0, "an empty run inside");
            let changed = runs.small();
            assert!(changed > 0, "nothing changed");
            at += unchanged;
            page[at..at + changed].copy_from_slice(runs.take(changed));
            at += changed;
        }
        assert!(at > 0, "no run");
        self.counts.normal += 1;
        self.counts.xbzrle += 1;
    }

    pub(crate) fn clear(&mut self, name: &str, offset: u64) {
        self.slot(name, offset).fill(0);
        self.counts.zero += 1;
    }
}

/// Bytes taken from the front.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(crate) fn be(&mut self, len: usize) -> u64 {
        self.take(len).iter().fold(0, |sum, &byte| (sum << 8) | u64::from(byte))
    }

    /// Seven bits in the first byte, seven more in the second if the first says so.
    pub(crate) fn small(&mut self) -> usize {
        match self.byte() {
            low @ 0..=0x7f => usize::from(low),
            low => {
                let high = self.byte();
                assert!(high < 0x80, "three bytes");
                usize::from(low & 0x7f) + usize::from(high) * 128
            }
        }
    }

    pub(crate) fn counted(&mut self) -> String {
        let len = usize::from(self.byte());
        String::from_utf8(self.take(len).to_vec()).expect("UTF-8")
    }
}

/// A packet as parsed.
#[derive(Clone, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) sync: bool,
    pub(crate) alloc: u64,
    pub(crate) normal: u64,
    pub(crate) next: u64,
    pub(crate) num: u64,
    pub(crate) zero: u64,
    pub(crate) name: String,
    pub(crate) offsets: Vec<u64>,
    pub(crate) payload: &'a [u8],
}

/// A channel's bytes: id, UUID, packets.
pub(crate) fn channel(bytes: &[u8], page_bytes: usize) -> (u8, [u8; 16], Vec<Packet<'_>>) {
    let mut b = Bytes(bytes);
    assert_eq!((b.be(4), b.be(4)), (0x1122_3344, 1));
    let uuid = b.take(16).try_into().expect("16");
    let id = b.byte();
    assert!(b.take(39).iter().all(|&byte| byte == 0));
    let mut packets = Vec::new();
    while !b.0.is_empty() {
        packets.push(packet(&mut b, page_bytes));
    }
    (id, uuid, packets)
}

fn packet<'a>(b: &mut Bytes<'a>, page_bytes: usize) -> Packet<'a> {
    assert_eq!((b.be(4), b.be(4)), (0x1122_3344, 1));
    let flags = b.be(4);
    assert!(flags <= 1, "flags {flags:#x}");
    let (alloc, normal, next, num, zero) = (b.be(4), b.be(4), b.be(4), b.be(8), b.be(4));
    assert!(b.take(28).iter().all(|&byte| byte == 0));
    let name: Vec<u8> = b.take(256).iter().copied().take_while(|&byte| byte != 0).collect();
    let offsets: Vec<u64> = (0..524_288 / page_bytes).map(|_| b.be(8)).collect();
    assert!(normal + zero <= alloc || (normal, zero) == (0, 0));
    let payload = b.take(usize::try_from(normal).expect("small") * page_bytes);
    if normal > 0 {
        assert_eq!(next, payload.len() as u64);
    }
    let name = String::from_utf8(name).expect("UTF-8");
    Packet { sync: flags == 1, alloc, normal, next, num, zero, name, offsets, payload }
}

impl Packet<'_> {
    /// Where this packet writes: block, offset, and the bytes unless zero.
    pub(crate) fn writes(&self, page_bytes: usize) -> Vec<(&str, u64, Option<&[u8]>)> {
        let (normal, zero) = (self.normal as usize, self.zero as usize);
        let full = self.offsets[..normal].iter().zip(self.payload.chunks_exact(page_bytes));
        let full = full.map(|(&offset, bytes)| (self.name.as_str(), offset, Some(bytes)));
        let zero = self.offsets[normal..normal + zero].iter();
        full.chain(zero.map(|&offset| (self.name.as_str(), offset, None))).collect()
    }
}

/// All bytes of a plan, stream by stream.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) main: Vec<u8>,
    pub(crate) channels: Vec<Vec<u8>>,
}

impl Wire {
    pub(crate) fn of(plan: &Plan) -> Self {
        let channels = vec![Vec::new(); usize::from(plan.config().channels)];
        let mut wire = Self { main: Vec::new(), channels };
        let mut bytes = Vec::new();
        let mut encoder = plan.encoder();
        for op in plan.script() {
            bytes.clear();
            let stream = encoder.encode(&op, &mut bytes);
            assert_eq!(plan.plain_bytes(&op), bytes.len() as u64, "{op:?}");
            match stream {
                Some(Stream::Main) => wire.main.extend_from_slice(&bytes),
                Some(Stream::Channel(id)) => {
                    wire.channels[usize::from(id)].extend_from_slice(&bytes)
                }
                None => assert!(bytes.is_empty()),
            }
        }
        wire
    }
}

/// What the destination had at the end.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) ram: Ram,
    pub(crate) main: MainStream,
    pub(crate) sync_points: usize,
}

/// Parses everything and applies it round by round; inside a round the streams are taken in the
/// order that `order` gives, which may be any.
pub(crate) fn receive(plan: &Plan, wire: &Wire, mut order: impl FnMut(usize) -> usize) -> Arrived {
    let config = plan.config();
    let page_bytes = config.page_bytes as usize;
    let tail_bytes = plan.device_state().len();
    let vmdesc_bytes = plan.vmdesc().map_or(0, |json| json.len() + 5);
    let known = Known {
        page_bytes,
        footers: config.form.footers,
        tail_and_ending_bytes: tail_bytes + 1 + vmdesc_bytes,
        tail_bytes,
        sized_blocks: config.postcopy_advise,
        addressed_blocks: config.x_ignore_shared,
    };
    let main = main_stream::main_stream(&wire.main, known);
    assert_eq!(main.vmdesc.is_some(), config.form.vmdesc != VmdescForm::Absent);
    let mut channels = vec![Vec::new(); wire.channels.len()];
    for (id, bytes) in wire.channels.iter().enumerate() {
        let (found, uuid, packets) = channel(bytes, page_bytes);
        assert_eq!((usize::from(found), uuid), (id, config.uuid));
        channels[id] = packets;
    }
    let mut ram = Ram::new(page_bytes);
    let sync = |event: &Event| match config.form.sync {
        _ if wire.channels.is_empty() => false,
        SyncForm::Flush => *event == Event::Flush,
        SyncForm::PerEos => matches!(event, Event::Eos(_)),
    };
    let mut events = main.events.as_slice();
    let mut packets: Vec<&[Packet<'_>]> = channels.iter().map(Vec::as_slice).collect();
    let mut sync_points = 0;
    while !events.is_empty() || packets.iter().any(|packets| !packets.is_empty()) {
        let len = events.iter().position(sync).map_or(events.len(), |at| at + 1);
        let (round, rest) = events.split_at(len);
        let synced = round.last().is_some_and(sync);
        events = rest;
        let mut streams: Vec<Vec<Write<'_>>> = vec![round.iter().filter_map(Write::of).collect()];
        for packets in &mut packets {
            let len =
                packets.iter().position(|packet| packet.sync).map_or(packets.len(), |at| at + 1);
            let (round, rest) = packets.split_at(len);
            assert_eq!(
                round.last().is_some_and(|packet| packet.sync),
                synced,
                "SYNC counts differ"
            );
            *packets = rest;
            streams.push(
                round.iter().flat_map(|packet| Write::of_packet(packet, page_bytes)).collect(),
            );
        }
        for event in round {
            if let Event::Blocks(blocks) = event {
                for (name, bytes) in blocks {
                    ram.add(name, *bytes as usize);
                }
            }
        }
        sync_points += usize::from(synced);
        apply_round(&mut ram, streams, !wire.channels.is_empty(), &mut order);
    }
    Arrived { ram, main, sync_points }
}

#[derive(Clone, Copy, Debug)]
struct Write<'a> {
    block: &'a str,
    offset: u64,
    content: Content<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    Zero,
    Full(&'a [u8]),
    Runs(&'a [u8]),
}

impl<'a> Write<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let (block, &offset, content) = match event {
            Event::Full { block, offset, bytes }
            | Event::Compressed { block, offset, bytes, .. } => {
                (block, offset, Content::Full(bytes))
            }
            Event::Zero { block, offset } => (block, offset, Content::Zero),
            Event::Xbzrle { block, offset, runs } => (block, offset, Content::Runs(runs)),
            _ => return None,
        };
        Some(Self { block, offset, content })
    }

    fn of_packet(packet: &'a Packet<'_>, page_bytes: usize) -> Vec<Self> {
        let writes = packet.writes(page_bytes).into_iter();
        let content = |bytes: Option<&'a [u8]>| bytes.map_or(Content::Zero, Content::Full);
        writes
            .map(|(block, offset, bytes)| Self { block, offset, content: content(bytes) })
            .collect()
    }
}

/// With channels, a page comes at most once in a round, so the order of streams cannot matter.
fn apply_round(
    ram: &mut Ram,
    mut streams: Vec<Vec<Write<'_>>>,
    once: bool,
    order: &mut impl FnMut(usize) -> usize,
) {
    let mut seen = HashSet::new();
    streams.iter_mut().for_each(|stream| stream.reverse());
    while !streams.is_empty() {
        let at = order(streams.len());
        let Some(write) = streams[at].pop() else {
            streams.remove(at);
            continue;
        };
        let first = seen.insert((write.block, write.offset));
        assert!(first || !once, "{} at {:#x} twice in a round", write.block, write.offset);
        match write.content {
            Content::Full(bytes) => ram.put(write.block, write.offset, bytes),
            Content::Runs(runs) => ram.patch(write.block, write.offset, runs),
            Content::Zero => ram.clear(write.block, write.offset),
        }
    }
}
