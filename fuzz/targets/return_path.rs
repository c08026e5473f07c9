//! cargo-fuzz target of the body `return_path`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("return_path", bytes));
