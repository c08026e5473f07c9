//! Steps into bytes, in order: compressed channels go on where their last packet ended.

use std::fmt;

use crate::{
    encode::{compressed::Compressor, packet},
    message::Message,
    plan::Plan,
    script::{Op, Packet, Stream},
};

/// Encodes the steps of a plan. Each channel's steps must come in their order.
pub struct Encoder<'a> {
    plan: &'a Plan,
    /// By channel, from its first packet on.
    compressors: Vec<Option<Compressor>>,
    /// What is compressed next.
    pages: Vec<u8>,
    /// What came of it.
    payload: Vec<u8>,
    message: Message,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let channels = usize::from(plan.config().channels);
        Self {
            plan,
            compressors: (0..channels).map(|_| None).collect(),
            pages: Vec::new(),
            payload: Vec::new(),
            message: Message::new(),
        }
    }

    /// Appends the bytes of a step and says where they go; `None` for a step that sends nothing.
    pub fn encode(&mut self, op: &Op, out: &mut Vec<u8>) -> Option<Stream> {
        let mut message = std::mem::take(&mut self.message);
        let stream = self.gather(op, &mut message);
        message.slices().for_each(|piece| out.extend_from_slice(piece));
        self.message = message;
        stream
    }

    /// Makes `message` that of a step, and says where it goes; `None` for a step that sends
    /// nothing.
    pub fn gather(&mut self, op: &Op, message: &mut Message) -> Option<Stream> {
        message.clear();
        match op {
            Op::Init { channel } => {
                let init = packet::init(&self.plan.config().uuid, *channel);
                message.make(|made| made.extend_from_slice(&init));
                Some(Stream::Channel(*channel))
            }
            Op::Main(bytes) => {
                message.make(|made| made.extend_from_slice(bytes));
                Some(Stream::Main)
            }
            Op::MainPages(pages) => {
                self.plan.gather_main_pages(pages, message);
                Some(Stream::Main)
            }
            Op::Packet(packet) => {
                self.gather_packet(packet, message);
                Some(Stream::Channel(packet.channel))
            }
            Op::DevicePacket(packet) => {
                message.make(|made| packet.encode(made));
                Some(Stream::Channel(packet.channel))
            }
            Op::AwaitChannels | Op::AwaitSwitchoverAck | Op::AwaitShut => None,
        }
    }

    fn gather_packet(&mut self, packet: &Packet, message: &mut Message) {
        let plan = self.plan;
        let config = plan.config();
        let compressor = &mut self.compressors[usize::from(packet.channel)];
        if compressor.is_none() {
            *compressor = Compressor::new(config.compression, config.level, config.page_bytes);
        }
        // Nothing is sent for packets without page bytes, not even a flush.
        let Some(compressor) = compressor.as_mut().filter(|_| packet.normal > 0) else {
            let payload_bytes = plan.pages_bytes(packet);
            message.make(|made| plan.encode_packet_header(packet, payload_bytes, made));
            message.begin_payload();
            plan.gather_pages(packet, message);
            return;
        };
        self.pages.resize(plan.pages_bytes(packet), 0);
        plan.fill_pages(packet, &mut self.pages);
        // The header stands before the payload and tells its length.
        self.payload.clear();
        compressor.packet(&self.pages, &mut self.payload);
        message.make(|made| plan.encode_packet_header(packet, self.payload.len(), made));
        message.begin_payload();
        message.make(|made| made.extend_from_slice(&self.payload));
    }
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("channels", &self.compressors.len()).finish_non_exhaustive()
    }
}
