//! Reports on disk.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::RunError;

/// Writes `value` to `path`; whoever reads sees the old file or the new one,
/// whole. What is there and no regular file (a pipe, `/dev/null`) is written to.
///
/// # Errors
/// Environment: the path, and what the file system said.
pub fn write_json(path: &Path, value: &Value) -> Result<(), RunError> {
    let mut text = serde_json::to_string_pretty(value).expect("a Value has string keys");
    text.push('\n');
    replace(path, text.as_bytes())
}

/// Adds `value` to the end of `path` as one line.
///
/// # Errors
/// Environment: the path, and what the file system said.
pub fn append_json_line(path: &Path, value: &Value) -> Result<(), RunError> {
    // One write: lines of several processes stay whole.
    let line = format!("{value}\n");
    let append =
        || OpenOptions::new().append(true).create(true).open(path)?.write_all(line.as_bytes());
    append().map_err(|error| failed(path, &error))
}

/// Puts `bytes` in the place of `path`.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    replace_in_pieces(path, &[bytes])
}

/// [`replace`] with bytes that do not lie together.
pub(super) fn replace_in_pieces(path: &Path, pieces: &[&[u8]]) -> Result<(), RunError> {
    let special = fs::metadata(path).is_ok_and(|found| !found.is_file());
    let write = |to: &Path| {
        let mut file = File::create(to)?;
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        Ok(file)
    };
    let written = if special { write(path).map(drop) } else { replace_file(path, write) };
    written.map_err(|error| failed(path, &error))
}

fn replace_file(path: &Path, write: impl Fn(&Path) -> io::Result<File>) -> io::Result<()> {
    // A link stays a link: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = beside(&path)?;
    let replace = || {
        // Else a crash could leave the new name with no content.
        write(&beside)?.sync_data()?;
        fs::rename(&beside, &path)
    };
    replace().inspect_err(|_| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    })
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

pub(super) fn failed(path: &Path, error: &io::Error) -> RunError {
    RunError::host(&format!("writing {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::tempdir;

    use super::*;
    use crate::error::Family;

    #[test]
    fn a_report_replaces_the_one_before_and_leaves_nothing_beside_it() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("run.json");
        write_json(&path, &json!({"run-id": 1, "long": "x".repeat(5000)})).unwrap();
        let before = File::open(&path).unwrap();
        write_json(&path, &json!({"run-id": 2})).unwrap();
        let read: Value = serde_json::from_reader(File::open(&path).unwrap()).unwrap();
        assert_eq!(read, json!({"run-id": 2}));
        let old: Value = serde_json::from_reader(before).unwrap();
        assert_eq!(old["run-id"], 1, "who had it open keeps it whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn lines_are_added_one_for_each_run() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        for id in 1..=3 {
            append_json_line(&path, &json!({"run-id": id, "text": "two\nlines"})).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let ids: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(ids.len(), 3);
        assert_eq!(ids[2]["run-id"], 3);
    }

    #[test]
    fn a_link_is_kept_and_a_device_is_written_to() {
        let folder = tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_json(&link, &json!(1)).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "1\n");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        write_json(Path::new("/dev/null"), &json!(1)).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("none").join("run.json");
        for error in [write_json(&path, &json!(1)), append_json_line(&path, &json!(1))] {
            let error = error.unwrap_err();
            assert_eq!(error.family, Family::Environment);
            assert!(error.text.contains("none/run.json"), "{error}");
        }
    }
}
