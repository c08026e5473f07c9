//! Whether what a command is to write at its end could be written: looked at before it begins.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};

use crate::exit::Failure;
use crate::standard_output;

/// A file that is written to, or made; standard output always can be.
///
/// # Errors
/// Host: the path, and why not.
pub(crate) fn check_file(path: &Path) -> Result<(), Failure> {
    if standard_output::is_named(Some(path)) {
        return Ok(());
    }
    let look = || match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Errno::EISDIR),
        Ok(_) => eaccess(path, AccessFlags::W_OK),
        Err(_) => check_new(path),
    };
    look().map_err(|error| failed(path, error))
}

/// As [`check_file`], of a file that another takes the place of, made beside it.
///
/// # Errors
/// Host: the path, and why not.
pub(crate) fn check_replaced(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        // As it is replaced: where a link leads.
        Ok(found) if found.is_file() && !standard_output::is_named(Some(path)) => {
            fs::canonicalize(path)
                .map_err(|error| errno(&error))
                .and_then(|path| check_new(&path))
                .map_err(|error| failed(path, error))
        }
        _ => check_file(path),
    }
}

/// A directory that is made, with those above it, unless it is there.
///
/// # Errors
/// Host: the path, and why not.
pub(crate) fn check_directory(path: &Path) -> Result<(), Failure> {
    let there = path.ancestors().find(|path| named(path).symlink_metadata().is_ok());
    check_folder(&named(there.unwrap_or(path))).map_err(|error| failed(path, error))
}

/// Could a file of this name be made?
fn check_new(path: &Path) -> Result<(), Errno> {
    if path.file_name().is_none() {
        return Err(Errno::EISDIR);
    }
    check_folder(&named(path.parent().unwrap_or(path)))
}

/// Could files be made in it?
fn check_folder(path: &Path) -> Result<(), Errno> {
    let found = fs::metadata(path).map_err(|error| errno(&error))?;
    if !found.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    eaccess(path, AccessFlags::W_OK | AccessFlags::X_OK)
}

/// The directory that no name stands for is the current one.
fn named(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn failed(path: &Path, error: Errno) -> Failure {
    Failure::host(format!("writing {}: {}", path.display(), io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_path_that_can_be_written_is_left_as_it_was() {
        let folder = tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old"), "old").unwrap();
        std::os::unix::fs::symlink(at("old"), at("link")).unwrap();
        for check in [check_file, check_replaced] {
            for path in [at("old"), at("new"), at("link"), "new".into(), "/dev/null".into()] {
                assert!(check(&path).is_ok(), "{}", path.display());
            }
        }
        for path in [folder.path().to_owned(), at("new"), at("new/below/it"), "new".into()] {
            assert!(check_directory(&path).is_ok(), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(at("old")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_in_the_way_is_named_with_the_path() {
        let folder = tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        for check in [check_file, check_replaced] {
            for (path, says) in [
                (folder.path().to_owned(), "Is a directory"),
                (at("none/new"), "No such file or directory"),
                (at("file/new"), "Not a directory"),
            ] {
                let said = check(&path).unwrap_err().to_string();
                assert!(said.contains(says) && said.contains(path.to_str().unwrap()), "{said}");
            }
        }
        for path in [at("file"), at("file/below")] {
            let said = check_directory(&path).unwrap_err().to_string();
            assert!(said.contains("Not a directory"), "{said}");
        }
    }
}
