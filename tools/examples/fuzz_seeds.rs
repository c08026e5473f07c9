//! Writes every fuzz body's inputs to begin from into folders for cargo-fuzz, one for each body:
//! `cargo run -p landfall-tools --example fuzz_seeds -- fuzz/corpus`.

use std::path::PathBuf;
use std::{env, fs, io};

use landfall_tools::fuzzing::BODIES;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map_or_else(|| "fuzz/corpus".into(), PathBuf::from);
    for body in BODIES {
        let folder = folder.join(body.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (body.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
