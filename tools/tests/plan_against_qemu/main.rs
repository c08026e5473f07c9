//! Forecasts beside migrations that were made, and what a page costs. Both measure, so they run
//! only when asked for, with nothing else on the machine: docs/scaling.md has the commands.

mod beyond;
mod costs;
mod draw;
#[allow(dead_code, reason = "shared with tests/real_qemu, which looks for all versions")]
#[path = "../../../tests/qemu/found.rs"]
mod found;
mod link;
mod machine;
mod migrations;
mod packets;
mod pauses;
#[allow(dead_code, reason = "shared with tests/real_qemu, which uses all of it")]
#[path = "../../../tests/real_qemu/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with tests/real_qemu, which uses all of it")]
#[path = "../../../tests/real_qemu/qmp.rs"]
mod qmp;
mod rests;

use std::path::PathBuf;

/// The landfall under measurement: a release build, if the variable names one.
fn landfall() -> PathBuf {
    std::env::var_os("LANDFALL_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_landfall")), PathBuf::from)
}
