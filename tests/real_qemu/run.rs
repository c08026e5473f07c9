//! One case, from empty scratch directory to verdict.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::case::{Case, Extra, Guest, Tls};
use crate::control::ControlDestination;
use crate::destination::{Destination, Received};
use crate::found;
use crate::memory_file::{self, PAGE_BYTES};
use crate::query_migrate;
use crate::source::{Source, SourceBlock, xbzrle};

/// The programs a run needs.
pub(crate) struct Programs {
    pub(crate) landfall: PathBuf,
    /// Version and path of each QEMU.
    pub(crate) qemus: Vec<(String, PathBuf)>,
}

impl Programs {
    pub(crate) fn qemu(&self, case: &Case) -> Result<&Path, String> {
        found::of_major(case.sender.qemu, &self.qemus).map(PathBuf::as_path)
    }
}

/// What one run moved.
pub(crate) struct Moved {
    pub(crate) normal: u64,
    pub(crate) duplicate: u64,
    pub(crate) rounds: u64,
}

/// Migrates into landfall; everything that is to hold is checked.
pub(crate) fn into_landfall(case: &Case, programs: &Programs, seed: u64) -> Result<Moved, String> {
    let scratch = scratch()?;
    let mut source = Source::start(case, programs.qemu(case)?, scratch.path(), seed)?;
    let mut destination = Destination::start(case, &programs.landfall, scratch.path(), &[])?;
    let uri = destination.uri().to_owned();
    let state = source.migrate(&uri).map_err(|error| destination.blame(&error))?;
    let received = destination.finish(&QUIET_LIFE)?;
    let strays = &received.report["stray-connections"];
    if *strays != 0 {
        return Err(format!("{strays} stray connections, nobody but the source was there"));
    }
    verify(case, &mut source, &state, &received)
}

/// Compares what landfall received with a source that has completed.
pub(crate) fn verify(
    case: &Case,
    source: &mut Source,
    state: &Value,
    received: &Received,
) -> Result<Moved, String> {
    let blocks = verify_ram(case, source, received)?;
    let moved = moved(state)?;
    compare_counts(case, state, received, &moved, &blocks)?;
    Ok(moved)
}

/// Compares what landfall has of every block with a source that has completed;
/// returns the blocks.
pub(crate) fn verify_ram(
    case: &Case,
    source: &mut Source,
    received: &Received,
) -> Result<Vec<SourceBlock>, String> {
    let blocks = source.blocks()?;
    compare_ram(case, source, &blocks, |name| {
        Some(received.run_directory.join("ram").join(format!("{}.ram", escaped(name))))
    })?;
    no_more_files_than_blocks(received, &blocks)?;
    Ok(blocks)
}

/// Migrates into a second QEMU and compares what has a memory file on both
/// sides.
pub(crate) fn into_control(case: &Case, programs: &Programs, seed: u64) -> Result<Moved, String> {
    let scratch = scratch()?;
    let mut source = Source::start(case, programs.qemu(case)?, scratch.path(), seed)?;
    let destination = ControlDestination::start(case, programs.qemu(case)?, scratch.path())?;
    let uri = destination.uri().to_owned();
    let state = source.migrate(&uri).map_err(|error| destination.blame(&error))?;
    let file_of = destination.finish()?;
    let blocks = source.blocks()?;
    compare_ram(case, &mut source, &blocks, file_of)?;
    moved(&state)
}

/// Compares every block whose content the source can show, and what nobody can
/// have written in a guest that never ran. `file_of` names the destination's
/// file of a block, if it has one.
fn compare_ram(
    case: &Case,
    source: &mut Source,
    blocks: &[SourceBlock],
    file_of: impl Fn(&str) -> Option<PathBuf>,
) -> Result<(), String> {
    let mut compared = 0;
    for block in blocks {
        let Some(file) = file_of(&block.name) else {
            continue;
        };
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        let bytes = fs::metadata(&file).map_err(failed)?.len();
        if bytes != block.bytes {
            return Err(format!(
                "block {}: {bytes} bytes, {} at the source",
                block.name, block.bytes
            ));
        }
        let truth = source.content(block)?;
        compared += usize::from(truth.is_some());
        let difference = match truth {
            Some(truth) => memory_file::difference(&truth, &file).map_err(failed)?,
            None if case.guest == Guest::Paused && is_untouched(&block.name) => {
                (!memory_file::is_zero(&file).map_err(failed)?).then(|| "not all zero".to_owned())
            }
            None => None,
        };
        if let Some(difference) = difference {
            return Err(format!("block {}: {difference}", block.name));
        }
    }
    if compared == 0 { Err("no block was compared".to_owned()) } else { Ok(()) }
}

/// Blocks that hold zeros until a guest runs.
fn is_untouched(block: &str) -> bool {
    block.ends_with("vga.vram") || block.ends_with("vmem")
}

