//! Random test input that can be replayed.

use fastrand::Rng;

/// Random numbers for the test named. Prints the seed that replays it, and takes it from
/// `LANDFALL_SEED` where that is set.
pub(crate) fn random(test: &str) -> Rng {
    let seed = match std::env::var("LANDFALL_SEED") {
        Ok(text) => text.parse().expect("LANDFALL_SEED is a number"),
        Err(_) => {
            let now = std::time::SystemTime::now();
            let since = now.duration_since(std::time::UNIX_EPOCH).expect("clock");
            since.as_nanos() as u64
        }
    };
    println!("{test}: replay with LANDFALL_SEED={seed}");
    Rng::with_seed(seed)
}
