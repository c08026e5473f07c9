//! Forms of a migration that are no dimension of `case`: files, commands, and
//! capabilities that change the stream. From real QEMUs, RAM compared.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::case::{
    Case, Compression, Control, Count, Extra, Guest, Memory, Sender, Tls, Transport, ZeroPages,
};
use crate::destination::{Destination, Received};
use crate::handed_over::Receiving;
use crate::memory_file;
use crate::postcopy;
use crate::run::{self, Programs, verify, verify_ram};
use crate::source::Source;
use crate::{programs, turn};

#[test]
fn mapped_ram_files_of_10_0_are_received_whole() {
    let multifd = json!({ "multifd-channels": 4 });
    let direct = json!({ "multifd-channels": 4, "direct-io": true });
    let detection = json!({ "zero-page-detection": "none" });
    for (capabilities, parameters, suffix, options) in [
        (&["mapped-ram"][..], json!({}), "", &[][..]),
        (&["mapped-ram"], detection, ",offset=65536", &["--readers", "1", "--queue-depth", "2"]),
        (&["mapped-ram", "multifd"], multifd, "", &["--multifd", "4"]),
        (&["mapped-ram", "multifd"], direct, "", &["--direct-io"]),
    ] {
        each(&["10.0"], |programs, sender| {
            let (mut source, scratch) = source(programs, sender, capabilities, Guest::Paused)?;
            set(&mut source, &parameters)?;
            let uri = format!("file:{}{suffix}", scratch.path().join("saved").display());
            let state = source.migrate(&uri)?;
            let received = received_from(programs, &uri, scratch.path(), options)?;
            verify(&case(sender, Guest::Paused), &mut source, &state, &received).map(drop)
        });
    }
}

#[test]
fn plain_files_and_commands_carry_a_migration() {
    for (qemus, saves, receives) in [
        (&["7.2", "10.0"][..], "exec:cat > @", "file:@"),
        (&["7.2", "10.0"], "exec:cat > @", "exec:cat @"),
        (&["10.0"], "file:@,offset=4096", "file:@,offset=4096"),
        (&["10.0"], "file:@", "exec:cat @"),
    ] {
        each(qemus, |programs, sender| {
            let (mut source, scratch) = source(programs, sender, &[], Guest::Paused)?;
            let path = scratch.path().join("saved").display().to_string();
            let state = source.migrate(&saves.replace('@', &path))?;
            let uri = receives.replace('@', &path);
            let received = received_from(programs, &uri, scratch.path(), &[])?;
            verify(&case(sender, Guest::Paused), &mut source, &state, &received).map(drop)
        });
    }
}

#[test]
fn pages_that_7_2_compresses_on_main_are_received_whole() {
    // Without waiting, pages that find every thread busy are sent as they are.
    for waits in [true, false] {
        each(&["7.2"], |programs, sender| {
            let (mut source, scratch) = source(programs, sender, &["compress"], Guest::Paused)?;
            set(&mut source, &json!({ "compress-wait-thread": waits, "compress-threads": 2 }))?;
            let memory = scratch.path().join("source-mem");
            write_lines(&memory, 2000, TEXT_PAGES).map_err(|error| error.to_string())?;
            let case = case(sender, Guest::Paused);
            let (state, received) = over_socket(programs, &case, &mut source, scratch.path())?;
            verify_ram(&case, &mut source, &received)?;
            let [pages, bytes] =
                ["pages", "compressed-size"].map(|name| number(&state["compression"][name]));
            if pages < if waits { TEXT_PAGES } else { TEXT_PAGES / 20 } {
                return Err(format!("the source has compressed too little: {state}"));
            }
            // Text shrinks to less than a fifth, the random pages do not.
            if waits && bytes > pages * 4096 - TEXT_PAGES * 4096 * 4 / 5 {
                return Err(format!("{bytes} bytes are no compressed text: {state}"));
            }
            // When a block ends, 7.2 counts once more what its threads had last (seen with
            // 7.2.22): two threads, about ten blocks.
            let sent = pages + number(&state["ram"]["normal"]) + number(&state["ram"]["duplicate"]);
            let came = &received.report["pages"];
            let all = number(&came["normal-pages"]) + number(&came["zero-pages"]);
            if all != number(&came["ram-pages"]) || !(all..all + 50).contains(&sent) {
                return Err(format!("{sent} pages by the source, {came}"));
            }
            Ok(())
        });
    }
}

