//! cargo-fuzz target of the body `tls_priority`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("tls_priority", bytes));
