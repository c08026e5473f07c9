//! The source's steps in order, made one at a time: nothing is kept but where the source stands.

mod main_pages;
mod op;
mod packets;
mod sections;

pub use op::{DevicePacket, MainPages, Op, Packet, Stale, Stream};

use std::collections::VecDeque;

use self::{
    main_pages::MainItems,
    packets::{Packets, shuffle},
};
use crate::{
    config::SourceConfig,
    encode::ram,
    form::{AckForm, SyncForm, ZeroForm},
    guest::PageRef,
    hash::{Sequence, hash, mix},
    plan::Plan,
};

/// The steps of a whole migration.
#[derive(Debug)]
pub struct Script<'a> {
    plan: &'a Plan,
    stage: Stage,
    /// Steps decided on and not yet taken.
    ops: VecDeque<Op>,
    /// Bytes for main after the last step.
    main: Vec<u8>,
    /// Page items for main after the last step; never at once with `main`.
    items: MainItems,
    packets: Option<Packets>,
    section: Option<OpenSection>,
    disk_begun: bool,
    cursor: Cursor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Rounds,
    Switchover,
    Tail { device: usize },
    Done,
}

/// Where in the guest the source is.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    round: u32,
    block: u16,
    page: u64,
}

/// The open PART or END of ram.
#[derive(Clone, Copy, Debug)]
struct OpenSection {
    end: bool,
    pages: u64,
    rounds: u32,
}

