//! A configuration that was found possible, with everything that the steps are made from.

use crate::{
    config::{ConfigError, SourceConfig},
    devices::Devices,
    encode::{
        device,
        packet::{self, FLAG_SYNC, HeaderFields, INIT_BYTES, header_bytes, packet_pages},
        ram::{self, PageItem},
    },
    form::PacketForm,
    guest::Guest,
    script::{MainPages, Op, Packet, Script, Stream},
    sent::Sent,
};

/// A whole migration, ready to be sent as often as wanted.
#[derive(Debug)]
pub struct Plan {
    config: SourceConfig,
    guest: Guest,
    devices: Devices,
    vmdesc: Option<String>,
}

impl Plan {
    /// Checks the configuration and invents the guest.
    ///
    /// # Errors
    /// What no source could do, and images that cannot be opened: [`ConfigError`].
    pub fn new(config: SourceConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let guest = Guest::new(&config)?;
        let devices = Devices::new(&config);
        let vmdesc = device::description(
            config.form.vmdesc,
            &config.machine,
            config.page_bytes,
            &devices.in_stream_order(),
        );
        Ok(Self { config, guest, devices, vmdesc })
    }

    /// What the plan was made from.
    #[must_use]
    pub fn config(&self) -> &SourceConfig {
        &self.config
    }

    /// The guest, which knows what every page must hold in the end.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The description at the end of the stream, where the form has one.
    #[must_use]
    pub fn vmdesc(&self) -> Option<&str> {
        self.vmdesc.as_deref()
    }

    /// The device tail as it stands on the wire, from the first section after ram's END up to and
    /// without the end of the sections.
    #[must_use]
    pub fn device_state(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for device in &self.devices.tail {
            device::section(&mut out, device, self.config.form.footers);
        }
        out
    }

    /// The steps, from the first connection to the end.
    #[must_use]
    pub fn script(&self) -> Script<'_> {
        Script::new(self)
    }

    /// What a complete run sends, by going through all steps without encoding them.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let mut sent = Sent::new(self);
        for op in self.script() {
            sent.add(self, &op);
        }
        sent
    }

    /// Appends the bytes of a step and says where they go; `None` for a step that sends nothing.
    pub fn encode(&self, op: &Op, out: &mut Vec<u8>) -> Option<Stream> {
        match op {
            Op::Init { channel } => {
                out.extend_from_slice(&packet::init(&self.config.uuid, *channel));
                Some(Stream::Channel(*channel))
            }
            Op::Main(bytes) => {
                out.extend_from_slice(bytes);
                Some(Stream::Main)
            }
            Op::MainPages(pages) => {
                self.encode_main_pages(pages, out);
                Some(Stream::Main)
            }
            Op::Packet(packet) => {
                self.encode_packet(packet, out);
                Some(Stream::Channel(packet.channel))
            }
            Op::AwaitChannels | Op::AwaitSwitchoverAck | Op::AwaitShut => None,
        }
    }

    /// How many bytes [`Plan::encode`] appends for this step.
    #[must_use]
    pub fn encoded_bytes(&self, op: &Op) -> u64 {
        let page_bytes = u64::from(self.config.page_bytes);
        match op {
            Op::Init { .. } => INIT_BYTES as u64,
            Op::Main(bytes) => bytes.len() as u64,
            Op::MainPages(pages) => {
                let name =
                    if pages.continues { 0 } else { 1 + self.name(pages.block).len() as u64 };
                pages.items.iter().fold(name, |sum, (item, _)| match item {
                    PageItem::Zero => sum + 9,
                    PageItem::Full => sum + 8 + page_bytes,
                })
            }
            Op::Packet(packet) => {
                header_bytes(self.config.page_bytes) as u64 + packet.normal as u64 * page_bytes
            }
            Op::AwaitChannels | Op::AwaitSwitchoverAck | Op::AwaitShut => 0,
        }
    }

    /// Appends a packet: header and page bytes.
    pub fn encode_packet(&self, packet: &Packet, out: &mut Vec<u8>) {
        self.encode_packet_header(packet, out);
        let start = out.len();
        out.resize(start + self.payload_bytes(packet), 0);
        self.fill_payload(packet, &mut out[start..]);
    }

    /// The bytes of a packet's pages.
    #[must_use]
    pub fn payload_bytes(&self, packet: &Packet) -> usize {
        packet.normal * self.config.page_bytes as usize
    }

    /// Writes the bytes of a packet's pages.
    ///
    /// # Panics
    /// When `out` has not exactly [`Plan::payload_bytes`].
    pub fn fill_payload(&self, packet: &Packet, out: &mut [u8]) {
        assert_eq!(out.len(), self.payload_bytes(packet), "a payload is filled whole");
        let slots = out.chunks_exact_mut(self.config.page_bytes as usize);
        for (page, slot) in packet.normal_pages().iter().zip(slots) {
            self.guest.fill(packet.block, *page, slot);
        }
    }

    /// Appends a packet's header.
    pub fn encode_packet_header(&self, packet: &Packet, out: &mut Vec<u8>) {
        let page_bytes = self.config.page_bytes;
        let clean = self.config.form.packets == PacketForm::Clean;
        let pageless = packet.pages.is_empty();
        let stale = packet.stale.as_deref();
        let block = match (pageless, stale) {
            (false, _) => Some(packet.block),
            (true, Some(stale)) => Some(stale.block),
            (true, None) => None,
        };
        let fields = HeaderFields {
            flags: if packet.sync { FLAG_SYNC } else { 0 },
            pages_alloc: if clean && pageless { 0 } else { packet_pages(page_bytes) },
            normal: packet.normal as u32,
            next_packet_size: match stale {
                Some(stale) if pageless => stale.next_packet_size,
                _ => packet.normal as u32 * page_bytes,
            },
            packet_num: packet.num,
            zero: (packet.pages.len() - packet.normal) as u32,
            block: block.map_or("", |block| self.name(block)),
        };
        let own = packet.pages.iter().map(|page| page.page * u64::from(page_bytes));
        let left = stale.map_or(&[][..], |stale| &stale.offsets);
        let left = left.iter().skip(packet.pages.len()).copied();
        packet::header(out, page_bytes, fields, own.chain(left));
    }

    /// Appends page items for main.
    pub fn encode_main_pages(&self, pages: &MainPages, out: &mut Vec<u8>) {
        let page_bytes = self.config.page_bytes as usize;
        let mut name = (!pages.continues).then(|| self.name(pages.block));
        for (item, page) in &pages.items {
            let offset = page.page * page_bytes as u64;
            match item {
                PageItem::Zero => ram::zero(out, offset, name.take()),
                PageItem::Full => {
                    ram::page_head(out, PageItem::Full, offset, name.take());
                    let start = out.len();
                    out.resize(start + page_bytes, 0);
                    self.guest.fill(pages.block, *page, &mut out[start..]);
                }
            }
        }
    }

    /// The most pages that one step names: as many as a packet holds.
    #[must_use]
    pub fn batch_pages(&self) -> usize {
        packet_pages(self.config.page_bytes) as usize
    }

    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    fn name(&self, block: u16) -> &str {
        &self.config.blocks[usize::from(block)].name
    }
}
