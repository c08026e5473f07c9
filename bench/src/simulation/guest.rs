//! A source from a seed: guest, rounds, and the wire's form.

use super::random::Random;
use crate::{
    config::{BlockConfig, DeviceConfig, SourceConfig},
    encode::compressed::Compression,
    form::{EarlyForm, Form, GlobalStateForm, PacketForm, SyncForm, Version, VmdescForm, ZeroForm},
};

/// Invents what the source is.
pub(super) fn invent(random: &mut Random) -> SourceConfig {
    let channels = channels(random);
    let mut config = SourceConfig::new(random.word(), 4096, channels);
    let (binary, machines) = random.pick(&VERSIONS);
    let family = random.pick(&["pc-q35", "pc-i440fx", "virt"]);
    let machine = format!("{family}-{}", random.pick(machines));
    config.speak_as(Version::new(binary.0, binary.1), &machine).expect("a version");
    if random.one_in(3) {
        unreal(random, &mut config.form);
    }
    config.page_bytes = random.pick(&[4096, 4096, 4096, 4096, 4096, 8192, 16384, 65536]);
    let large_pages = config.page_bytes > 4096;
    config.form.configuration |= large_pages;
    config.target_page_bits = large_pages || random.one_in(5);
    blocks(random, &mut config);
    config.rounds = random.within(1, if channels > 8 { 3 } else { 5 }) as u32;
    config.dirty_share = random.pick(&[0.0, 0.1, 0.5, 0.5, 0.9]);
    config.dirty_run = random.within(1, 4) as u32;
    config.zero_share = random.pick(&[0.0, 0.1, 0.3, 0.5, 1.0]);
    config.zero_run = random.within(1, 6) as u32;
    config.part_pages = random.within(1, 60) as u64;
    config.rounds_per_part = random.within(1, 3) as u32;
    if random.one_in(2) {
        config.uuid = (u128::from(random.word()) | 1 << 127).to_be_bytes();
    }
    config.validate_uuid = random.one_in(3);
    config.dirty_bitmaps = random.one_in(6);
    config.early_sections = if random.one_in(4) { random.within(1, 2) as u32 } else { 0 };
    config.devices = DeviceConfig {
        devices: random.below(3) as u32,
        device_bytes_max: random.pick(&[0, 40, 400]),
        forged_tails: random.below(3) as u32,
        ..DeviceConfig::default()
    };
    compressed(random, &mut config);
    config.return_path = !random.one_in(4);
    config.switchover_ack = config.return_path && random.one_in(4);
    if channels == 0 && random.one_in(4) {
        config.background_snapshot = true;
        (config.return_path, config.switchover_ack) = (false, false);
        (config.rounds, config.dirty_bitmaps, config.postcopy_advise) = (1, false, false);
    } else {
        postcopy(random, &mut config);
    }
    if config.form.vmdesc == VmdescForm::Absent {
        // Only a source that closes says where such a stream ends.
        (config.return_path, config.switchover_ack) = (false, false);
    }
    if channels == 0 && !config.background_snapshot {
        encoded_on_main(random, &mut config);
    }
    config
}

/// Pages that are encoded on main.
fn encoded_on_main(random: &mut Random, config: &mut SourceConfig) {
    config.xbzrle = config.page_bytes <= 16384 && random.one_in(2);
    config.patched_share = random.pick(&[0.0, 0.5, 1.0]);
    config.compress = random.one_in(3);
    config.compressible_share = random.pick(&[0.0, 0.5, 1.0]);
}

fn channels(random: &mut Random) -> u8 {
    match random.below(256) {
        0 => 255,
        1 => random.within(9, 40) as u8,
        2..40 => 0,
        _ => random.within(1, 8) as u8,
    }
}

