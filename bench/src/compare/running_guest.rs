//! A guest that dirties its memory, and one migration of it, recorded.
//!
//! What such a guest has written when a round begins depends on the moment: no two migrations send
//! the same pages. So one real migration is recorded, and every contender receives that, byte for
//! byte.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::Duration,
};

use landfall_receiver::listen::{Address, FdSets, Listeners};
use serde_json::json;

use super::{
    Comparison,
    contender::{Contender, MemorySetup, Receiver},
    destination::Destination,
    prepare::Prepared,
    process::wait_for,
    scenario::Guest,
    source::Source,
};
use crate::{
    recording::record::{RecordOptions, record as record_migration},
    send::{Stop, Target},
};

/// Writes the disk that it boots from. It leaves half of its memory alone at least.
pub(super) fn write_disk(path: &Path, guest: Guest, ram_bytes: u64) -> io::Result<()> {
    let mut sector = *BOOT_SECTOR;
    let end = FIRST + (guest.dirties_mib << 20).min(ram_bytes / 2);
    let end = u32::try_from(end).map_err(|_| io::ErrorKind::InvalidInput)?;
    sector[END_AT..END_AT + 4].copy_from_slice(&end.to_le_bytes());
    fs::write(path, sector)?;
    // A sector alone is too short for the BIOS to boot from an AHCI disk.
    fs::OpenOptions::new().write(true).open(path)?.set_len(1 << 20)
}

/// Runs the guest, migrates it to a landfall and records that in `directory`. The guest's memory
/// file is left as it was in the end.
pub(super) fn record(
    comparison: &Comparison,
    prepared: &Prepared,
    contender: &Contender,
    guest: Guest,
    directory: &Path,
) -> Result<(), String> {
    let memory = prepared.memory.as_deref().ok_or("the guest's memory must not be all zero")?;
    let destination =
        Contender { receiver: Receiver::Landfall, memory: MemorySetup::Default, ..*contender };
    let mut destination = Destination::start(comparison, prepared, &destination)?;
    let target: Target =
        destination.uri().parse().map_err(|error| format!("{}: {error}", destination.uri()))?;
    let address = Address::parse("tcp:127.0.0.1:0").map_err(|error| error.to_string())?;
    let listeners = Listeners::bind(&[address], &mut |_| None, &FdSets::default())
        .map_err(|error| error.to_string())?;
    let listening = listeners.inet_addresses();
    let listening = listening.first().ok_or("the recorder has no address")?;
    let stop = Stop::new();
    let options = RecordOptions { max_bytes: comparison.room()?, stop: stop.clone() };
    let mut source = Source::qemu(comparison, prepared, contender)?;
    boot(&mut source, memory)?;
    let recorded = thread::scope(|scope| {
        let (target, options) = (&target, &options);
        let recorder = scope.spawn(move || record_migration(listeners, target, directory, options));
        let migrated = migrate(&mut source, &format!("tcp:{listening}"), guest.rounds)
            .and_then(|()| destination.wait_for_all(&mut source))
            .and_then(|()| source.counted().map(drop));
        if migrated.is_err() {
            stop.stop();
        } else {
            // Both ends close their connections only when they end.
            drop(source);
            drop(destination);
        }
        let recorded = recorder.join().expect("the recorder does not panic");
        migrated.map(|()| recorded)
    });
    let recorded = recorded?.map_err(|error| error.to_string())?;
    recorded.complete.then_some(()).ok_or_else(|| "the recording is not whole".to_owned())
}

/// Starts the guest and waits until it writes.
fn boot(source: &mut Source<'_>, memory: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", memory.display());
    let file = File::options().read(true).write(true).open(memory).map_err(failed)?;
    // Content was there: it is no count of walks.
    file.write_all_at(&[0; 4], WALKS_AT).map_err(failed)?;
    source.qmp().command("cont", json!({}))?;
    wait_for("guest that writes to its memory", BOOT_LIMIT, || {
        source.check()?;
        let mut walks = [0; 4];
        file.read_exact_at(&mut walks, WALKS_AT).map_err(failed)?;
        // The BIOS may use the place before.
        Ok((2..1 << 24).contains(&u32::from_le_bytes(walks)).then_some(()))
    })
}

/// Migrates; the guest is stopped when the source has looked `rounds` times for dirty pages.
fn migrate(source: &mut Source<'_>, uri: &str, rounds: u64) -> Result<(), String> {
    // So short that it never ends by itself; with 0 QEMU does not look for dirty pages at all.
    source.qmp().command("migrate-set-parameters", json!({ "downtime-limit": 1 }))?;
    source.migrate(uri)?;
    wait_for("end of the rounds", ROUNDS_LIMIT, || {
        let state = source.qmp().command("query-migrate", json!({}))?;
        match state["status"].as_str() {
            Some("failed") => return Err(format!("the source failed: {}", state["error-desc"])),
            Some("completed") => return Err("the source ended before its time".to_owned()),
            _ => {}
        }
        let count = state["ram"]["dirty-sync-count"].as_u64();
        Ok((count >= Some(rounds)).then_some(()))
    })?;
    source.qmp().command("migrate-set-parameters", json!({ "downtime-limit": 60_000 })).map(drop)
}

/// guest.s, assembled.
const BOOT_SECTOR: &[u8; 512] = include_bytes!("guest.bin");
/// Where it begins to write.
const FIRST: u64 = 2 << 20;
/// Where in the sector the first byte stands that it leaves alone.
const END_AT: usize = 504;
/// Where it counts its walks.
const WALKS_AT: u64 = 0x7000;
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const ROUNDS_LIMIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    use std::process::Command;

    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_boot_sector_is_what_the_assembler_makes_of_its_source() {
        let directory = tempfile::tempdir().expect("a directory");
        let [object, binary] = ["guest.o", "guest.bin"].map(|name| directory.path().join(name));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/compare/guest.s");
        let assembled = Command::new("as").args(["--32", source, "-o"]).arg(&object).status();
        assert!(assembled.expect("as (package binutils)").success());
        let link = ["-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-o"];
        let linked = Command::new("ld").args(link).arg(&binary).arg(&object).status();
        assert!(linked.expect("ld comes with as").success());
        assert!(fs::read(&binary).expect("it was linked") == BOOT_SECTOR);
    }

    #[test]
    fn the_disk_tells_the_guest_where_to_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk");
        write_disk(&path, Guest { dirties_mib: 16, rounds: 1 }, 64 << 20).expect("written");
        let disk = fs::read(&path).expect("it is there");
        assert_eq!(disk[END_AT..512], [0, 0, 0x20, 0x01, 0, 0, 0x55, 0xaa]);
        assert_eq!(disk.len(), 1 << 20);
    }
}
