//! The real QEMUs of this machine, as `tests/qemu/find` finds them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Versions (`7.2`, `10.0`, `7.2-s390x`) and programs, or which of the first two is missing.
pub(crate) fn qemus() -> Result<Vec<(String, PathBuf)>, String> {
    let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/qemu/find");
    let output =
        Command::new(&find).output().map_err(|error| format!("{}: {error}", find.display()))?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    let found: Vec<_> =
        pairs.map(|(version, path)| (version.to_owned(), PathBuf::from(path))).collect();
    match ["7.2", "10.0"].into_iter().find(|wanted| found.iter().all(|(one, _)| one != wanted)) {
        Some(missing) => Err(format!("no QEMU {missing}: run tests/qemu/install")),
        None => Ok(found),
    }
}

/// The program of this version, or what is missing.
pub(crate) fn qemu(version: &str) -> Result<PathBuf, String> {
    let found = qemus()?.into_iter().find(|(one, _)| one == version);
    found.map(|(_, path)| path).ok_or_else(|| format!("no QEMU {version}: run tests/qemu/install"))
}

/// The program of this version. `None`, and said, where real QEMUs are missing and may be.
pub(crate) fn qemu_or_skip(version: &str) -> Option<PathBuf> {
    qemu(version)
        .inspect_err(|why| {
            let required = std::env::var("LANDFALL_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "required, but: {why}");
            println!("SKIPPED: {why}");
        })
        .ok()
}
