//! cargo-fuzz target of the body `monitor_address`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("monitor_address", bytes));