/// A file for a block that the source does not have would be an invention.
fn no_more_files_than_blocks(received: &Received, blocks: &[SourceBlock]) -> Result<(), String> {
    let ram = received.run_directory.join("ram");
    let files = fs::read_dir(&ram).map_err(|error| format!("{}: {error}", ram.display()))?.count();
    if files == blocks.len() {
        Ok(())
    } else {
        Err(format!("{files} files in ram/, {} blocks at the source", blocks.len()))
    }
}

/// The source's page counts against landfall's, and landfall's against each
/// other.
fn compare_counts(
    case: &Case,
    state: &Value,
    received: &Received,
    moved: &Moved,
    blocks: &[SourceBlock],
) -> Result<(), String> {
    let report = &received.report;
    let answer = &report["query-migrate"];
    query_migrate::check(answer)?;
    if let Some(told) = &received.query_migrate {
        let is_same = |name: &&str| told["ram"][*name] == answer["ram"][*name];
        if told["total-time"] != answer["total-time"] || !COUNTS.iter().all(is_same) {
            return Err(format!("QMP told {told}, --json {answer}"));
        }
    }
    let bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
    // What a source calls normal leaves XBZRLE pages out.
    let patched = report["pages"]["xbzrle-pages"].as_u64().unwrap_or(0);
    let is_due = case.extra == Extra::Xbzrle && case.guest == Guest::Running;
    let most = xbzrle(state, "pages");
    if patched > most || is_due != (patched > 0) {
        return Err(format!("{patched} XBZRLE pages in the report, at most {most} by the source"));
    }
    let normal = moved.normal + patched + uncounted_repeats(case, moved, report)?;
    let mut expected = vec![
        ("/query-migrate/ram/normal", normal),
        ("/query-migrate/ram/duplicate", moved.duplicate),
        ("/query-migrate/ram/total", bytes),
        ("/pages/ram-pages", bytes / PAGE_BYTES as u64),
    ];
    if case.extra != Extra::VirtioMem {
        // Unplugged memory alone is never sent.
        expected.push(("/pages/unique-pages", bytes / PAGE_BYTES as u64));
    }
    for (pointer, wanted) in expected {
        let found = report.pointer(pointer).unwrap_or(&Value::Null);
        if *found != wanted {
            return Err(format!("{pointer} is {found}, by the source {wanted}; source: {state}"));
        }
    }
    let compression = &report["compression"]["method"];
    if case.channels > 0 && *compression != case.compression.name() {
        let wanted = case.compression.name();
        return Err(format!("compression is {compression}, the source's {wanted}"));
    }
    let version = report["tls"]["version"].as_str();
    let agreed = match case.tls {
        Tls::Off => None,
        Tls::Default => Some("TLSv1.3"),
        Tls::Only1_2 => Some("TLSv1.2"),
    };
    if version != agreed {
        return Err(format!("the report has {version:?}, not {agreed:?}"));
    }
    let channels = report["channels"].as_array().map_or(0, Vec::len);
    if channels != usize::from(case.channels) {
        return Err(format!("{channels} channels in the report, the source has {}", case.channels));
    }
    Ok(())
}

/// Pages that arrived although the source did not count them.
///
/// The multifd of 7.2 (seen with 7.2.22) sends the last page of every full
/// packet once more, as the first page of the next packet.
fn uncounted_repeats(case: &Case, moved: &Moved, report: &Value) -> Result<u64, String> {
    if case.sender.qemu != "7.2" || case.channels == 0 {
        return Ok(0);
    }
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let repeats = number("/query-migrate/ram/normal").saturating_sub(moved.normal);
    // A guest that never ran has no other reason for a page to come again.
    let is_explained = match case.guest {
        Guest::Paused => repeats == number("/pages/resent-pages"),
        Guest::Running => repeats < number("/wire/packets"),
    };
    if is_explained {
        Ok(repeats)
    } else {
        Err(format!("{repeats} pages came that the source did not count: {report}"))
    }
}

fn moved(state: &Value) -> Result<Moved, String> {
    let number = |name: &str| {
        state["ram"][name]
            .as_u64()
            .ok_or_else(|| format!("the source tells no ram.{name}: {state}"))
    };
    Ok(Moved {
        normal: number("normal")?,
        duplicate: number("duplicate")?,
        rounds: number("dirty-sync-count")?,
    })
}

/// A block's name as a file name: every byte outside `[A-Za-z0-9._-]` as `%XX`.
pub(crate) fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Socket paths must stay short (108 bytes), so not below the work tree.
pub(crate) fn scratch() -> Result<tempfile::TempDir, String> {
    tempfile::Builder::new()
        .prefix("landfall-qemu-")
        .tempdir()
        .map_err(|error| format!("no scratch directory: {error}"))
}

/// Members of `ram` that are whole numbers and must be the same wherever they
/// are told.
const COUNTS: [&str; 5] = ["total", "remaining", "duplicate", "normal-bytes", "normal"];
/// The MIGRATION events of one run that goes well.
const QUIET_LIFE: [&str; 3] = ["setup", "active", "completed"];

#[test]
fn a_slash_and_a_colon_are_escaped_in_a_file_name() {
    assert_eq!(escaped("0000:00:01.0/vga.vram"), "0000%3A00%3A01.0%2Fvga.vram");
}