/// Packets that are more than pages.
fn compressed(random: &mut Random, config: &mut SourceConfig) {
    if config.channels == 0 {
        return;
    }
    // A few: compressors and decoders cost more than all the rest of a migration this small.
    if random.one_in(10) {
        config.compression = random.pick(&[
            Compression::Zlib,
            Compression::Zstd,
            Compression::Qpl,
            Compression::Uadk,
            Compression::Qatzip,
        ]);
        config.compressible_share = random.pick(&[0.0, 0.5, 1.0]);
    }
    if random.one_in(8) {
        config.devices.packets = random.within(1, 6) as u32;
        // Late ones end with a silence, which is not simulated.
        config.devices.packets_late = false;
        config.devices.packet_bytes_max = random.pick(&[12, 300, 3000]);
    }
}

/// Many small blocks: each ends a packet, so that a round has several.
fn blocks(random: &mut Random, config: &mut SourceConfig) {
    let scale = (config.page_bytes / 4096).min(8) as usize;
    let pages_max = match random.below(32) {
        0 => 256,
        1..6 => 96,
        _ => 40,
    };
    let pages = random.within(12, pages_max) / scale + 2;
    let count = random.within(1, 10.min(pages));
    config.blocks = (0..count)
        .map(|index| {
            let share = pages / count + usize::from(index < pages % count);
            let name = match index {
                1 if random.one_in(64) => "n".repeat(255),
                _ => NAMES[index].to_owned(),
            };
            BlockConfig::new(name, share as u64 * u64::from(config.page_bytes))
        })
        .collect();
}

/// Postcopy announced and never begun.
fn postcopy(random: &mut Random, config: &mut SourceConfig) {
    config.postcopy_advise = random.one_in(8);
    if config.postcopy_advise && random.one_in(2) {
        let backing = 2 * u64::from(config.page_bytes);
        for block in config.blocks.iter_mut().filter(|block| block.bytes.is_multiple_of(backing)) {
            block.backing_page_bytes = random.one_in(2).then_some(backing);
        }
    }
}

/// Switches in a combination that no release ever had.
fn unreal(random: &mut Random, form: &mut Form) {
    *form = Form {
        configuration: !random.one_in(4),
        footers: !random.one_in(4),
        vmdesc: random.pick(&[
            VmdescForm::Absent,
            VmdescForm::Plain,
            VmdescForm::WithConfiguration,
            VmdescForm::WithConfiguration,
        ]),
        globalstate: random.pick(&[
            GlobalStateForm::Absent,
            GlobalStateForm::Whole,
            GlobalStateForm::Split,
        ]),
        sync: random.pick(&[SyncForm::PerEos, SyncForm::Flush]),
        zero: random.pick(&[ZeroForm::InPackets, ZeroForm::OnMain, ZeroForm::FullPages]),
        packets: random.pick(&[PacketForm::Stale, PacketForm::Clean]),
        early: random.pick(&[EarlyForm::BeforeRam, EarlyForm::AfterRam]),
        switchover_start: random.one_in(2),
        main_awaits_channels: random.one_in(2),
        ram_section_id: random.below(4) as u32,
        apic_first: random.one_in(2),
        ..form.clone()
    };
}

/// Binaries, and machine types that each of them has.
const VERSIONS: [((u16, u16), &[&str]); 5] = [
    ((7, 2), &["2.2", "2.3", "2.4", "6.2", "7.2"]),
    ((8, 2), &["8.0", "8.1", "8.2"]),
    ((9, 0), &["8.0", "8.2", "9.0"]),
    ((10, 0), &["8.0", "8.2", "9.2", "10.0"]),
    ((11, 1), &["8.0", "9.2", "11.0", "11.1"]),
];

const NAMES: [&str; 10] = [
    "pc.ram",
    "0000:00:01.0/vga.vram",
    "/rom@etc/acpi/tables",
    "pc.bios",
    "pc.rom",
    "/rom@etc/table-loader",
    "/rom@etc/acpi/rsdp",
    "mem1",
    "0000:00:02.0/virtio-net-pci.rom",
    "ivshmem",
];
