//! A guest whose RAM comes from files in place of the seed.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{config::ConfigError, guest::is_zero};

/// One file per RAM block.
#[derive(Debug)]
pub(crate) struct Images {
    files: Vec<Image>,
    /// The first read that failed. A page is asked for deep inside the script, where there is
    /// nobody to tell: it is zero then, and whoever drives the script looks here.
    error: OnceLock<ConfigError>,
}

#[derive(Debug)]
struct Image {
    path: PathBuf,
    file: File,
}

impl Images {
    /// Opens the files, one per block in the order of the blocks.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, ConfigError> {
        let image = |path: &PathBuf| Ok(Image { path: path.clone(), file: open(path)? });
        let files = paths.iter().map(image).collect::<Result<_, _>>()?;
        Ok(Self { files, error: OnceLock::new() })
    }

    /// The first read that failed.
    pub(crate) fn error(&self) -> Option<&ConfigError> {
        self.error.get()
    }

    /// Reads a page; what lies behind the end of the file is zero, and so is what cannot be read:
    /// then [`Images::error`] says so.
    pub(crate) fn read(&self, block: u16, page: u64, out: &mut [u8]) {
        let image = &self.files[usize::from(block)];
        let start = page * out.len() as u64;
        let mut filled = 0;
        while filled < out.len() {
            match image.file.read_at(&mut out[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let (path, reason) = (image.path.clone(), error.to_string());
                    self.error.get_or_init(|| ConfigError::Image { path, reason });
                    break;
                }
            }
        }
        out[filled..].fill(0);
    }

    /// Whether a page of the file is zero.
    pub(crate) fn is_zero(&self, block: u16, page: u64, page_bytes: u32) -> bool {
        let mut bytes = vec![0; page_bytes as usize];
        self.read(block, page, &mut bytes);
        is_zero(&bytes)
    }
}

/// How many bytes the file or the device has that is to stand for a block of RAM.
///
/// # Errors
/// [`ConfigError::Image`] when it is nothing that pages can be read from.
pub fn image_bytes(path: &Path) -> Result<u64, ConfigError> {
    // The size of a device is where its end is; its inode has none.
    open(path)?.seek(SeekFrom::End(0)).map_err(|error| refused(path, &error))
}

/// Opens what has pages to read at any place, and looks whether it gives its first: a destination
/// that has been connected to is lost to the run that finds out later.
fn open(path: &Path) -> Result<File, ConfigError> {
    let failed = |error: std::io::Error| refused(path, &error);
    // Before it is opened, which waits for the other end of a pipe.
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let found = if kind.is_dir() { "a directory" } else { "no file" };
        let reason = format!("it is {found}, allowed are regular files and block devices");
        return Err(refused(path, &reason));
    }
    let file = File::open(path).map_err(failed)?;
    file.read_at(&mut [0], 0).map_err(failed)?;
    Ok(file)
}

fn refused(path: &Path, reason: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Image { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_from_the_file_and_are_zero_behind_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ram");
        let mut bytes = vec![0; 4096];
        bytes.extend_from_slice(&[7; 5000]);
        std::fs::write(&path, &bytes).expect("written");
        let images = Images::open(&[path]).expect("opened");
        assert!(images.is_zero(0, 0, 4096));
        assert!(!images.is_zero(0, 1, 4096));
        let mut page = vec![1; 4096];
        images.read(0, 2, &mut page);
        assert_eq!((page[903], page[904]), (7, 0));
        assert!(images.is_zero(0, 3, 4096));
    }

    #[test]
    fn what_cannot_be_read_is_remembered() {
        let dir = tempfile::tempdir().expect("a directory");
        // A file whose disk fails later: a directory opens like one, and refuses to be read.
        let image =
            Image { path: dir.path().to_owned(), file: File::open(dir.path()).expect("opened") };
        let images = Images { files: vec![image], error: OnceLock::new() };
        assert!(images.error().is_none());
        assert!(images.is_zero(0, 0, 4096));
        assert!(images.error().is_some());
    }

    #[test]
    fn what_has_no_pages_to_read_is_refused_by_name() {
        for (path, says) in [
            ("/nonexistent/ram", "No such file"),
            ("/proc", "it is a directory, allowed are regular files and block devices"),
            ("/dev/null", "it is no file, allowed are"),
            // A regular file whose first page nobody has.
            ("/proc/self/mem", "error"),
        ] {
            let error = Images::open(&[path.into()]).expect_err(path);
            let text = error.to_string();
            assert!(text.starts_with(&format!("image {path}: ")) && text.contains(says), "{text}");
            assert_eq!(image_bytes(Path::new(path)), Err(error));
        }
    }

    #[test]
    fn the_bytes_of_a_file_are_counted() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(5000).expect("a size");
        assert_eq!(image_bytes(file.path()), Ok(5000));
    }
}
