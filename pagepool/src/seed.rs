//! Random test input that can be replayed.

/// A small generator (splitmix64, Steele, Lea and Flood 2014) whose seed is printed, and taken from
/// `LANDFALL_SEED` where that is set.
pub(crate) struct Random(u64);

impl Random {
    /// A generator for the test named; prints the seed that replays it.
    pub(crate) fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("LANDFALL_SEED") {
            Ok(text) => text.parse().expect("LANDFALL_SEED is a number"),
            Err(_) => {
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::UNIX_EPOCH).expect("clock");
                since.as_nanos() as u64
            }
        };
        println!("{test}: replay with LANDFALL_SEED={seed}");
        Self(seed)
    }

    /// The next 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
