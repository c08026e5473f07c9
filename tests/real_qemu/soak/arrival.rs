//! What has arrived of a synthetic guest, against what was sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use landfall_bench::config::BlockConfig;
use landfall_bench::{Plan, verify};
use serde_json::Value;

use super::ram_file;

/// Every page, against the seed or the image; of blocks that are not sent, that nothing is in
/// them, of earlier runs either.
pub(super) fn compare(plan: &Plan, run_directory: &Path) -> Result<(), String> {
    let open = |block: &BlockConfig| -> Result<File, String> {
        let path: PathBuf = ram_file(run_directory, &block.name);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found == block.bytes {
            Ok(file)
        } else {
            Err(format!("{}: {found} bytes, {} sent", path.display(), block.bytes))
        }
    };
    let blocks = &plan.config().blocks;
    let files = blocks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let ram = run_directory.join("ram");
    let found = fs::read_dir(&ram).map_err(|error| format!("{}: {error}", ram.display()))?.count();
    if found != files.len() {
        return Err(format!("{found} files in ram/, {} blocks sent", files.len()));
    }
    for (index, block) in blocks.iter().enumerate() {
        if !plan.config().sends(index) {
            let path = ram_file(run_directory, &block.name);
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
                return Err(format!("{}: not sent, and not zero at {at:#x}", path.display()));
            }
        }
    }
    verify(plan, 2, |block, offset, out| files[usize::from(block)].read_exact_at(out, offset))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// What was counted, against what was sent.
pub(super) fn compare_counts(plan: &Plan, report: &Value) -> Result<(), String> {
    let sent = plan.sent();
    for (pointer, wanted) in [
        ("/pages/normal-pages", sent.pages.normal),
        ("/pages/zero-pages", sent.pages.zero),
        ("/pages/unique-pages", sent.unique),
        ("/pages/resent-pages", sent.resent),
        ("/pages/xbzrle-pages", sent.xbzrle),
        ("/wire/bytes", sent.bytes()),
        ("/wire/main-bytes", sent.main_bytes),
        ("/wire/packets", sent.packets),
        ("/wire/sync-packets", sent.sync_packets),
    ] {
        let found = report.pointer(pointer).unwrap_or(&Value::Null);
        if *found != wanted {
            return Err(format!("{pointer} is {found}, sent were {wanted}"));
        }
    }
    Ok(())
}
