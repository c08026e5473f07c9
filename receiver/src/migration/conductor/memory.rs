//! Guest RAM on the way along the main stream: mapped when its blocks are known, loaded from a
//! file that has places for its pages.

use std::sync::Arc;

use landfall_pagepool::{BlockName, BlockRequest};

use super::super::settle::{self, ChannelCount};
use super::{MainPages, Sink, TICK_MS, Walk, page_shift, set_active};
use crate::clock::now_ns;
use crate::error::{Family, RunError};
use crate::mapped_ram::{Load, Loaded};
use crate::reader::Order;
use crate::run::{AWAY, lock};
use crate::wire::BlockInfo;

impl Walk<'_> {
    /// The source has told its RAM blocks: maps them, and waits for the channels that are
    /// configured.
    pub(super) fn ram_blocks(&mut self, blocks: &[BlockInfo]) -> Result<(), RunError> {
        // Said by the configuration, or by POSTCOPY_ADVISE; final with the list.
        self.page = self.stream.page();
        self.pages = MainPages::new(page_shift(self.page), self.plan.sink == Sink::Ram);
        let requests = blocks
            .iter()
            .map(|block| {
                let name = BlockName::parse(block.name.as_bytes()).map_err(|error| {
                    RunError::new(Family::Malformed, format!("RAM block '{}': {error}", block.name))
                })?;
                Ok(BlockRequest { name, bytes: block.used_bytes })
            })
            .collect::<Result<Vec<_>, RunError>>()?;
        self.run.main_turned_ns.set(AWAY);
        let mut pool = lock(self.pool);
        let carved = match self.plan.sink {
            Sink::Ram => pool.carve(&requests, self.page.get(), &|_, _| {}),
            Sink::Discard => pool.sketch(&requests, self.page.get()),
        };
        drop(pool);
        let ram = Arc::new(
            carved.map_err(|error| RunError::new(Family::Environment, error.to_string()))?,
        );
        self.received.ram = Some(Arc::clone(&ram));
        self.run.set_ram(ram);
        let now = now_ns();
        self.run.phases().ram_mapped = Some(now);
        self.run.main_turned_ns.set(now);
        // Mapping may have taken long.
        settle::check(self.run)?;
        if let ChannelCount::Configured(count) = self.plan.channels {
            let stall_ns = self.plan.stall_ns;
            let connections = settle::configured(self.run, &self.beside(), count, stall_ns)?;
            self.attach(connections);
            set_active(self.run, self.plan);
        }
        Ok(())
    }

    /// Has the readers load the pages of a mapped-ram file, and waits. Blocks that
    /// x-ignore-shared leaves out have no place in it.
    pub(super) fn load(&mut self, blocks: &[BlockInfo]) -> Result<(), RunError> {
        let Some(file) = self.file.as_ref().filter(|_| blocks.iter().any(|b| b.mapped.is_some()))
        else {
            return Ok(());
        };
        self.run.phases().first_byte.get_or_insert_with(now_ns);
        let readers = self.readers.len();
        let keep = self.plan.sink == Sink::Ram;
        let reads = self.plan.file_reads;
        let load = Arc::new(Load::new(file.clone(), blocks, self.page, reads, readers, keep));
        for reader in self.readers {
            reader.order(Order::Load(Arc::clone(&load)));
        }
        let main = &self.run.main;
        let mut counted = Loaded::default();
        let mut fate = Ok(());
        loop {
            let is_done = load.is_done();
            let loaded = load.loaded(self.run);
            if loaded != counted {
                main.wire_bytes.add(loaded.bytes - counted.bytes);
                main.normal.add(loaded.normal - counted.normal);
                main.zero.add(loaded.zero - counted.zero);
                main.last_activity_ns.set(now_ns());
                counted = loaded;
            }
            // Behind the count: what was read until then belongs to a run that fails, too.
            fate?;
            if is_done {
                self.bitmaps_are_empty = loaded.normal == 0;
                return file.check_unchanged();
            }
            fate = settle::wait(self.run, TICK_MS).and_then(|()| self.check_stall());
        }
    }
}
