//! The source's guest as a mapped-ram file: sparse, every page in its place.
//!
//! As QEMU saves it: header, configuration and ram's START first, each block's bitmap and pages
//! behind its entry of the list; then the pages, round after round over each other, so that a page
//! that turned zero leaves its old bytes behind; then the bitmaps, and the device state behind the
//! last block's pages.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::{
    config::{ConfigError, SourceConfig},
    encode::{
        Append, device,
        mapped_ram::{Bitmap, HEADER_BYTES, block_header},
        ram,
        stream::{self, Command, SectionHead},
    },
    form::EarlyForm,
    guest::PageRef,
    plan::Plan,
    script::iterable_ids,
};

/// Where things stand in a file that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// One for each RAM block.
    pub blocks: Vec<BlockPlace>,
    /// Where the stream goes on behind the last block's pages.
    pub rest_offset: u64,
    /// How long the file is.
    pub bytes: u64,
    /// Pages that have data in the end.
    pub normal: u64,
    /// Pages that have none.
    pub zero: u64,
}

/// Where a RAM block stands: all but its header at 0 if x-ignore-shared leaves it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockPlace {
    /// Its header in the list.
    pub header_offset: u64,
    /// Its bitmap.
    pub bitmap_offset: u64,
    /// How long that is.
    pub bitmap_bytes: u64,
    /// Its first page.
    pub pages_offset: u64,
}

/// Writes the plan's guest to `file`, which is empty up to `offset`, where the stream begins.
///
/// # Errors
/// What the system says; [`io::ErrorKind::InvalidInput`] for a plan that no such file can be of.
pub fn save(plan: &Plan, file: &File, offset: u64) -> io::Result<Saved> {
    check(plan.config()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut writer = Writer { plan, file, at: offset, saved: Saved::default() };
    writer.opening()?;
    let mut rest = Vec::new();
    writer.encode_rest(&mut rest);
    let bitmaps = writer.pages()?;
    for (place, bitmap) in writer.saved.blocks.iter().zip(&bitmaps) {
        file.write_all_at(bitmap.bytes(), place.bitmap_offset)?;
    }
    file.write_all_at(&rest, writer.at)?;
    writer.saved.rest_offset = writer.at;
    writer.saved.bytes = writer.at + rest.len() as u64;
    Ok(writer.saved)
}

/// Whether such a guest could be saved so.
fn check(config: &SourceConfig) -> Result<(), ConfigError> {
    for (with, on) in [
        ("return-path", config.return_path),
        ("postcopy-ram", config.postcopy_advise),
        ("dirty-bitmaps", config.dirty_bitmaps),
        ("background-snapshot", config.background_snapshot),
        ("xbzrle", config.xbzrle),
        ("compress", config.compress),
        ("block", config.disk),
    ] {
        if on {
            return Err(ConfigError::Together { what: "mapped-ram", with });
        }
    }
    Ok(())
}

struct Writer<'a> {
    plan: &'a Plan,
    file: &'a File,
    /// Where the stream stands.
    at: u64,
    saved: Saved,
}

