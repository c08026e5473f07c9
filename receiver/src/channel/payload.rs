//! Payloads that are not pages yet: compressed pages, and device state.

use landfall_pagepool::RamBlocks;

use super::error::Fault;
use super::{Channel, ChannelError, Phase, Tally};
use crate::codec::{CodecError, Decoder};
use crate::place::{Filled, Places};
use crate::wire::Compression;

impl Channel {
    /// True once it has had compressed pages to decode.
    pub fn decodes(&self) -> bool {
        self.decoder.is_some()
    }

    /// Takes bytes of the payload that was wanted, cut anywhere, and decodes what
    /// can be decoded straight into guest RAM.
    ///
    /// With the last of them the pages count as received.
    pub fn take_payload(
        &mut self,
        bytes: &[u8],
        ram: &RamBlocks,
        tally: Tally<'_>,
    ) -> Result<(), ChannelError> {
        self.assert_payload(bytes.len() as u64);
        tally.channel.wire_bytes.add(bytes.len() as u64);
        if self.device_state.is_some() {
            self.take_device_state(bytes, tally);
            return Ok(());
        }
        if self.terms.keep {
            self.decode(bytes, ram).map_err(|error| self.payload_error(error))?;
        }
        self.end_piece(bytes.len() as u64, ram, tally);
        Ok(())
    }

    /// Bytes of the payload have come and are gone (`--sink discard`).
    pub fn drop_payload(&mut self, bytes: u64, ram: &RamBlocks, tally: Tally<'_>) {
        assert!(!self.terms.keep, "a payload is dropped where it shall be kept");
        self.assert_payload(bytes);
        tally.channel.wire_bytes.add(bytes);
        if self.device_state.is_some() {
            self.end_device_piece(bytes, tally);
        } else {
            self.end_piece(bytes, ram, tally);
        }
    }

    /// The header of a compressed packet has been taken.
    pub(super) fn begin_compressed(
        &mut self,
        compression: Compression,
    ) -> Result<(), ChannelError> {
        self.phase = Phase::Payload;
        if !self.terms.keep {
            return Ok(());
        }
        self.filled = Filled::default();
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                let made = Decoder::new(compression, self.page, &self.terms.staging);
                match made {
                    Ok(decoder) => none.insert(decoder),
                    Err(error) => return Err(self.error(Fault::Payload(compression, error))),
                }
            }
        };
        decoder.begin(self.pages.len(), self.missing);
        Ok(())
    }

    /// Takes device state, whose bytes are counted already.
    pub(super) fn take_device_state(&mut self, bytes: &[u8], tally: Tally<'_>) {
        let packet = self.device_state.as_mut().expect("a device-state packet is on its way");
        packet.take(bytes);
        self.end_device_piece(bytes.len() as u64, tally);
    }

    fn end_device_piece(&mut self, bytes: u64, tally: Tally<'_>) {
        tally.channel.device_bytes.add(bytes);
        self.missing -= bytes;
        self.at += bytes;
        if self.missing == 0 {
            let packet = self.device_state.take().expect("a device-state packet is on its way");
            self.terms.device_packets.end(packet);
            self.end_packet(tally);
        }
    }

    fn decode(&mut self, bytes: &[u8], ram: &RamBlocks) -> Result<(), CodecError> {
        let mut places = Places::new(&ram[self.block], &self.runs, &mut self.filled);
        let decoder = self.decoder.as_mut().expect("made with the header");
        decoder.take(bytes, &mut places)?;
        if bytes.len() as u64 == self.missing {
            decoder.end(&mut places)?;
        }
        Ok(())
    }

    fn end_piece(&mut self, bytes: u64, ram: &RamBlocks, tally: Tally<'_>) {
        self.missing -= bytes;
        self.at += bytes;
        if self.missing == 0 {
            self.pages_are_whole(ram, tally);
        }
    }

    fn payload_error(&self, error: CodecError) -> ChannelError {
        let compression = self.decoder.as_ref().map_or(Compression::None, Decoder::compression);
        self.error(Fault::Payload(compression, error))
    }

    fn assert_payload(&self, bytes: u64) {
        assert!(
            self.phase == Phase::Payload && bytes <= self.missing,
            "a payload that nobody wanted"
        );
    }
}
