//! The real QEMUs of this machine, as `tests/qemu/find` finds them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Versions (`7.2`, `10.0`, `7.2-s390x`) and programs, or which of the first two is missing.
pub(crate) fn qemus() -> Result<Vec<(String, PathBuf)>, String> {
    let found = listed()?;
    for wanted in ["7.2", "10.0"] {
        of_major(wanted, &found)?;
    }
    Ok(found)
}

/// The program of this version, or what is missing; a newer minor version stands for it, as
/// `tests/qemu/find` has them.
pub(crate) fn qemu(version: &str) -> Result<PathBuf, String> {
    of_major(version, &listed()?).cloned()
}

/// What `tests/qemu/find` prints, however little that is.
fn listed() -> Result<Vec<(String, PathBuf)>, String> {
    let find = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/qemu/find");
    let output =
        Command::new(&find).output().map_err(|error| format!("{}: {error}", find.display()))?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(version, path)| (version.to_owned(), PathBuf::from(path))).collect())
}

/// The one with the major version of `wanted` and for the same guest: `7.2-s390x` is no `7.2`.
pub(crate) fn of_major<'a>(
    wanted: &str,
    found: &'a [(String, PathBuf)],
) -> Result<&'a PathBuf, String> {
    let kind = |version: &str| {
        let (number, target) = version.split_once('-').unwrap_or((version, ""));
        (number.split('.').next().map(str::to_owned), target.to_owned())
    };
    let one = found.iter().find(|(version, _)| kind(version) == kind(wanted));
    one.map(|(_, path)| path).ok_or_else(|| format!("no QEMU {wanted}: run tests/qemu/install"))
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
