//! What a run needs and all runs share: the guest's memory, its migration as a recording or a file,
//! certificates.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    sys::statfs::{TMPFS_MAGIC, fstatfs},
};
use serde_json::json;

use super::{
    Comparison, certificates, contender::Contender, content::Kind, process::wait_for,
    running_guest, source::Source,
};
use crate::recording::{Recording, replay::warm};

/// All that was prepared for guests of one size.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// The guest's memory as the destination must have it in the end; the source's own.
    pub(super) memory: Option<PathBuf>,
    /// The disk that a running guest has booted from.
    pub(super) disk: Option<PathBuf>,
    /// Sent in place of a source.
    pub(super) recording: Option<PathBuf>,
    /// Loaded in place of a migration.
    pub(super) file: Option<PathBuf>,
    /// The directory with both ends' certificates.
    pub(super) credentials: Option<PathBuf>,
}

impl Prepared {
    /// Makes everything for guests of the size of `contender`'s. What a run before it had made for
    /// another size is not needed any more.
    pub(super) fn new(comparison: &Comparison, contender: &Contender) -> Result<Self, String> {
        let scenario = &comparison.scenario;
        let mut prepared = Self::default();
        if scenario.tls {
            prepared.credentials = Some(match &comparison.tls_creds {
                Some(directory) => directory.clone(),
                None => {
                    let directory = comparison.scratch.join("credentials");
                    certificates::write(&directory)?;
                    directory
                }
            });
        }
        if let Some(directory) = &comparison.recording {
            let recording = Recording::open(directory).map_err(|error| error.to_string())?;
            if !recording.is_complete() {
                return Err(format!("{}: the recording is not complete", directory.display()));
            }
            warm(&recording).map_err(|error| error.to_string())?;
            prepared.recording = Some(directory.clone());
            return Ok(prepared);
        }
        let needs_qemu =
            scenario.guest.is_some() || scenario.is_file() || scenario.has_two_sources();
        if comparison.qemu.is_none() && needs_qemu {
            return Err(format!("the scenario {} needs a real source: --qemu", scenario.name));
        }
        let mib = contender.ram_bytes >> 20;
        // Random pages landfall's own source makes itself.
        let is_sent = comparison.qemu.is_some() || scenario.content.kind != Kind::Random;
        if is_sent && scenario.content.zero_percent < 100 {
            let path = comparison.scratch.join(format!("memory-{mib}"));
            scenario
                .content
                .write(&path, contender.ram_bytes)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            prepared.memory = Some(path);
        }
        if let Some(guest) = scenario.guest {
            let disk = comparison.scratch.join(format!("disk-{mib}"));
            running_guest::write_disk(&disk, guest, contender.ram_bytes)
                .map_err(|error| format!("{}: {error}", disk.display()))?;
            prepared.disk = Some(disk);
            let recording = comparison.scratch.join(format!("recording-{mib}"));
            running_guest::record(comparison, &prepared, contender, guest, &recording)?;
            prepared.recording = Some(recording);
        }
        if scenario.is_file() {
            let name = format!("landfall-compare-{}.mapped-ram", std::process::id());
            let path = comparison.disk.join(name);
            let saved = save(comparison, &prepared, contender, &path);
            // From here on it goes with what was prepared, half of it too.
            prepared.file = Some(path);
            saved?;
        }
        Ok(prepared)
    }

    /// What a machine with the guest's disk is started with.
    pub(super) fn disk_arguments(&self) -> Vec<String> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let drive = format!("file={},format=raw,if=ide,snapshot=on", disk.display());
        vec!["-drive".to_owned(), drive]
    }
}

/// A file that was made for the comparison lies outside its scratch directory.
impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Saves the guest to a mapped-ram file on the disk.
fn save(
    comparison: &Comparison,
    prepared: &Prepared,
    contender: &Contender,
    path: &Path,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    File::create(path).map_err(failed)?;
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(path)
        .map_err(failed)?;
    let kind = fstatfs(&direct).map_err(|error| failed(error.into()))?;
    if kind.filesystem_type() == TMPFS_MAGIC {
        return Err(format!("{} is in memory, it must be a disk: --disk", path.display()));
    }
    let mut source = Source::qemu(comparison, prepared, contender)?;
    source.migrate(&format!("file:{}", path.display()))?;
    wait_for("end of the save", SAVE_LIMIT, || {
        comparison.go_on()?;
        let state = source.qmp().command("query-migrate", json!({}))?;
        match state["status"].as_str() {
            Some("completed") => Ok(Some(())),
            Some("failed") => Err(format!("save: {}", state["error-desc"])),
            _ => Ok(None),
        }
    })?;
    // The kernel must not be writing it yet when it is read.
    direct.sync_all().map_err(failed)
}

const SAVE_LIMIT: Duration = Duration::from_secs(600);
