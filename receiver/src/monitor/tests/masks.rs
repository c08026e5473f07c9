//! The conversations once more without each feature of io_uring, as on an older
//! kernel.

use std::process::Command;
use std::thread;

#[test]
fn all_conversations_hold_in_each_mask() {
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
                    .arg("monitor::tests::")
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&child.stdout);
                assert!(child.status.success(), "with {mask} masked:\n{said}");
                let summary = said.lines().rfind(|line| line.starts_with("test result"));
                println!("{mask}: {}", summary.unwrap_or_default());
                assert!(!said.contains(" 0 passed"), "with {mask} masked nothing ran:\n{said}");
            });
        }
    });
}
