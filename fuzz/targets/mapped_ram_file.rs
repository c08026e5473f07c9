//! cargo-fuzz target of the body `mapped_ram_file`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("mapped_ram_file", bytes));
