//! All of this once more without each feature of io_uring, as on an older
//! kernel.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use super::host::alone;

#[test]
fn all_of_this_holds_in_each_mask() {
    if std::env::var_os("LANDFALL_RING_MASK").is_some() {
        return; // a child, or the mask of whoever runs this
    }
    let suite = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let said = |mask: &str| folder.path().join(mask);
    let start = |mask| -> (&str, Child) {
        let child = Command::new(&suite)
            .env("LANDFALL_RING_MASK", mask)
            // What has no ring in it is not done again.
            .args(["--skip", "every_rule_of_the_main_stream", "--skip", "bombs::"])
            .stdin(Stdio::null())
            // No pipes: other tests of this process count its descriptors.
            .stdout(File::create(said(mask)).unwrap())
            .stderr(Stdio::null())
            .spawn();
        (mask, child.unwrap())
    };
    let quiet = alone();
    let children = ["single_issuer", "defer_taskrun", "coop_taskrun", "all"].map(start);
    drop(quiet);
    for (mask, mut child) in children {
        let status = child.wait().unwrap();
        let said = fs::read_to_string(said(mask)).unwrap();
        assert!(status.success(), "with {mask} masked:\n{said}");
        let summary = said.lines().rfind(|line| line.starts_with("test result"));
        println!("{mask}: {}", summary.unwrap_or_default());
        assert!(!said.contains(" 0 passed"), "with {mask} masked nothing ran:\n{said}");
    }
}
