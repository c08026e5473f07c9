//! All of this once more without each feature of io_uring, as on an older
//! kernel.

use std::process::{Command, Stdio};
use std::thread;

#[test]
fn all_of_this_holds_in_each_mask() {
    if std::env::var_os("LANDFALL_RING_MASK").is_some() {
        return; // a child, or the mask of whoever runs this
    }
    let suite = std::env::current_exe().unwrap();
    thread::scope(|scope| {
        for mask in ["single_issuer", "defer_taskrun", "coop_taskrun", "all"] {
            let suite = &suite;
            scope.spawn(move || {
                let child = Command::new(suite)
                    .env("LANDFALL_RING_MASK", mask)
                    // What has no ring in it is not done again.
                    .args(["--skip", "every_rule_of_the_main_stream", "--skip", "bombs::"])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&child.stdout);
                let summary = said.lines().rfind(|line| line.starts_with("test result"));
                println!("{mask}: {}", summary.unwrap_or_default());
                assert!(child.status.success(), "with {mask} masked:\n{said}");
                let ran = summary.is_some_and(|line| !line.contains(" 0 passed"));
                assert!(ran, "with {mask} masked nothing ran:\n{said}");
            });
        }
    });
}
