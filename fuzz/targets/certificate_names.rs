//! cargo-fuzz target of the body `certificate_names`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("certificate_names", bytes));
