//! The seed of a test's random input: another one for each run, printed, so that a failure can be
//! replayed with `LANDFALL_SEED`.

use fastrand::Rng;

/// The seed that the environment variable `LANDFALL_SEED` gives, if it is set.
///
/// # Panics
/// If it is set to something else than a number of 64 bits.
#[must_use]
pub fn given() -> Option<u64> {
    let text = std::env::var("LANDFALL_SEED").ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("LANDFALL_SEED={text} is no number")))
}

/// The seed that is given, or any.
#[must_use]
pub fn any() -> u64 {
    given().unwrap_or_else(|| Rng::new().get_seed())
}

/// [`any`], printed as it is to be given again.
#[must_use]
pub fn printed() -> u64 {
    let seed = any();
    println!("LANDFALL_SEED={seed}");
    seed
}

/// Random numbers from [`printed`].
#[must_use]
pub fn random() -> Rng {
    Rng::with_seed(printed())
}
