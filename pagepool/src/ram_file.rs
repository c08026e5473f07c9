//! The file of a RAM block in a run directory: its name, and how it is made.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::{BlockName, PoolError};

/// The name of a block's file in the `ram` folder of a run directory: the block's name with each
/// byte outside `[A-Za-z0-9._-]` as `%XX`, and `.ram`. Where that is over 255 bytes, the longest
/// name of a file, it is cut, and `-` and 16 hex digits of a hash of the whole name are put in
/// (FNV-1a, 64 bits; Fowler, Noll and Vo).
pub fn ram_file_name(name: &BlockName) -> String {
    let mut escaped = String::new();
    let mut cut = 0;
    for byte in name.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                escaped.push(char::from(*byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
        if escaped.len() <= CUT_BYTES {
            cut = escaped.len(); // never inside a %XX
        }
    }
    if escaped.len() + SUFFIX.len() <= FILE_NAME_BYTES_MAX {
        return escaped + SUFFIX;
    }
    escaped.truncate(cut);
    format!("{escaped}-{:016x}{SUFFIX}", fnv1a(name.as_bytes()))
}

/// The folder of RAM files in a run directory.
pub(crate) fn folder_of(directory: &Path) -> PathBuf {
    directory.join("ram")
}

/// Makes the run directory and its folder of RAM files, where they are not there.
pub(crate) fn make_folder(directory: &Path) -> Result<PathBuf, PoolError> {
    let folder = folder_of(directory);
    fs::create_dir_all(&folder).map_err(|source| failed("make the folder", &folder, source))?;
    Ok(folder)
}

/// A new, empty file for a block. One of an earlier run is taken away, not emptied: whoever still
/// has it mapped (a QEMU that was started from it) keeps it whole instead of dying of SIGBUS.
pub(crate) fn create(directory: &Path, name: &BlockName) -> Result<(File, PathBuf), PoolError> {
    let path = folder_of(directory).join(ram_file_name(name));
    remove_if_there(&path)?;
    // create_new follows no symbolic link and takes no file over.
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    match opened {
        Ok(file) => Ok((file, path)),
        Err(source) => Err(failed("make", &path, source)),
    }
}

/// Takes away the RAM files of an earlier run.
pub(crate) fn remove_all(directory: &Path) -> Result<(), PoolError> {
    let folder = folder_of(directory);
    let listed = |source| failed("list", &folder, source);
    for entry in fs::read_dir(&folder).map_err(listed)? {
        let path = entry.map_err(listed)?.path();
        if path.extension().is_some_and(|extension| extension == "ram") {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// The error of a step on a file.
pub(crate) fn failed(doing: &'static str, path: &Path, source: io::Error) -> PoolError {
    PoolError::File { path: path.to_owned(), doing, source }
}

/// Takes away a file of an earlier run.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), PoolError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the earlier", path, error))
        }
        _ => Ok(()),
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

const SUFFIX: &str = ".ram";
/// `NAME_MAX` of Linux (limits.h).
const FILE_NAME_BYTES_MAX: usize = 255;
/// What a cut name keeps: all but the dash, the hash and the suffix.
const CUT_BYTES: usize = FILE_NAME_BYTES_MAX - 1 - 16 - SUFFIX.len();

#[cfg(test)]
mod tests {
    use super::{fnv1a, ram_file_name};
    use crate::BlockName;

    #[test]
    fn names_escape_every_byte_that_is_not_plain() {
        let cases = [
            ("pc.ram", "pc.ram.ram"),
            ("/rom@etc/acpi/tables", "%2From%40etc%2Facpi%2Ftables.ram"),
            ("0000:00:02.0/vga.vram", "0000%3A00%3A02.0%2Fvga.vram.ram"),
            ("..", "...ram"),
            ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd.ram"),
            ("a%2Fb c~", "a%252Fb%20c%7E.ram"),
        ];
        for (name, file) in cases {
            assert_eq!(ram_file_name(&block(name)), file);
        }
    }

    #[test]
    fn long_names_are_cut_between_escapes_and_stay_apart() {
        let fits = "x".repeat(251);
        assert_eq!(ram_file_name(&block(&fits)), format!("{fits}.ram"));
        let cut = ram_file_name(&block(&"x".repeat(252)));
        assert_eq!(cut.len(), 255);
        let one = ram_file_name(&block(&format!("{}1", "/".repeat(254))));
        let two = ram_file_name(&block(&format!("{}2", "/".repeat(254))));
        assert_ne!(one, two);
        for name in [&one, &two] {
            assert!(name.len() <= 255 && name.ends_with(".ram"), "{name}");
            let (escapes, hash) = name[..name.len() - 4].split_once('-').expect("a hash");
            assert_eq!(escapes, "%2F".repeat(escapes.len() / 3));
            assert_eq!(hash.len(), 16);
        }
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // From the authors' test vectors.
        assert_eq!(fnv1a(b""), 0xcbf29ce484222325);
        assert_eq!(fnv1a(b"foobar"), 0x85944171f73967e8);
    }

    fn block(name: &str) -> BlockName {
        BlockName::try_from(name).expect("a name")
    }
}