impl<'a> Script<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let config = plan.config();
        let packets = (config.channels > 0).then(|| {
            Packets::new(config.seed, config.form.packets, config.page_bytes, config.channels)
        });
        Self {
            plan,
            stage: Stage::Opening,
            ops: VecDeque::new(),
            main: Vec::new(),
            items: MainItems::new(plan),
            packets,
            section: None,
            disk_begun: false,
            cursor: Cursor { round: 0, block: 0, page: 0 },
        }
    }

    /// The round that the next page belongs to.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.cursor.round
    }

    fn advance(&mut self) {
        match self.stage {
            Stage::Opening => {
                self.open();
                self.stage = Stage::Rounds;
            }
            Stage::Rounds => self.round_step(),
            Stage::Switchover => self.switchover_step(),
            Stage::Tail { device } => self.tail_step(device),
            Stage::Done => {}
        }
    }

    fn open(&mut self) {
        let config = self.plan.config();
        let mut channels: Vec<u8> = (0..config.channels).collect();
        shuffle(&mut channels, Sequence::new(&[config.seed, TAG_CONNECT]));
        self.ops.extend(channels.into_iter().map(|channel| Op::Init { channel }));
        if config.channels > 0 && config.form.main_awaits_channels {
            self.ops.push_back(Op::AwaitChannels);
        }
        self.write_opening();
        self.write_start();
    }

    /// One page of a round before the switchover, or the round's end.
    fn round_step(&mut self) {
        let config = self.plan.config();
        if self.is_last_round_of_several() {
            self.stage = Stage::Switchover;
            return;
        }
        if let Some(page) = self.next_page() {
            self.open_part();
            self.send_page(page);
            if self.section.is_some_and(|section| section.pages >= config.part_pages) {
                self.close_section();
            }
            return;
        }
        let mut close = true;
        if self.syncs_by_flush() {
            self.open_part();
            self.sync_point();
            self.write_main(ram::flush);
            self.flush_main();
            let section = self.section.as_mut().expect("just opened");
            section.rounds += 1;
            close = section.rounds >= config.rounds_per_part;
        }
        if close && self.section.is_some() {
            self.close_section();
        }
        self.next_round();
        if self.cursor.round == config.rounds {
            self.stage = Stage::Switchover;
        }
    }

    /// The guest has stopped: what is left of ram goes into its END.
    fn switchover_step(&mut self) {
        let config = self.plan.config();
        if !self.section.is_some_and(|section| section.end) {
            if self.section.is_some() {
                self.close_section();
            }
            if config.background_snapshot {
                self.stage = Stage::Tail { device: 0 };
                return;
            }
            if config.switchover_ack && config.form.acks != AckForm::NoneExactly {
                self.flush_main();
                self.ops.push_back(Op::AwaitSwitchoverAck);
            }
            self.open_end();
        }
        if self.cursor.round < config.rounds
            && let Some(page) = self.next_page()
        {
            self.send_page(page);
            return;
        }
        // A device saves its state while ram ends: some before the last SYNC, some after it.
        let packets = config.devices.packets;
        let early = if config.devices.packets_late { packets / 2 } else { packets };
        self.device_packets(0..early);
        if self.syncs_by_flush() {
            self.sync_point();
            self.write_main(ram::flush);
        }
        self.close_section();
        self.device_packets(early..packets);
        self.stage = Stage::Tail { device: 0 };
    }

    fn tail_step(&mut self, device: usize) {
        if self.write_device(device) {
            self.stage = Stage::Tail { device: device + 1 };
            return;
        }
        self.write_ending();
        if self.plan.config().return_path {
            self.ops.push_back(Op::AwaitShut);
        }
        self.stage = Stage::Done;
    }

    /// The next page that the round has to send, and moves behind it.
    fn next_page(&mut self) -> Option<(u16, PageRef)> {
        let guest = self.plan.guest();
        let cursor = &mut self.cursor;
        while usize::from(cursor.block) < guest.block_count() {
            if let Some(page) = guest.next_dirty(cursor.block, cursor.page, cursor.round) {
                cursor.page = page + 1;
                return Some((cursor.block, guest.page(cursor.block, page, cursor.round)));
            }
            cursor.block += 1;
            cursor.page = 0;
        }
        None
    }

    fn next_round(&mut self) {
        self.cursor = Cursor { round: self.cursor.round + 1, block: 0, page: 0 };
    }

    fn send_page(&mut self, (block, page): (u16, PageRef)) {
        let section = self.section.as_mut().expect("pages are sent inside a section");
        section.pages += 1;
        let zero_form = self.plan.config().zero_form();
        let on_main = page.zero && zero_form == ZeroForm::OnMain;
        match &mut self.packets {
            Some(packets) if !on_main => {
                packets.push(block, page, zero_form == ZeroForm::InPackets, &mut self.ops);
            }
            _ => {
                if !self.main.is_empty() || self.items.is_full(self.plan, block) {
                    self.flush_main();
                }
                self.items.push(self.plan, block, page, on_main);
            }
        }
    }

    /// SYNC on every channel, after everything that was sent before.
    fn sync_point(&mut self) {
        self.flush_main();
        let in_packets = self.plan.config().zero_form() == ZeroForm::InPackets;
        if let Some(packets) = &mut self.packets {
            packets.sync(in_packets, &mut self.ops);
        }
    }

    fn device_packets(&mut self, indices: std::ops::Range<u32>) {
        let config = self.plan.config();
        if indices.is_empty() {
            return;
        }
        self.flush_main();
        for index in indices {
            let random = hash(&[config.seed, TAG_DEVICE, u64::from(index)]);
            let most = u64::from(config.devices.packet_bytes_max.max(12));
            self.ops.push_back(Op::DevicePacket(DevicePacket {
                channel: (random % u64::from(config.channels)) as u8,
                index,
                last: index + 1 == config.devices.packets,
                bytes: (12 + mix(random) % (most - 11)) as u32,
                seed: config.seed,
            }));
        }
    }

    fn write_main(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(items) = self.items.take() {
            self.ops.push_back(Op::MainPages(items));
        }
        write(&mut self.main);
    }

    /// What is meant for main becomes a step.
    fn flush_main(&mut self) {
        if !self.main.is_empty() {
            self.ops.push_back(Op::Main(std::mem::take(&mut self.main)));
        }
        if let Some(items) = self.items.take() {
            self.ops.push_back(Op::MainPages(items));
        }
    }

    fn syncs_by_flush(&self) -> bool {
        self.packets.is_some() && self.plan.config().form.sync == SyncForm::Flush
    }

    fn is_last_round_of_several(&self) -> bool {
        let rounds = self.plan.config().rounds;
        rounds > 1 && self.cursor.round + 1 == rounds
    }
}

impl Iterator for Script<'_> {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        loop {
            if let Some(op) = self.ops.pop_front() {
                return Some(op);
            }
            if self.stage == Stage::Done {
                return None;
            }
            self.advance();
        }
    }
}

/// The section numbers of `ram`, `dirty-bitmap` and `block`.
pub(crate) fn iterable_ids(config: &SourceConfig) -> [u32; 3] {
    let ram = config.form.ram_section_id;
    [ram, ram + 1, ram.checked_sub(1).unwrap_or(2)]
}

const TAG_CONNECT: u64 = 0x636f_6e6e_0000_0000;
const TAG_DEVICE: u64 = 0x6465_7669_6365_0000;
