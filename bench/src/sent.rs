//! What was sent, counted: what a receiver's own counters are compared with.

use crate::{
    encode::ram::PageItem,
    plan::Plan,
    script::{Op, Stream},
};

/// Pages of one round or between two sync points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagesSent {
    /// Pages that came with their bytes.
    pub normal: u64,
    /// Pages announced as zero.
    pub zero: u64,
}

/// Everything that a run sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// All pages. A page sent twice counts twice.
    pub pages: PagesSent,
    /// Of the normal pages, those that were zero all the same.
    pub normal_but_zero: u64,
    /// Of the normal pages, those of which what changed was sent.
    pub xbzrle: u64,
    /// Of the normal pages, those that were compressed on main.
    pub compressed_on_main: u64,
    /// Pages sent for the first time.
    pub unique: u64,
    /// Pages sent again.
    pub resent: u64,
    /// Pages by round of the guest.
    pub rounds: Vec<PagesSent>,
    /// Pages before each sync point, from the sync point before on; pages on main included.
    pub sync_points: Vec<PagesSent>,
    /// Packets on all channels, with and without pages.
    pub packets: u64,
    /// Packets that carry SYNC.
    pub sync_packets: u64,
    /// Bytes on main.
    pub main_bytes: u64,
    /// Bytes on each channel, Init included.
    pub channel_bytes: Vec<u64>,
    since_sync: PagesSent,
    syncs_open: usize,
}

impl Sent {
    /// Nothing yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let channels = usize::from(plan.config().channels);
        Self {
            pages: PagesSent::default(),
            normal_but_zero: 0,
            xbzrle: 0,
            compressed_on_main: 0,
            unique: 0,
            resent: 0,
            rounds: vec![PagesSent::default(); plan.config().rounds as usize],
            sync_points: Vec::new(),
            packets: 0,
            sync_packets: 0,
            main_bytes: 0,
            channel_bytes: vec![0; channels],
            since_sync: PagesSent::default(),
            syncs_open: 0,
        }
    }

    /// All bytes on all streams.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.main_bytes + self.channel_bytes.iter().sum::<u64>()
    }

    /// Adds a step that takes so many bytes.
    pub(crate) fn add(&mut self, op: &Op, bytes: u64) {
        match op {
            Op::Init { channel } => self.add_bytes(Stream::Channel(*channel), bytes),
            Op::Main(_) => self.add_bytes(Stream::Main, bytes),
            Op::MainPages(pages) => {
                self.add_bytes(Stream::Main, bytes);
                for (item, page) in &pages.items {
                    self.add_page(page.generation, page.zero, *item != PageItem::Zero);
                    match item {
                        PageItem::Xbzrle { .. } => self.xbzrle += 1,
                        PageItem::CompressPage { .. } => self.compressed_on_main += 1,
                        PageItem::Zero | PageItem::Full => {}
                    }
                }
            }
            Op::Packet(packet) => {
                self.add_bytes(Stream::Channel(packet.channel), bytes);
                for (index, page) in packet.pages.iter().enumerate() {
                    self.add_page(page.generation, page.zero, index < packet.normal);
                }
                self.packets += 1;
                if packet.sync {
                    self.add_sync();
                }
            }
            Op::DevicePacket(packet) => {
                self.add_bytes(Stream::Channel(packet.channel), bytes);
                self.packets += 1;
            }
            Op::AwaitChannels | Op::AwaitSwitchoverAck | Op::AwaitShut => {}
        }
    }

    fn add_bytes(&mut self, stream: Stream, bytes: u64) {
        match stream {
            Stream::Main => self.main_bytes += bytes,
            Stream::Channel(channel) => self.channel_bytes[usize::from(channel)] += bytes,
        }
    }

    fn add_page(&mut self, round: u32, zero: bool, full: bool) {
        let rounds = &mut self.rounds[round as usize];
        for pages in [&mut self.pages, &mut self.since_sync, rounds] {
            if full {
                pages.normal += 1;
            } else {
                pages.zero += 1;
            }
        }
        self.normal_but_zero += u64::from(full && zero);
        // The first round sends every page.
        if round == 0 {
            self.unique += 1;
        } else {
            self.resent += 1;
        }
    }

    /// A sync point is complete with the last channel's SYNC, as the script issues them together.
    fn add_sync(&mut self) {
        self.sync_packets += 1;
        self.syncs_open += 1;
        if self.syncs_open == self.channel_bytes.len() {
            self.syncs_open = 0;
            self.sync_points.push(std::mem::take(&mut self.since_sync));
        }
    }
}
