//! A guest that dirties its memory, and one migration of it, recorded.
//!
//! What such a guest has written when a round begins depends on the moment: no two migrations send
//! the same pages. So one real migration is recorded, and every contender receives that, byte for
//! byte.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, thread, time::Duration};

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
    writing_guest::{self, WALKS_AT, Writing},
};

/// Writes the disk that it boots from. It leaves half of its memory alone at least.
pub(super) fn write_disk(path: &Path, guest: Guest, ram_bytes: u64) -> io::Result<()> {
    let end = u64::from(FIRST) + (guest.dirties_mib << 20).min(ram_bytes / 2);
    let end = u32::try_from(end).map_err(|_| io::ErrorKind::InvalidInput)?;
    writing_guest::write_disk(path, FIRST, Writing::Words { end })
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
            .and_then(|()| destination.wait_for_all(&mut source, || comparison.go_on()))
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
        let walks = writing_guest::walks(&file).map_err(failed)?;
        // The BIOS may use the place before.
        Ok((2..1 << 24).contains(&walks).then_some(()))
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

/// Where it begins to write.
const FIRST: u32 = 2 << 20;
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const ROUNDS_LIMIT: Duration = Duration::from_secs(300);
