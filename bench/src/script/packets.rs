//! Pages into packets, packets onto channels, sync points.

use std::collections::VecDeque;

use super::op::{Op, Packet, Stale};
use crate::{
    encode::packet::packet_pages,
    form::PacketForm,
    guest::PageRef,
    hash::{Sequence, hash, mix},
};

/// Collects pages into packets and deals the packets out to the channels.
#[derive(Debug)]
pub(super) struct Packets {
    seed: u64,
    form: PacketForm,
    page_bytes: u32,
    block: u16,
    pages: Vec<PageRef>,
    next_num: u64,
    syncs: u64,
    deal: Deal,
    channels: Vec<ChannelPast>,
}

/// What an old source remembers of a channel.
#[derive(Debug, Default)]
struct ChannelPast {
    /// A packet not yet sent, which may turn out to be the one that also carries SYNC.
    held: Option<Packet>,
    /// The last packet's fields, which later headers show again.
    stale: Option<Stale>,
}

impl Packets {
    pub(super) fn new(seed: u64, form: PacketForm, page_bytes: u32, channels: u8) -> Self {
        Self {
            seed,
            form,
            page_bytes,
            block: 0,
            pages: Vec::new(),
            next_num: 0,
            syncs: 0,
            deal: Deal::new(seed, channels),
            channels: (0..channels).map(|_| ChannelPast::default()).collect(),
        }
    }

    /// Adds a page; a packet goes out when it is full or the block changes.
    pub(super) fn push(
        &mut self,
        block: u16,
        page: PageRef,
        zero_in_packet: bool,
        ops: &mut VecDeque<Op>,
    ) {
        if block != self.block {
            self.finish_packet(zero_in_packet, ops);
            self.block = block;
        }
        self.pages.push(page);
        if self.pages.len() == packet_pages(self.page_bytes) as usize {
            self.finish_packet(zero_in_packet, ops);
        }
    }

    /// Everything so far goes out, then a SYNC on every channel.
    pub(super) fn sync(&mut self, zero_in_packet: bool, ops: &mut VecDeque<Op>) {
        self.finish_packet(zero_in_packet, ops);
        self.syncs += 1;
        for channel in 0..self.channels.len() {
            match self.form {
                PacketForm::Clean => {
                    let packet = self.pageless(channel, true);
                    ops.push_back(Op::Packet(packet));
                }
                PacketForm::Stale => self.sync_stale(channel, ops),
            }
        }
    }

    /// The three ways in which an old source ends a channel's round: SYNC on the packet that was
    /// about to go, an empty packet and then SYNC, SYNC alone.
    fn sync_stale(&mut self, channel: usize, ops: &mut VecDeque<Op>) {
        let choice = hash(&[self.seed, TAG_SYNC, self.syncs, channel as u64]) % 4;
        let held = self.channels[channel].held.take();
        if let Some(mut packet) = held {
            if choice != 0 {
                packet.sync = true;
                ops.push_back(Op::Packet(packet));
                return;
            }
            ops.push_back(Op::Packet(packet));
        }
        if choice == 1 {
            let empty = self.pageless(channel, false);
            ops.push_back(Op::Packet(empty));
        }
        let sync = self.pageless(channel, true);
        ops.push_back(Op::Packet(sync));
    }

    fn pageless(&mut self, channel: usize, sync: bool) -> Packet {
        let stale = self.channels[channel].stale.clone().map(Box::new);
        Packet {
            channel: channel as u8,
            num: self.num(),
            sync,
            block: 0,
            pages: Vec::new(),
            normal: 0,
            stale,
        }
    }

    fn finish_packet(&mut self, zero_in_packet: bool, ops: &mut VecDeque<Op>) {
        if self.pages.is_empty() {
            return;
        }
        let room = packet_pages(self.page_bytes) as usize;
        let mut pages = std::mem::replace(&mut self.pages, Vec::with_capacity(room));
        let normal = if zero_in_packet { zero_pages_last(&mut pages) } else { pages.len() };
        let channel = self.deal.next();
        let num = self.num();
        let past = &mut self.channels[usize::from(channel)];
        let mut packet =
            Packet { channel, num, sync: false, block: self.block, pages, normal, stale: None };
        match self.form {
            PacketForm::Clean => ops.push_back(Op::Packet(packet)),
            PacketForm::Stale => {
                let page_bytes = u64::from(self.page_bytes);
                let mut offsets: Vec<u64> =
                    packet.pages.iter().map(|page| page.page * page_bytes).collect();
                if let Some(before) = past.stale.take() {
                    offsets.extend(before.offsets.iter().skip(packet.pages.len()));
                    packet.stale = Some(Box::new(before));
                }
                let next_packet_size = packet.normal as u32 * self.page_bytes;
                past.stale = Some(Stale { block: self.block, next_packet_size, offsets });
                if let Some(earlier) = past.held.replace(packet) {
                    ops.push_back(Op::Packet(earlier));
                }
            }
        }
    }

    fn num(&mut self) -> u64 {
        self.next_num += 1;
        self.next_num - 1
    }
}

/// Moves zero pages behind the others by swapping from both ends, which is what a source's
/// detection does: neither part stays in the order of addresses. Returns how many are not zero.
fn zero_pages_last(pages: &mut [PageRef]) -> usize {
    let (mut at, mut end) = (0, pages.len());
    while at < end {
        if pages[at].zero {
            end -= 1;
            pages.swap(at, end);
        } else {
            at += 1;
        }
    }
    end
}

/// Which channel takes the next packet: every channel once in each group of as many packets as
/// there are channels, in an order of its own per group. So load is even, and a page that is sent
/// again is rarely on the same channel.
#[derive(Debug)]
struct Deal {
    seed: u64,
    group: u64,
    order: Vec<u8>,
    at: usize,
}

impl Deal {
    fn new(seed: u64, channels: u8) -> Self {
        Self { seed: mix(seed ^ TAG_DEAL), group: 0, order: (0..channels).collect(), at: 0 }
    }

    fn next(&mut self) -> u8 {
        if self.at == 0 {
            shuffle(&mut self.order, Sequence::new(&[self.seed, self.group]));
            self.group += 1;
        }
        let channel = self.order[self.at];
        self.at = (self.at + 1) % self.order.len();
        channel
    }
}

/// Puts the items in a random order.
pub(super) fn shuffle<T>(items: &mut [T], mut random: Sequence) {
    for at in (1..items.len()).rev() {
        items.swap(at, random.below(at as u64 + 1) as usize);
    }
}

const TAG_DEAL: u64 = 0x6465_616c_0000_0000;
const TAG_SYNC: u64 = 0x7379_6e63_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_takes_one_packet_in_each_group() {
        let mut deal = Deal::new(5, 7);
        let groups: Vec<Vec<u8>> = (0..20).map(|_| (0..7).map(|_| deal.next()).collect()).collect();
        for group in &groups {
            let mut sorted = group.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert!(groups.iter().any(|group| *group != groups[0]), "always the same order");
    }

    #[test]
    fn zero_pages_end_up_behind_and_none_is_lost() {
        let page = |page| PageRef { page, generation: 0, zero: mix(page).is_multiple_of(3) };
        let mut pages: Vec<PageRef> = (0..128).map(page).collect();
        let normal = zero_pages_last(&mut pages);
        assert!(pages[..normal].iter().all(|page| !page.zero));
        assert!(pages[normal..].iter().all(|page| page.zero));
        pages.sort_by_key(|page| page.page);
        assert_eq!(pages, (0..128).map(page).collect::<Vec<_>>());
    }
}
