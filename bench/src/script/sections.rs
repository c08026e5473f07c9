//! The bytes around the pages: opening, sections of ram and of its companions, device tail, end.

use super::{OpenSection, Script, iterable_ids};
use crate::{
    encode::{
        bitmaps,
        device::section,
        disk,
        ram::{self, BlockEntry},
        stream::{self, Command, SectionHead},
    },
    form::{EarlyForm, SyncForm},
    hash::Sequence,
};

impl Script<'_> {
    /// Header, configuration, the commands before ram.
    pub(super) fn write_opening(&mut self) {
        let config = self.plan.config();
        self.write_main(|out| {
            stream::header(out);
            if config.form.configuration {
                stream::configuration(out, &config.machine);
                if config.target_page_bits {
                    stream::configuration_page_bits(out, config.page_bytes);
                }
                if config.x_ignore_shared {
                    stream::configuration_capabilities(out, &["x-ignore-shared"]);
                }
                if config.validate_uuid {
                    stream::configuration_uuid(out, &config.uuid);
                }
            }
            if config.return_path {
                stream::command(out, Command::OpenReturnPath, &[]);
                stream::command(out, Command::Ping, &1u32.to_be_bytes());
            }
            if config.postcopy_advise {
                let page = u64::from(config.page_bytes);
                let all = config
                    .blocks
                    .iter()
                    .fold(0, |all, b| all | b.backing_page_bytes.unwrap_or(page));
                let payload = [all.to_be_bytes(), page.to_be_bytes()].concat();
                stream::command(out, Command::PostcopyAdvise, &payload);
            } else if config.dirty_bitmaps {
                stream::command(out, Command::PostcopyAdvise, &[]);
            }
        });
    }

    /// START of ram and of its companions, early sections around it.
    pub(super) fn write_start(&mut self) {
        let config = self.plan.config();
        if config.form.early == EarlyForm::BeforeRam {
            self.write_early();
        }
        let [ram_id, bitmap_id, disk_id] = iterable_ids(config);
        self.write_main(|out| {
            if config.disk {
                let head = SectionHead { id: disk_id, idstr: "block", instance: 0, version: 1 };
                stream::section_start(out, head);
                disk::end(out);
                footer(out, config.form.footers, disk_id);
            }
            let head = SectionHead { id: ram_id, idstr: "ram", instance: 0, version: 4 };
            stream::section_start(out, head);
            let page = u64::from(config.page_bytes);
            let mut address = 0;
            let entries: Vec<BlockEntry<'_>> = config
                .blocks
                .iter()
                .map(|block| {
                    let guest_phys_addr = config.x_ignore_shared.then_some(address);
                    address += block.bytes;
                    BlockEntry {
                        name: &block.name,
                        bytes: block.bytes,
                        backing_page_bytes: block
                            .backing_page_bytes
                            .filter(|&bytes| config.postcopy_advise && bytes != page),
                        guest_phys_addr,
                    }
                })
                .collect();
            ram::mem_size(out, &entries);
        });
        // START is a section of ram like the others: it ends with a sync point in both forms.
        if self.packets.is_some() {
            self.sync_point();
            if config.form.sync == SyncForm::Flush {
                self.write_main(ram::flush);
            }
        }
        self.write_main(|out| {
            ram::end(out);
            footer(out, config.form.footers, ram_id);
            if config.dirty_bitmaps {
                let head =
                    SectionHead { id: bitmap_id, idstr: "dirty-bitmap", instance: 0, version: 1 };
                stream::section_start(out, head);
                bitmaps::start(out, "drive0", "bitmap0");
                footer(out, config.form.footers, bitmap_id);
            }
        });
        if config.form.early == EarlyForm::AfterRam {
            self.write_early();
        }
        // Channels go on only when main's mark has arrived: it must not wait for later bytes.
        self.flush_main();
    }

    fn write_early(&mut self) {
        let plan = self.plan;
        for device in &plan.devices().early {
            self.write_main(|out| section(out, device, plan.config().form.footers));
        }
    }

    /// Makes sure that a PART is open.
    pub(super) fn open_part(&mut self) {
        if self.section.is_none() {
            let [ram_id, _, _] = iterable_ids(self.plan.config());
            self.write_disk(false);
            self.write_main(|out| stream::section_part(out, ram_id));
            self.section = Some(OpenSection { end: false, pages: 0, rounds: 0 });
        }
    }

    /// Opens ram's END, after the announcement that the guest stopped.
    pub(super) fn open_end(&mut self) {
        let config = self.plan.config();
        let [ram_id, _, _] = iterable_ids(config);
        if config.form.switchover_start {
            self.write_main(|out| stream::command(out, Command::SwitchoverStart, &[]));
        }
        self.write_disk(true);
        self.write_main(|out| stream::section_end(out, ram_id));
        self.section = Some(OpenSection { end: true, pages: 0, rounds: 0 });
    }

    /// The disk's PART or END, before ram's: all of it in the first PART, a piece that was written
    /// to meanwhile in END.
    fn write_disk(&mut self, ends: bool) {
        let config = self.plan.config();
        if !config.disk {
            return;
        }
        let [_, _, disk_id] = iterable_ids(config);
        let begins = !std::mem::replace(&mut self.disk_begun, true);
        self.write_main(|out| {
            let piece = |out: &mut Vec<u8>, generation: u64| {
                let mut random = Sequence::new(&[config.seed, TAG_DISK, generation]);
                disk::piece(out, 0, DISK, &random.bytes(disk::PIECE_BYTES));
            };
            if ends {
                stream::section_end(out, disk_id);
                piece(out, 1);
                disk::progress(out, 100);
            } else {
                stream::section_part(out, disk_id);
                if begins {
                    piece(out, 0);
                    disk::zero_piece(out, disk::PIECE_BYTES as u64, DISK);
                    disk::progress(out, 50);
                }
            }
            disk::end(out);
            footer(out, config.form.footers, disk_id);
        });
    }

    /// Ends the open PART or END: a sync point where every EOS is one, then EOS and footer, and the
    /// companion's section of the same kind.
    pub(super) fn close_section(&mut self) {
        let config = self.plan.config();
        let [ram_id, bitmap_id, _] = iterable_ids(config);
        let section = self.section.take().expect("a section is open");
        if config.form.sync == SyncForm::PerEos {
            self.sync_point();
        }
        self.write_main(|out| {
            ram::end(out);
            footer(out, config.form.footers, ram_id);
            if !config.dirty_bitmaps {
                return;
            }
            if section.end {
                stream::section_end(out, bitmap_id);
                let bits = Sequence::new(&[config.seed, TAG_BITMAP]).bytes(64);
                bitmaps::finish(out, &bits);
            } else {
                stream::section_part(out, bitmap_id);
                bitmaps::part(out);
            }
            footer(out, config.form.footers, bitmap_id);
        });
        self.flush_main();
    }

    /// One device of the tail; false when there is none left.
    pub(super) fn write_device(&mut self, device: usize) -> bool {
        let plan = self.plan;
        let Some(device) = plan.devices().tail.get(device) else {
            return false;
        };
        self.write_main(|out| section(out, device, plan.config().form.footers));
        self.flush_main();
        true
    }

    /// The end of the sections and the description.
    pub(super) fn write_ending(&mut self) {
        let plan = self.plan;
        self.write_main(|out| {
            stream::eof(out);
            if let Some(json) = plan.vmdesc() {
                stream::vmdesc(out, json);
            }
        });
        self.flush_main();
    }
}

fn footer(out: &mut Vec<u8>, footers: bool, id: u32) {
    if footers {
        stream::footer(out, id);
    }
}

const DISK: &str = "disk0";
const TAG_DISK: u64 = 0x6469_736b_0000_0000;
const TAG_BITMAP: u64 = 0x6269_746d_6170_0000;
