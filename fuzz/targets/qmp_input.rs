//! cargo-fuzz target of the body `qmp_input`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("qmp_input", bytes));
