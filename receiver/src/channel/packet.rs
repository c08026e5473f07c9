//! A packet's header: what it says is checked and, but for the payload, done.

use landfall_pagepool::{RamBlocks, ZeroOutcome};

use super::error::Fault;
use super::{Channel, ChannelError, Phase, Tally};
use crate::place;
use crate::wire::{
    Compression, DEVICE_STATE_HEADER_BYTES, DeviceStateHeader, PACKET_START_BYTES, PacketHeader,
    PacketKind, PacketStart, WireError,
};

impl Channel {
    /// Takes bytes of one header, at most up to its first 12 bytes or its end.
    pub(super) fn take_header_part(
        &mut self,
        bytes: &[u8],
        ram: &RamBlocks,
        tally: Tally<'_>,
    ) -> Result<(), ChannelError> {
        self.header[self.header_have..][..bytes.len()].copy_from_slice(bytes);
        self.header_have += bytes.len();
        let have = &self.header[..self.header_have];
        if have.len() == PACKET_START_BYTES
            && let Some(start) = have.first_chunk()
        {
            // As early as its bytes are there: a wrong one may never be followed
            // by the rest of a header.
            let start = PacketStart::parse(start).map_err(|error| self.malformed(error))?;
            self.kind = start.kind();
        }
        if self.header_missing() > 0 {
            return Ok(());
        }
        match self.kind {
            PacketKind::Ram => self.take_ram_packet(ram, tally),
            PacketKind::DeviceState => self.take_device_packet(tally),
        }
    }

    fn take_ram_packet(&mut self, ram: &RamBlocks, tally: Tally<'_>) -> Result<(), ChannelError> {
        let header = PacketHeader::parse(&self.header[..self.header_have], self.page)
            .map_err(|error| self.malformed(error))?;
        let (normal, zero) = (header.normal_count(), header.zero_count());
        if normal + zero > 0 {
            if normal > 0 {
                let judged = self.terms.method.judge(header.compression());
                judged.map_err(|wrong| self.error(Fault::Method(wrong)))?;
            }
            let Some(index) = ram.find(header.block_name()) else {
                return Err(self.error(Fault::UnknownBlock));
            };
            let block = &ram[index];
            header
                .check_offsets(block.bytes(), self.page)
                .map_err(|error| self.malformed(error))?;
            let page_shift = self.page.get().trailing_zeros();
            if zero > 0 {
                let mut written = 0;
                for offset in header.zero_offsets() {
                    let outcome = block.announce_zero(offset >> page_shift);
                    written += u64::from(outcome == ZeroOutcome::Cleared);
                }
                let pages = header.zero_offsets().map(|offset| offset >> page_shift);
                let unique = block.mark_received(pages);
                tally.blocks[index].unique.add(unique);
                tally.blocks[index].zero.add(zero as u64);
                tally.blocks[index].zero_written.add(written);
                tally.channel.zero.add(zero as u64);
            }
            self.pages.clear();
            self.pages.extend(header.normal_offsets().map(|offset| offset >> page_shift));
            place::merge(header.normal_offsets(), self.page.as_u64(), &mut self.runs);
            if self.terms.keep {
                block.lend_each(self.pages.iter().copied());
            }
            self.block = index;
        }
        let compression = header.compression();
        self.sync = header.is_sync();
        self.missing = u64::from(header.payload_bytes());
        self.end_header(tally);
        match (self.missing, compression) {
            (0, _) => self.end_packet(tally),
            (_, Compression::None) => self.phase = Phase::Pages,
            (_, compressed) => self.begin_compressed(compressed)?,
        }
        Ok(())
    }

    fn take_device_packet(&mut self, tally: Tally<'_>) -> Result<(), ChannelError> {
        let header: &[u8; DEVICE_STATE_HEADER_BYTES] =
            self.header.first_chunk().expect("a RAM packet's header is longer");
        let parsed = DeviceStateHeader::parse(header).map_err(|error| self.malformed(error))?;
        let packet = self.terms.device_packets.begin(header, &parsed, self.terms.keep);
        let missing = u64::from(parsed.payload_bytes);
        match packet {
            Ok(packet) => self.device_state = Some(packet),
            Err(full) => return Err(self.error(Fault::DeviceState(full))),
        }
        self.missing = missing;
        self.sync = false;
        self.end_header(tally);
        tally.channel.device_packets.add(1);
        self.phase = Phase::Payload;
        Ok(())
    }

    /// The header is whole, and was right.
    fn end_header(&mut self, tally: Tally<'_>) {
        self.at += self.header_have as u64;
        self.payload_bytes = self.missing;
        self.header_have = 0;
        self.kind = PacketKind::Ram;
        self.packets += 1;
        tally.channel.packets.add(1);
    }

    fn malformed(&self, error: WireError) -> ChannelError {
        self.error(Fault::Malformed(error))
    }
}