impl Writer<'_> {
    /// Everything up to the last entry of the list.
    fn opening(&mut self) -> io::Result<()> {
        let config = self.plan.config();
        let mut out = Vec::new();
        stream::header(&mut out);
        stream::configuration(&mut out, &config.machine);
        if config.target_page_bits {
            stream::configuration_page_bits(&mut out, config.page_bytes);
        }
        let both = ["x-ignore-shared", "mapped-ram"];
        let capabilities = if config.x_ignore_shared { &both[..] } else { &both[1..] };
        stream::configuration_capabilities(&mut out, capabilities);
        if config.validate_uuid {
            stream::configuration_uuid(&mut out, &config.uuid);
        }
        if config.form.early == EarlyForm::BeforeRam {
            self.early(&mut out);
        }
        let [ram_id, _, _] = iterable_ids(config);
        let head = SectionHead { id: ram_id, idstr: "ram", instance: 0, version: 4 };
        stream::section_start(&mut out, head);
        ram::total(&mut out, config.ram_bytes());
        let mut address = 0;
        for block in &config.blocks {
            ram::block_entry(&mut out, &block.name, block.bytes);
            if config.x_ignore_shared {
                out.be64(address);
                address += block.bytes;
            }
            let header_offset = self.at + out.len() as u64;
            if config.x_ignore_shared && block.shared {
                // As from 11.0 on: no place, and the next entry follows at once.
                block_header(&mut out, config.page_bytes, 0, 0);
                self.saved.blocks.push(BlockPlace { header_offset, ..BlockPlace::default() });
                continue;
            }
            let bitmap_offset = header_offset + HEADER_BYTES;
            let pages = block.bytes / u64::from(config.page_bytes);
            let bitmap_bytes = pages.div_ceil(64) * 8;
            let pages_offset = (bitmap_offset + bitmap_bytes).next_multiple_of(PAGES_ALIGNMENT);
            block_header(&mut out, config.page_bytes, bitmap_offset, pages_offset);
            self.file.write_all_at(&out, self.at)?;
            out.clear();
            self.at = pages_offset + block.bytes;
            let place = BlockPlace { header_offset, bitmap_offset, bitmap_bytes, pages_offset };
            self.saved.blocks.push(place);
        }
        // Entries behind the last block that has a place.
        self.file.write_all_at(&out, self.at)?;
        self.at += out.len() as u64;
        Ok(())
    }

    /// The stream behind the pages: what is left of ram has nothing in it.
    fn encode_rest(&self, out: &mut Vec<u8>) {
        let config = self.plan.config();
        let [ram_id, _, _] = iterable_ids(config);
        let end = |out: &mut Vec<u8>| {
            ram::end(out);
            if config.form.footers {
                stream::footer(out, ram_id);
            }
        };
        end(out);
        if config.form.early == EarlyForm::AfterRam {
            self.early(out);
        }
        for _ in 0..config.rounds {
            stream::section_part(out, ram_id);
            end(out);
        }
        if config.form.switchover_start {
            stream::command(out, Command::SwitchoverStart, &[]);
        }
        stream::section_end(out, ram_id);
        end(out);
        out.extend(self.plan.device_state());
        stream::eof(out);
        if let Some(json) = self.plan.vmdesc() {
            stream::vmdesc(out, json);
        }
    }

    fn early(&self, out: &mut Vec<u8>) {
        for device in &self.plan.devices().early {
            device::section(out, device, self.plan.config().form.footers);
        }
    }

    /// Every round's pages, the later over the earlier.
    fn pages(&mut self) -> io::Result<Vec<Bitmap>> {
        let guest = self.plan.guest();
        let page_bytes = u64::from(guest.page_bytes());
        let mut run = Run { bytes: Vec::with_capacity(RUN_BYTES_MAX), offset: 0 };
        let mut bitmaps = Vec::new();
        for (block, place) in (0..).zip(&self.saved.blocks) {
            let mut bitmap = Bitmap::new(guest.pages_sent(block));
            let mut normal = 0;
            for round in 0..self.plan.config().rounds {
                let mut next = 0;
                while let Some(index) = guest.next_dirty(block, next, round) {
                    next = index + 1;
                    let page = guest.page(block, index, round);
                    bitmap.set(index, !page.zero);
                    if !page.zero {
                        let offset = place.pages_offset + index * page_bytes;
                        run.add(self.plan, self.file, block, page, offset)?;
                    }
                }
            }
            run.write(self.file)?;
            normal += bitmap.bytes().iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
            self.saved.normal += normal;
            self.saved.zero += guest.pages_sent(block) - normal;
            bitmaps.push(bitmap);
        }
        Ok(bitmaps)
    }
}

/// Pages that stand side by side, written together.
struct Run {
    bytes: Vec<u8>,
    offset: u64,
}

impl Run {
    fn add(
        &mut self,
        plan: &Plan,
        file: &File,
        block: u16,
        page: PageRef,
        offset: u64,
    ) -> io::Result<()> {
        let have = self.bytes.len();
        let page_bytes = plan.guest().page_bytes() as usize;
        if self.offset + have as u64 != offset || have + page_bytes > RUN_BYTES_MAX {
            self.write(file)?;
            self.offset = offset;
        }
        let start = self.bytes.len();
        self.bytes.resize(start + page_bytes, 0);
        plan.guest().fill(block, page, &mut self.bytes[start..]);
        Ok(())
    }

    fn write(&mut self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.bytes, self.offset)?;
        self.bytes.clear();
        Ok(())
    }
}

/// Pages begin at a multiple of this (QEMU: `MAPPED_RAM_FILE_OFFSET_ALIGNMENT`).
const PAGES_ALIGNMENT: u64 = 1 << 20;
const RUN_BYTES_MAX: usize = 1 << 20;
