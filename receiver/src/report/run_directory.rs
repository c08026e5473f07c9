//! The run directory: what a run received, kept for others to use.
//!
//! `ram/*.ram` (a file for each RAM block), `configuration`, `device-state`,
//! `device-packets` and `vmdesc.json` as they came, and `run.json`, the report of
//! [`super::query_receiver`], whose `blocks` say which file is which block.

use std::fs;
use std::io;
use std::path::Path;

pub use landfall_pagepool::RUN_JSON;
use landfall_pagepool::{Dumped, RamBlock, dump_block};
use serde_json::Value;

use crate::device_packets::DevicePackets;
use crate::error::{Family, RunError};
use crate::receiver::Migration;

use super::files::{failed, replace, replace_in_pieces, write_json};

/// Writes everything but RAM into `directory`, beside the `ram` that
/// `--mem-path` has put there. `report` becomes `run.json`; it is written last,
/// so that where it is, the rest is whole and of the same run.
///
/// # Errors
/// Environment: the path, and what the file system said.
pub fn write_run_directory(
    directory: &Path,
    migration: &Migration,
    report: &Value,
) -> Result<(), RunError> {
    fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    let run_json = directory.join(RUN_JSON);
    remove(&run_json)?;
    let state = migration.ended().map(|ended| &ended.received.device_state);
    for (name, bytes) in [
        (CONFIGURATION, state.map(|state| &state.configuration)),
        (DEVICE_STATE, state.map(|state| &state.tail)),
        (VMDESC, state.map(|state| &state.vmdesc)),
    ] {
        let path = directory.join(name);
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => replace(&path, bytes)?,
            // One of an earlier run would pass for this run's.
            None => remove(&path)?,
        }
    }
    write_device_packets(&directory.join(DEVICE_PACKETS), &migration.run.terms.device_packets)?;
    write_json(&run_json, report)
}

/// Packets of device state as they came, header and payload, one after the other.
fn write_device_packets(path: &Path, packets: &DevicePackets) -> Result<(), RunError> {
    packets.with_kept(|kept| match kept {
        [] => remove(path),
        kept => {
            let pieces: Vec<&[u8]> = kept.iter().map(|packet| &packet.bytes[..]).collect();
            replace_in_pieces(path, &pieces)
        }
    })
}

/// Writes the whole run directory of an ended run, RAM from memory included
/// (`--dump`). What an earlier run left in `directory` is replaced.
///
/// # Errors
/// Environment: no space, or a path and what the file system said.
pub fn dump(
    directory: &Path,
    migration: &Migration,
    report: &Value,
) -> Result<Vec<Dumped>, RunError> {
    remove(&directory.join(RUN_JSON))?;
    remove_ram_files(&directory.join(RAM))?;
    let ram = migration.ended().and_then(|ended| ended.received.ram.as_ref());
    let blocks = ram.iter().flat_map(|ram| ram.iter());
    let dumped = blocks.map(|block| dump_one(block, directory)).collect::<Result<_, _>>()?;
    write_run_directory(directory, migration, report)?;
    Ok(dumped)
}

fn dump_one(block: &RamBlock, directory: &Path) -> Result<Dumped, RunError> {
    dump_block(block, directory)
        .map_err(|error| RunError::new(Family::Environment, error.to_string()))
}

/// RAM files of an earlier run, which may have had other blocks.
fn remove_ram_files(folder: &Path) -> Result<(), RunError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed(folder, &error))?,
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "ram") {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), RunError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

/// The configuration section, type byte included.
pub const CONFIGURATION: &str = "configuration";
/// Device state, from the first section's type byte to the EOF byte.
pub const DEVICE_STATE: &str = "device-state";
/// Device state that came on channels: packets of 276 bytes of header and their
/// payload, in the order in which they were whole.
pub const DEVICE_PACKETS: &str = "device-packets";
/// The description of the device state.
pub const VMDESC: &str = "vmdesc.json";
/// The folder of RAM files.
pub const RAM: &str = "ram";
