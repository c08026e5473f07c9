//! All bytes that the source sends, by stream.

use super::model::Model;
use crate::{
    encode::{compressed::Compression, ram::PageItem, stream},
    encoder::Encoder,
    plan::Plan,
    script::{Op, Stream},
};

/// What is on the wire, before anything happens to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    /// The main stream.
    pub(super) main: Vec<u8>,
    /// Each channel, Init included.
    pub(super) channels: Vec<Vec<u8>>,
    /// Every page that is sent with its bytes.
    pub(super) payloads: Vec<Payload>,
    /// Where main waits.
    pub(super) gates: Vec<Gate>,
    /// Where in main the device state begins.
    pub(super) device_state_at: usize,
    /// What must come of it.
    pub(super) model: Model,
}

/// A page's bytes in a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    pub(super) stream: Stream,
    /// Byte of the stream.
    pub(super) at: usize,
    pub(super) block: u16,
    pub(super) page: u64,
    pub(super) generation: u32,
}

/// A place in main behind which the source sends nothing for the time being.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// Byte of main.
    pub(super) at: usize,
    pub(super) until: Until,
}

/// What a source waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// All channels are connected.
    Channels,
    /// A SWITCHOVER_ACK.
    Ack,
}

impl Flow {
    /// Everything that `plan` sends, in place of what was here before.
    pub(super) fn fill(&mut self, plan: &Plan) {
        let count = usize::from(plan.config().channels);
        self.main.clear();
        self.channels.resize_with(count, Vec::new);
        self.channels.iter_mut().for_each(Vec::clear);
        self.payloads.clear();
        self.gates.clear();
        self.model = Model::new(plan);
        let mut connects = false;
        let mut encoder = plan.encoder();
        for op in plan.script() {
            self.model.add(&op);
            match &op {
                Op::AwaitChannels => self.gate(Until::Channels),
                Op::AwaitSwitchoverAck => self.gate(Until::Ack),
                // A source marks a sync point on main when every channel has
                // its SYNC.
                Op::Packet(packet) if packet.sync && !connects => {
                    connects = true;
                    self.gate(Until::Channels);
                }
                _ => {}
            }
            self.write(plan, &mut encoder, &op);
        }
        let mut ending = Vec::new();
        stream::eof(&mut ending);
        plan.vmdesc().iter().for_each(|json| stream::vmdesc(&mut ending, json));
        self.device_state_at = self.main.len() - ending.len() - plan.device_state().len();
    }

    /// A stream's bytes.
    pub(super) fn stream(&self, stream: Stream) -> &[u8] {
        match stream {
            Stream::Main => &self.main,
            Stream::Channel(id) => &self.channels[usize::from(id)],
        }
    }

    /// A stream's bytes.
    pub(super) fn stream_mut(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Main => &mut self.main,
            Stream::Channel(id) => &mut self.channels[usize::from(id)],
        }
    }

    /// The page whose bytes stand at this place.
    pub(super) fn payload_at(
        &self,
        stream: Stream,
        at: usize,
        page_bytes: usize,
    ) -> Option<Payload> {
        let holds = |payload: &&Payload| {
            payload.stream == stream && (payload.at..payload.at + page_bytes).contains(&at)
        };
        self.payloads.iter().find(holds).copied()
    }

    /// Bytes on all streams.
    pub(super) fn bytes(&self) -> u64 {
        let channels: usize = self.channels.iter().map(Vec::len).sum();
        (self.main.len() + channels) as u64
    }

    fn gate(&mut self, until: Until) {
        self.gates.push(Gate { at: self.main.len(), until });
    }

    fn write(&mut self, plan: &Plan, encoder: &mut Encoder<'_>, op: &Op) {
        let page_bytes = plan.config().page_bytes as usize;
        let stream = match op {
            Op::Init { channel } => Stream::Channel(*channel),
            Op::Packet(packet) => Stream::Channel(packet.channel),
            Op::DevicePacket(packet) => Stream::Channel(packet.channel),
            _ => Stream::Main,
        };
        encoder.encode(op, self.stream_mut(stream));
        let end = self.stream(stream).len();
        match op {
            // A compressed page has no place of its own.
            Op::Packet(_) if plan.config().compression != Compression::None => {}
            Op::Packet(packet) => {
                let first = end - plan.pages_bytes(packet);
                for (index, page) in packet.normal_pages().iter().enumerate() {
                    self.payloads.push(Payload {
                        stream,
                        at: first + index * page_bytes,
                        block: packet.block,
                        page: page.page,
                        generation: page.generation,
                    });
                }
            }
            // What is wrong in a page stays wrong where only its changes come later.
            Op::MainPages(_) if plan.config().xbzrle => {}
            Op::MainPages(pages) => {
                let mut at = end;
                for (item, page) in pages.items.iter().rev() {
                    if *item == PageItem::Full {
                        self.payloads.push(Payload {
                            stream,
                            at: at - page_bytes,
                            block: pages.block,
                            page: page.page,
                            generation: page.generation,
                        });
                    }
                    // The first item may have a name too, which comes before.
                    at -= item.wire_bytes(plan.config().page_bytes) as usize;
                }
            }
            _ => {}
        }
    }
}
