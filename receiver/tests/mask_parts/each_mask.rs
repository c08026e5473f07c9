//! A test program once more without each feature of io_uring, as on an older kernel.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The program, under way in each mask.
pub(crate) struct EachMask {
    children: Vec<(String, Child)>,
    /// What they say, by mask. No pipes: some tests count this process's descriptors.
    said: TempDir,
}

impl EachMask {
    /// Starts the program that calls this with `arguments`, once without each of `features` and
    /// once without any; nothing if it is one of these itself, or somebody has set a mask.
    pub(crate) fn start(features: &[&str], arguments: &[&str]) -> Option<Self> {
        if std::env::var_os("LANDFALL_RING_MASK").is_some() {
            return None;
        }
        let program = std::env::current_exe().unwrap();
        let said = tempfile::tempdir().unwrap();
        let start = |mask: &str| {
            let child = Command::new(&program)
                .env("LANDFALL_RING_MASK", mask)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(File::create(said.path().join(mask)).unwrap())
                .stderr(Stdio::null())
                .spawn();
            (mask.to_owned(), child.unwrap())
        };
        let children = features.iter().copied().chain(["all"]).map(start).collect();
        Some(Self { children, said })
    }

    /// Waits for all of them; each must have run tests, and passed them.
    pub(crate) fn pass(self) {
        for (mask, mut child) in self.children {
            let status = child.wait().unwrap();
            let said = fs::read_to_string(self.said.path().join(&mask)).unwrap();
            assert!(status.success(), "with {mask} masked:\n{said}");
            let summary = said.lines().rfind(|line| line.starts_with("test result"));
            println!("{mask}: {}", summary.unwrap_or_default());
            assert!(!said.contains(" 0 passed"), "with {mask} masked nothing ran:\n{said}");
        }
    }
}
