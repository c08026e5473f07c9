//! Which migrations are forecast and made: ten out of many, drawn by a random generator, so that
//! nobody picks those that suit the model.

use fastrand::Rng;

use crate::machine::{Migration, Writes};

/// The networks, Gbit/s; loopback as it is the first.
pub(crate) const NETWORKS: [Option<u64>; 4] = [None, Some(1), Some(3), Some(6)];

/// The ten of a seed, over one network after the other.
pub(crate) fn ten(seed: u64) -> [Migration; 10] {
    let mut random = Rng::with_seed(seed);
    std::array::from_fn(|index| one(&mut random, NETWORKS[index % NETWORKS.len()]))
}

/// One that its network or `max-bandwidth` holds back. One guest of five is stopped; the others write
/// so little, a quarter of what the network passes at most, that it ends.
fn one(random: &mut Rng, link_gbit: Option<u64>) -> Migration {
    let ram_mib = of(random, &[512, 768, 1024, 1536, 2048]);
    let limits: &[u64] =
        if link_gbit.is_some() { &[0, 0, 120, 160, 250] } else { &[120, 160, 250] };
    let max_bandwidth_mib = of(random, limits);
    let link_mib = link_gbit.map(|gbit| (gbit * 1_000_000_000 / 8) >> 20);
    let limit_mib = Some(max_bandwidth_mib).filter(|mib| *mib > 0);
    let slowest_mib = link_mib.into_iter().chain(limit_mib).min().expect("one of them");
    let below = |all: &[u64], most: u64| -> Vec<u64> {
        all.iter().copied().filter(|value| *value <= most).collect()
    };
    let writes = Writes {
        mib_per_second: of(random, &below(&[10, 20, 30, 50, 60, 90], slowest_mib / 4)),
        working_set_mib: of(random, &below(&[48, 96, 160, 512], ram_mib / 2)),
    };
    Migration {
        ram_mib,
        zero_percent: of(random, &[0, 20, 60]),
        channels: of(random, &[2, 3, 4, 8]),
        writes: (random.u8(..5) > 0).then_some(writes),
        max_bandwidth_mib,
        link_gbit,
        downtime_limit_ms: of(random, &[100, 150, 200, 400]),
    }
}

fn of<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}
