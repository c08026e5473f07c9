//! cargo-fuzz target of the body `pem_files`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("pem_files", bytes));
