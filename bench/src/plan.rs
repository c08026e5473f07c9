//! A configuration that was found possible, with everything that the steps are made from.

use crate::{
    config::{ConfigError, SourceConfig},
    devices::Devices,
    encode::{
        compressed::Compression,
        device,
        packet::{self, FLAG_SYNC, HeaderFields, INIT_BYTES, header_bytes, packet_pages},
        ram::{self, PageItem},
    },
    encoder::Encoder,
    form::PacketForm,
    guest::{Guest, PageRef},
    message::Message,
    script::{MainPages, Op, Packet, Script},
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

    /// What a complete run sends, by going through all steps; only what is compressed is encoded.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let mut sent = Sent::new(self);
        let mut encoder = self.encoder();
        let mut message = Message::new();
        for op in self.script() {
            let mut bytes = self.plain_bytes(&op);
            if matches!(op, Op::Packet(_)) && self.config.compression != Compression::None {
                encoder.gather(&op, &mut message);
                bytes = message.bytes() as u64;
            }
            sent.add(&op, bytes);
        }
        sent
    }

    /// What makes bytes of the steps.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self)
    }

    /// How many bytes an [`Encoder`] appends for this step, were it not for compression.
    #[must_use]
    pub fn plain_bytes(&self, op: &Op) -> u64 {
        let page_bytes = self.config.page_bytes;
        match op {
            Op::Init { .. } => INIT_BYTES as u64,
            Op::Main(bytes) => bytes.len() as u64,
            Op::MainPages(pages) => {
                let name =
                    if pages.continues { 0 } else { 1 + self.name(pages.block).len() as u64 };
                pages.items.iter().fold(name, |sum, (item, _)| sum + item.wire_bytes(page_bytes))
            }
            Op::Packet(packet) => {
                header_bytes(page_bytes) as u64 + packet.normal as u64 * u64::from(page_bytes)
            }
            Op::DevicePacket(packet) => packet.encoded_bytes(),
            Op::AwaitChannels | Op::AwaitSwitchoverAck | Op::AwaitShut => 0,
        }
    }

    /// The bytes of a packet's pages.
    #[must_use]
    pub fn pages_bytes(&self, packet: &Packet) -> usize {
        packet.normal * self.config.page_bytes as usize
    }

    /// Writes the bytes of a packet's pages.
    ///
    /// # Panics
    /// When `out` has not exactly [`Plan::pages_bytes`].
    pub fn fill_pages(&self, packet: &Packet, out: &mut [u8]) {
        assert_eq!(out.len(), self.pages_bytes(packet), "pages are filled whole");
        let slots = out.chunks_exact_mut(self.config.page_bytes as usize);
        for (page, slot) in packet.normal_pages().iter().zip(slots) {
            self.guest.fill(packet.block, *page, slot);
        }
    }

    /// Appends a packet's header, for a payload of so many bytes.
    pub fn encode_packet_header(&self, packet: &Packet, payload_bytes: usize, out: &mut Vec<u8>) {
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
            flags: if packet.sync { FLAG_SYNC } else { 0 }
                | if pageless { 0 } else { self.config.compression.flag() },
            pages_alloc: if clean && pageless { 0 } else { packet_pages(page_bytes) },
            normal: packet.normal as u32,
            next_packet_size: match stale {
                Some(stale) if pageless => stale.next_packet_size,
                _ => payload_bytes as u32,
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

    /// Appends the bytes of a packet's pages.
    pub(crate) fn gather_pages(&self, packet: &Packet, message: &mut Message) {
        for page in packet.normal_pages() {
            self.gather_page(packet.block, *page, message);
        }
    }

    /// Appends page items for main.
    pub(crate) fn gather_main_pages(&self, pages: &MainPages, message: &mut Message) {
        let page_bytes = u64::from(self.config.page_bytes);
        let mut name = (!pages.continues).then(|| self.name(pages.block));
        let mut encoded = pages.encoded.as_slice();
        for (item, page) in &pages.items {
            let offset = page.page * page_bytes;
            let name = name.take();
            match item {
                PageItem::Zero => message.make(|made| ram::zero(made, offset, name)),
                PageItem::Full => {
                    message.make(|made| ram::page_head(made, PageItem::Full, offset, name));
                    self.gather_page(pages.block, *page, message);
                }
                PageItem::Xbzrle { .. } | PageItem::CompressPage { .. } => {
                    let (bytes, rest) = encoded.split_at(item.encoded_bytes());
                    encoded = rest;
                    message.make(|made| {
                        ram::page_head(made, *item, offset, name);
                        made.extend_from_slice(bytes);
                    });
                }
            }
        }
    }

    /// From where it lies, or made.
    fn gather_page(&self, block: u16, page: PageRef, message: &mut Message) {
        if let Some(bytes) = self.guest.lies_at(block, page) {
            return message.lend(bytes);
        }
        message.make(|made| {
            let start = made.len();
            made.resize(start + self.config.page_bytes as usize, 0);
            self.guest.fill(block, page, &mut made[start..]);
        });
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