#[test]
fn background_snapshots_are_received_whole() {
    each(&["7.2", "10.0"], |programs, sender| {
        // Write protection by userfaultfd needs shared memory, not a disk's file.
        let scratch = tempfile::Builder::new()
            .prefix("landfall-qemu-")
            .tempdir_in("/dev/shm")
            .map_err(|error| format!("/dev/shm: {error}"))?;
        let case = case(sender, Guest::Running);
        let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 1)?;
        source.qmp().enable(&["background-snapshot"])?;
        // The guest runs on as soon as the snapshot has begun: what it is of must be kept before.
        source.qmp().command("stop", json!({}))?;
        let truth = scratch.path().join("truth");
        fs::copy(scratch.path().join("source-mem"), &truth).map_err(|error| error.to_string())?;
        let received = over_socket(programs, &case, &mut source, scratch.path())?.1;
        let pages = &received.report["pages"];
        if pages["unique-pages"] != pages["ram-pages"] {
            return Err(format!("not every page came: {pages}"));
        }
        let file = received.run_directory.join("ram/mem.ram");
        let found = memory_file::difference(&truth, &file).map_err(|error| error.to_string())?;
        found.map_or(Ok(()), Err)
    });
}

#[test]
fn memory_that_x_ignore_shared_leaves_out_does_not_come_and_the_rest_does() {
    for channels in [0, 2] {
        each(&["7.2", "10.0"], |programs, sender| {
            let case = Case { channels, ..case(sender, Guest::Paused) };
            let scratch = run::scratch()?;
            let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 1)?;
            source.qmp().enable(&["x-ignore-shared"])?;
            let received = over_socket(programs, &case, &mut source, scratch.path())?.1;
            for block in received.report["blocks"].as_array().into_iter().flatten() {
                let pages = if block["name"] == "mem" { 0 } else { number(&block["bytes"]) / 4096 };
                if number(&block["unique-pages"]) != pages {
                    return Err(format!("{pages} pages were to come: {block}"));
                }
            }
            Ok(())
        });
    }
}

#[test]
fn dirty_bitmaps_beside_ram_are_passed_over() {
    for capabilities in [&["dirty-bitmaps"][..], &["dirty-bitmaps", "postcopy-ram"]] {
        each(&["7.2", "10.0"], |programs, sender| {
            let (mut source, scratch) = source(programs, sender, capabilities, Guest::Paused)?;
            let disk = scratch.path().join("disk.raw");
            fs::File::create(&disk)
                .and_then(|file| file.set_len(64 << 20))
                .map_err(|error| error.to_string())?;
            let file = json!({ "driver": "file", "filename": disk.display().to_string() });
            let node = json!({ "node-name": "disk0", "driver": "raw", "file": file });
            source.qmp().command("blockdev-add", node)?;
            for name in ["bitmap0", "bitmap1"] {
                let bitmap = json!({ "node": "disk0", "name": name });
                source.qmp().command("block-dirty-bitmap-add", bitmap)?;
            }
            let case = case(sender, Guest::Paused);
            let (state, received) = over_socket(programs, &case, &mut source, scratch.path())?;
            // What announces bitmaps alone does not announce postcopy.
            if postcopy::is_warned_of(scratch.path()) != capabilities.contains(&"postcopy-ram") {
                return Err(format!("{capabilities:?} is warned of wrongly"));
            }
            verify(&case, &mut source, &state, &received).map(drop)
        });
    }
}

