//! cargo-fuzz target of the body `compressed_packets`.
#![no_main]

use landfall_tools::fuzzing::run;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run("compressed_packets", bytes));
