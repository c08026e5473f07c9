//! All bodies for fuzzers: functions that take any bytes and panic where something is wrong.
//!
//! Each stands beside the code that it is about. This is the list of them: the tests here run each
//! on changed inputs, and see to it that `fuzz/` has a target for each (docs/testing.md).

mod command_line;

pub use self::command_line::{command_line, command_line_seeds};
pub use crate::verify::fuzzing::{run_json, run_json_seeds};

use landfall_qmp::fuzzing as qmp;
use landfall_receiver::fuzzing as receiver;
use landfall_receiver::{main_stream::fuzzing as main_stream, wire::fuzzing as wire};

/// One body.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Its name, and that of its target in `fuzz/`.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
    /// Inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every body there is.
pub const BODIES: [Body; 17] = [
    body("addresses", receiver::addresses, receiver::addresses_seeds),
    body("certificate_names", receiver::certificate_names, receiver::certificate_names_seeds),
    body("command_line", command_line, command_line_seeds),
    body("compressed_packets", receiver::compressed_packets, receiver::compressed_packets_seeds),
    body("description", receiver::description, receiver::description_seeds),
    body("main_stream", main_stream::main_stream, main_stream::main_stream_seeds),
    body("mapped_ram_file", main_stream::mapped_ram_file, main_stream::mapped_ram_file_seeds),
    body("monitor_address", qmp::monitor_address, qmp::monitor_address_seeds),
    body("packet_sequence", receiver::packet_sequence, receiver::packet_sequence_seeds),
    body("packets", wire::packets, wire::packets_seeds),
    body("pem_files", receiver::pem_files, receiver::pem_files_seeds),
    body("qmp_input", qmp::input, qmp::input_seeds),
    body("ram_records", receiver::ram_records, receiver::ram_records_seeds),
    body("return_path", wire::return_path, wire::return_path_seeds),
    body("run_json", run_json, run_json_seeds),
    body("tls_priority", receiver::tls_priority, receiver::tls_priority_seeds),
    body("tls_records", receiver::tls_records, receiver::tls_records_seeds),
];

/// Runs the body of that name.
///
/// # Panics
///
/// If there is none, and where the body finds something wrong.
pub fn run(name: &str, bytes: &[u8]) {
    let body = BODIES.iter().find(|body| body.name == name).expect("a body of that name");
    (body.run)(bytes);
}

const fn body(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Body {
    Body { name, run, seeds }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::catch_unwind;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use fastrand::Rng;

    use super::*;
    use wire::mutate;

    #[test]
    fn every_body_accepts_the_inputs_to_begin_from() {
        for body in BODIES {
            for (index, seed) in (body.seeds)().iter().enumerate() {
                assert!(catch_unwind(|| (body.run)(seed)).is_ok(), "{} {index}", body.name);
            }
        }
    }

    #[test]
    fn changed_inputs_pass_every_oracle() {
        let given = landfall_seed::given();
        let first = landfall_seed::any();
        let mut failed = Vec::new();
        for body in BODIES.into_iter().filter(is_asked_for) {
            let seeds = (body.seeds)();
            let end = Instant::now() + time_of_each();
            let mut count = 0u64;
            while count == 0 || (given.is_none() && Instant::now() < end) {
                let seed = first.wrapping_add(count);
                let bytes = changed(&seeds, seed);
                if catch_unwind(|| (body.run)(&bytes)).is_err() {
                    let bytes = bytes.escape_ascii();
                    failed.push(format!("LANDFALL_SEED={seed}: {} at {bytes}", body.name));
                    break;
                }
                count += 1;
            }
            println!("{}: {count} inputs from LANDFALL_SEED={first}", body.name);
        }
        assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    }

    #[test]
    fn every_body_has_a_target_and_every_target_a_body() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let named: Vec<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
            .collect();
        let mut files: Vec<String> = fs::read_dir(fuzz.join("targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(named, BODIES.map(|body| body.name));
        assert_eq!(files, named);
        for name in named {
            let target = fs::read_to_string(fuzz.join(format!("targets/{name}.rs"))).unwrap();
            let line = format!("fuzz_target!(|bytes: &[u8]| run(\"{name}\", bytes));");
            assert!(target.contains(&line), "{target}");
        }
    }

    /// An input to begin from, or two of them in a row, changed a little.
    fn changed(seeds: &[Vec<u8>], seed: u64) -> Vec<u8> {
        // Forked: seeds side by side begin alike.
        let mut random = Rng::with_seed(seed).fork();
        let mut bytes = seeds[random.usize(..seeds.len())].clone();
        if random.usize(..4) == 0 {
            bytes.extend(&seeds[random.usize(..seeds.len())]);
        }
        mutate(&mut random, &mut bytes);
        bytes
    }

    /// `LANDFALL_FUZZ_BODIES` names those to run, in place of all.
    fn is_asked_for(body: &Body) -> bool {
        std::env::var("LANDFALL_FUZZ_BODIES")
            .map_or(true, |names| names.split(',').any(|name| name == body.name))
    }

    /// `LANDFALL_FUZZ_SECS` for longer.
    fn time_of_each() -> Duration {
        let secs = std::env::var("LANDFALL_FUZZ_SECS").map(|text| text.parse().unwrap());
        secs.map_or(Duration::from_millis(500), Duration::from_secs)
    }
}
