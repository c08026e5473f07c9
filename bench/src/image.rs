//! A guest whose RAM comes from files in place of the seed.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf, sync::OnceLock};

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
        let open = |path: &PathBuf| match File::open(path) {
            Ok(file) => Ok(Image { path: path.clone(), file }),
            Err(error) => Err(ConfigError::Image { path: path.clone(), reason: error.to_string() }),
        };
        let files = paths.iter().map(open).collect::<Result<_, _>>()?;
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
        // A directory opens like a file and refuses to be read.
        let images = Images::open(&[dir.path().to_owned()]).expect("opened");
        assert!(images.error().is_none());
        assert!(images.is_zero(0, 0, 4096));
        assert!(images.error().is_some());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Images::open(&["/nonexistent/ram".into()]).expect_err("missing");
        assert!(error.to_string().contains("/nonexistent/ram"), "{error}");
    }
}
