//! Steps into bytes, in order: compressed channels go on where their last packet ended.

use std::fmt;

use crate::{
    encode::{compressed::Compressor, packet},
    plan::Plan,
    script::{Op, Packet, Stream},
};

/// Encodes the steps of a plan. Each channel's steps must come in their order.
pub struct Encoder<'a> {
    plan: &'a Plan,
    /// By channel, from its first packet on.
    compressors: Vec<Option<Compressor>>,
    pages: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let channels = usize::from(plan.config().channels);
        Self {
            plan,
            compressors: (0..channels).map(|_| None).collect(),
            pages: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Appends the bytes of a step and says where they go; `None` for a step that sends nothing.
    pub fn encode(&mut self, op: &Op, out: &mut Vec<u8>) -> Option<Stream> {
        match op {
            Op::Init { channel } => {
                out.extend_from_slice(&packet::init(&self.plan.config().uuid, *channel));
                Some(Stream::Channel(*channel))
            }
            Op::Main(bytes) => {
                out.extend_from_slice(bytes);
                Some(Stream::Main)
            }
            Op::MainPages(pages) => {
                self.plan.encode_main_pages(pages, out);
                Some(Stream::Main)
            }
            Op::Packet(packet) => {
                let (plan, payload) = (self.plan, self.payload(packet));
                plan.encode_packet_header(packet, payload.len(), out);
                out.extend_from_slice(payload);
                Some(Stream::Channel(packet.channel))
            }
            Op::DevicePacket(packet) => {
                packet.encode(out);
                Some(Stream::Channel(packet.channel))
            }
            Op::AwaitChannels | Op::AwaitSwitchoverAck | Op::AwaitShut => None,
        }
    }

    /// What follows the header of a packet.
    pub fn payload(&mut self, packet: &Packet) -> &[u8] {
        let config = self.plan.config();
        self.pages.resize(self.plan.pages_bytes(packet), 0);
        self.plan.fill_pages(packet, &mut self.pages);
        let compressor = &mut self.compressors[usize::from(packet.channel)];
        if compressor.is_none() {
            *compressor = Compressor::new(config.compression, config.level, config.page_bytes);
        }
        match compressor {
            // Nothing is sent for packets without page bytes, not even a flush.
            Some(compressor) if packet.normal > 0 => {
                self.payload.clear();
                compressor.packet(&self.pages, &mut self.payload);
                &self.payload
            }
            _ => &self.pages,
        }
    }
}

impl fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("channels", &self.compressors.len()).finish_non_exhaustive()
    }
}
