//! One side of a comparison: a run directory, or the raw file of one block.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landfall_pagepool::{BlockName, ram_file_name};
use landfall_receiver::report::run_directory::{RAM, RUN_JSON};
use serde_json::Value;

use crate::exit::Failure;

/// A side.
#[derive(Debug)]
pub(super) enum Image {
    /// A run directory.
    Directory(Directory),
    /// A raw file.
    File(PathBuf),
}

/// A run directory's RAM.
#[derive(Debug)]
pub(super) struct Directory {
    /// In the order of `run.json`, which is the source's, else by file name.
    pub(super) blocks: Vec<Block>,
    path: PathBuf,
    page_bytes: Option<u64>,
    status: Option<String>,
}

/// A RAM block of a run directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The source's name for it, as far as it is known.
    pub(super) name: String,
    /// The same on both sides exactly if the names are: the name of the file
    /// that landfall gives to a block of this name.
    pub(super) key: String,
    /// Its file, which may be missing.
    pub(super) path: PathBuf,
    /// How long it is, where `run.json` says it: on hugetlbfs its file is longer.
    pub(super) bytes: Option<u64>,
}

impl Image {
    /// Looks at what `path` is.
    ///
    /// # Errors
    /// Usage: neither a run directory nor a regular file, or a `run.json` that
    /// makes no sense. Host: what is there cannot be looked at.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let found = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if found.is_dir() {
            return Directory::open(path).map(Self::Directory);
        }
        if !found.is_file() {
            let text = format!("{}: neither a run directory nor a regular file", path.display());
            return Err(Failure::usage(text));
        }
        Ok(Self::File(path.to_owned()))
    }

    /// The target page size, where the run tells it.
    pub(super) fn page_bytes(&self) -> Option<u64> {
        match self {
            Self::Directory(directory) => directory.page_bytes,
            Self::File(_) => None,
        }
    }

    /// How the run ended, if it did not complete: its memory is then no guest's.
    pub(super) fn unfinished(&self) -> Option<&str> {
        match self {
            Self::Directory(directory) => {
                directory.status.as_deref().filter(|&status| status != COMPLETED)
            }
            Self::File(_) => None,
        }
    }
}

impl Directory {
    fn open(path: &Path) -> Result<Self, Failure> {
        let ram = path.join(RAM);
        if !ram.is_dir() {
            let text = format!("{}: no run directory: it has no folder {RAM}", path.display());
            return Err(Failure::usage(text));
        }
        let run_json = path.join(RUN_JSON);
        let listed = match fs::read(&run_json) {
            Ok(bytes) => Listed::parse(&bytes, &ram)
                .map_err(|text| Failure::usage(format!("{}: {text}", run_json.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Listed::default(),
            Err(error) => return Err(unreadable(&run_json, &error)),
        };
        let blocks = match listed.blocks {
            Some(blocks) => blocks,
            // A run that got no RAM, or a directory that somebody put together.
            None => found(&ram).map_err(|error| unreadable(&ram, &error))?,
        };
        let Listed { page_bytes, status, .. } = listed;
        Ok(Self { blocks, path: path.to_owned(), page_bytes, status })
    }

    /// The block that a raw file is to be compared with.
    ///
    /// # Errors
    /// Usage: there is not exactly one.
    pub(super) fn only_block(&self) -> Result<&Block, Failure> {
        match self.blocks.as_slice() {
            [only] => Ok(only),
            blocks => Err(Failure::usage(format!(
                "{} has {} RAM blocks and the other side is one file: say with --block NAME=FILE \
                 which block that is",
                self.path.display(),
                blocks.len()
            ))),
        }
    }
}

/// What `run.json` says of RAM, and of how the run ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The target page size.
    pub(super) page_bytes: Option<u64>,
    /// The run's status.
    pub(super) status: Option<String>,
    /// The blocks; `None` if there is no list.
    pub(super) blocks: Option<Vec<Block>>,
}

impl Listed {
    /// Reads the text; the blocks' files are in the folder `ram`.
    ///
    /// # Errors
    /// No JSON, or a list that makes no sense.
    pub(super) fn parse(text: &[u8], ram: &Path) -> Result<Self, String> {
        let report: Value =
            serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        let page_bytes = report["pages"]["page-bytes"].as_u64().filter(|&bytes| bytes > 0);
        let blocks = report["blocks"].as_array().map(|blocks| {
            let wrong = "its blocks are not a list of name and file, each of them once";
            listed(blocks, ram).ok_or(wrong)
        });
        let status = report["status"].as_str().map(str::to_owned);
        Ok(Self { page_bytes, status, blocks: blocks.transpose()? })
    }
}

/// The blocks that `run.json` lists; `None` if the list makes no sense.
fn listed(blocks: &[Value], ram: &Path) -> Option<Vec<Block>> {
    let mut keys = HashSet::new();
    let block = |block: &Value| {
        let name = block["name"].as_str()?;
        let file = Path::new(block["file"].as_str()?);
        // Nothing outside the folder is this directory's.
        let plain = file.file_name() == Some(file.as_os_str());
        let key = ram_file_name(&BlockName::try_from(name).ok()?);
        let (name, path) = (name.to_owned(), ram.join(file));
        let block = Block { name, key: key.clone(), path, bytes: block["bytes"].as_u64() };
        (plain && keys.insert(key)).then_some(block)
    };
    blocks.iter().map(block).collect()
}

/// The blocks that the files in the folder are, told by their names alone.
fn found(ram: &Path) -> io::Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for entry in fs::read_dir(ram)? {
        let path = entry?.path();
        let Some(file) = path.file_name().and_then(OsStr::to_str) else { continue };
        let Some(stem) = file.strip_suffix(".ram") else { continue };
        blocks.push(Block { name: unescape(stem), key: file.to_owned(), path, bytes: None });
    }
    blocks.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(blocks)
}

/// The block name that a file name without its suffix stands for: each `%XX`
/// is a byte. A name that was cut keeps its hash.
pub(super) fn unescape(stem: &str) -> String {
    let mut name = Vec::with_capacity(stem.len());
    let mut rest = stem.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte =
            digits.filter(|_| first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        name.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// A path that cannot be read: a wrong command line if there is nothing.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::usage(text),
        _ => Failure::host(text),
    }
}

/// The status of a run that has received a whole guest.
const COMPLETED: &str = "completed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_gives_its_block_name_back() {
        for name in ["pc.ram", "/rom@etc/acpi/tables", "0000:00:02.0/vga.vram", "a%2Fb c~", ".."] {
            let file = ram_file_name(&BlockName::try_from(name).unwrap());
            assert_eq!(unescape(file.strip_suffix(".ram").unwrap()), name);
        }
        for odd in ["%", "%4", "%zz", "a%"] {
            assert_eq!(unescape(odd), odd, "no escape: stays");
        }
    }

    #[test]
    fn a_list_that_reaches_outside_or_names_a_block_twice_is_refused() {
        let block = |name: &str, file: &str| serde_json::json!({"name": name, "file": file});
        let ram = Path::new("ram");
        assert_eq!(listed(&[block("mem", "x.ram")], ram).unwrap()[0].path, Path::new("ram/x.ram"));
        for wrong in [
            vec![block("mem", "../mem.ram")],
            vec![block("mem", "/etc/passwd")],
            vec![block("mem", "..")],
            vec![block("mem", "")],
            vec![block("", "mem.ram")],
            vec![block("mem", "mem.ram"), block("mem", "other.ram")],
            vec![serde_json::json!({"name": "mem"})],
        ] {
            assert_eq!(listed(&wrong, ram), None, "{wrong:?}");
        }
    }
}
