//! What must come of what the source sends.

use crate::{
    encode::ram::PageItem,
    guest::PageRef,
    plan::Plan,
    script::{Op, Packet},
};

/// Counts by RAM block and by sync point, from the source's steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Of each RAM block.
    pub(super) blocks: Vec<BlockModel>,
    /// All pages up to each sync point.
    pub(super) sync_points: Vec<Pages>,
    /// Of each channel, with and without pages.
    pub(super) packets: Vec<u64>,
    so_far: Pages,
    syncs: u64,
}

/// Pages by how they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// With their bytes.
    pub(super) normal: u64,
    /// Said to be zero.
    pub(super) zero: u64,
}

/// What a receiver counts for one RAM block.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockModel {
    /// Pages by how they came.
    pub(super) pages: Pages,
    /// Pages that came for the first time.
    pub(super) unique: u64,
    /// Pages with bytes that were all zero.
    pub(super) zero_sent_full: u64,
    /// Zero pages whose memory held something.
    pub(super) zero_written: u64,
    came: Vec<bool>,
    differs: Vec<bool>,
}

impl Model {
    /// Nothing has been sent.
    pub(super) fn new(plan: &Plan) -> Self {
        let guest = plan.guest();
        let block = |block| {
            let pages = guest.pages(block) as usize;
            BlockModel {
                came: vec![false; pages],
                differs: vec![false; pages],
                ..BlockModel::default()
            }
        };
        Self {
            blocks: (0..guest.block_count() as u16).map(block).collect(),
            packets: vec![0; usize::from(plan.config().channels)],
            ..Self::default()
        }
    }

    /// Adds a step. Its order among those of other streams does not matter
    /// between two sync points: there a page is sent once.
    pub(super) fn add(&mut self, op: &Op) {
        match op {
            Op::MainPages(pages) => {
                for (item, page) in &pages.items {
                    self.page(pages.block, *page, *item != PageItem::Zero);
                }
            }
            Op::Packet(packet) => self.packet(packet),
            Op::DevicePacket(packet) => self.packets[usize::from(packet.channel)] += 1,
            _ => {}
        }
    }

    fn packet(&mut self, packet: &Packet) {
        for (index, page) in packet.pages.iter().enumerate() {
            self.page(packet.block, *page, index < packet.normal);
        }
        self.packets[usize::from(packet.channel)] += 1;
        if packet.sync {
            self.syncs += 1;
            if self.syncs.is_multiple_of(self.packets.len() as u64) {
                self.sync_points.push(self.so_far);
            }
        }
    }

    fn page(&mut self, block: u16, page: PageRef, full: bool) {
        let block = &mut self.blocks[usize::from(block)];
        let index = page.page as usize;
        block.unique += u64::from(!std::mem::replace(&mut block.came[index], true));
        for pages in [&mut self.so_far, &mut block.pages] {
            pages.normal += u64::from(full);
            pages.zero += u64::from(!full);
        }
        let differed = std::mem::replace(&mut block.differs[index], !page.zero);
        if full {
            block.zero_sent_full += u64::from(page.zero);
        } else {
            block.zero_written += u64::from(differed);
        }
    }
}