#[test]
fn guests_with_slirp_network_cards_migrate_whole() {
    let e1000 = ["-netdev", "user,id=net0", "-device", "e1000,netdev=net0"];
    let virtio = ["-netdev", "user,id=net1", "-device", "virtio-net-pci,netdev=net1"];
    for (cards, slirps, channels, return_path, guest) in [
        (e1000.to_vec(), 1, 0, false, Guest::Running),
        (virtio.to_vec(), 1, 2, true, Guest::Running),
        // Two sections of the same name.
        ([e1000, virtio].concat(), 2, 0, true, Guest::Paused),
    ] {
        each(&["7.2", "10.0"], |programs, sender| {
            let case = Case { channels, return_path, ..case(sender, guest) };
            let scratch = run::scratch()?;
            let program = programs.qemu(&case)?;
            let mut source = Source::start_with(&case, program, scratch.path(), 1, &cards)?;
            let (state, received) = over_socket(programs, &case, &mut source, scratch.path())?;
            let sections = received.report["guest"]["device-sections"].as_array();
            let is_slirp = |section: &&Value| section["idstr"] == "slirp";
            let found: Vec<_> = sections.into_iter().flatten().filter(is_slirp).collect();
            if found.len() != slirps || found.iter().any(|slirp| number(&slirp["body-bytes"]) == 0)
            {
                return Err(format!("{slirps} slirp sections were to come: {found:?}"));
            }
            verify(&case, &mut source, &state, &received).map(drop)
        });
    }
}

/// Runs `form` with a source of each of these versions.
pub(crate) fn each(qemus: &[&str], form: impl Fn(&Programs, Sender) -> Result<(), String>) {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    for sender in SENDERS.into_iter().filter(|sender| qemus.contains(&sender.qemu)) {
        form(&programs, sender).unwrap_or_else(|error| panic!("{sender:?}: {error}"));
    }
}

/// A source with these capabilities on, and its scratch directory.
pub(crate) fn source(
    programs: &Programs,
    sender: Sender,
    capabilities: &[&str],
    guest: Guest,
) -> Result<(Source, tempfile::TempDir), String> {
    let case = case(sender, guest);
    let scratch = run::scratch()?;
    let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 1)?;
    source.qmp().enable(capabilities)?;
    Ok((source, scratch))
}

/// Writes lines of text over `count` pages of a memory file.
fn write_lines(memory: &Path, first: u64, count: u64) -> std::io::Result<()> {
    let lines: Vec<u8> = (0..count * 4096 / 64)
        .flat_map(|line| {
            format!("{line:>20} the guest wrote this line and went on.\n  ").into_bytes()
        })
        .take(count as usize * 4096)
        .collect();
    fs::File::options().write(true).open(memory)?.write_all_at(&lines, first * 4096)
}

fn set(source: &mut Source, parameters: &Value) -> Result<(), String> {
    source.qmp().command("migrate-set-parameters", parameters.clone()).map(drop)
}

pub(crate) fn over_socket(
    programs: &Programs,
    case: &Case,
    source: &mut Source,
    scratch: &Path,
) -> Result<(Value, Received), String> {
    let mut destination = Destination::start(case, &programs.landfall, scratch, &[])?;
    let uri = destination.uri().to_owned();
    let state = source.migrate(&uri).map_err(|error| destination.blame(&error))?;
    Ok((state, destination.finish(&[])?))
}

/// What landfall makes of a saved migration.
fn received_from(
    programs: &Programs,
    uri: &str,
    scratch: &Path,
    options: &[&str],
) -> Result<Received, String> {
    Receiving::start(programs, uri, scratch, options)?.finish()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(u64::MAX)
}

/// One stream over a unix socket into anonymous memory, without return path.
pub(crate) fn case(sender: Sender, guest: Guest) -> Case {
    Case {
        sender,
        channels: 0,
        transport: Transport::Unix,
        readers: 2,
        zero_pages: ZeroPages::Default,
        return_path: false,
        count: Count::Configured,
        memory: Memory::Base,
        guest,
        control: Control::CommandLine,
        extra: Extra::Plain,
        uuid: true,
        two_blocks: false,
        compression: Compression::None,
        tls: Tls::Off,
    }
}

/// Pages of text in a guest of 24,576 pages.
const TEXT_PAGES: u64 = 8000;
/// One source of each version.
const SENDERS: [Sender; 2] = [
    Sender { qemu: "7.2", machine: "pc-q35-7.2" },
    Sender { qemu: "10.0", machine: "pc-q35-10.0" },
];
