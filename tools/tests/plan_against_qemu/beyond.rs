//! How far a source goes beyond `max-bandwidth`: what it counted in each stretch of 100 ms, by its own
//! trace, over loopback and over links.

use landfall_bench::forecast::{HEADER_BYTES, PACKET_PAGES, PAGE_BYTES};

use crate::machine::{Host, Measured, Migration, network, traced};
use crate::migrations::calibration;

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn what_goes_beyond_max_bandwidth() {
    let host = Host::new();
    let shapes = ZERO_PERCENTS.map(|zero| CHANNELS.map(|channels| (zero, channels)));
    let shapes: Vec<_> = shapes.into_iter().flatten().collect();
    let mut all = vec![[const { Vec::new() }; NETWORKS.len()]; shapes.len()];
    // In turn, so that what the machine does meanwhile falls on all shapes.
    for _ in 0..TURNS {
        for (&(zero_percent, channels), networks) in shapes.iter().zip(&mut all) {
            for (link_gbit, found) in NETWORKS.iter().zip(networks) {
                let migration = Migration {
                    ram_mib: 512,
                    zero_percent,
                    channels,
                    max_bandwidth_mib: MAX_BANDWIDTH_MIB,
                    ..calibration(*link_gbit)
                };
                found.extend(packets_under_way(&host.make(&migration)));
            }
        }
    }
    let names = NETWORKS.map(network).join(" | ");
    println!("| channels | zero pages | {names} |\n|---|---|---|---|---|");
    for ((zero_percent, channels), networks) in shapes.iter().zip(&all) {
        let cells: Vec<_> = networks.iter().map(|found| average(found)).collect();
        let text = |&(mean, deviation): &(f64, f64)| format!("{mean:.2} ± {deviation:.2}");
        let texts: Vec<_> = cells.iter().map(text).collect();
        println!("| {channels} | {zero_percent} % | {} |", texts.join(" | "));
        for (mean, _) in cells {
            assert!((0.0..f64::from(*channels) + 0.5).contains(&mean), "{mean} packets under way");
        }
    }
}

/// In each stretch of the first pass, beyond the packet that reached the limit. The first stretch has
/// the start of the migration in it, the last is not whole.
fn packets_under_way(run: &Measured) -> Vec<f64> {
    let (first_pass, _) = run.trace.split_once("migrate_pending_exact").expect("a first pass");
    let counted: Vec<f64> = first_pass
        .lines()
        .filter(|line| line.contains("migrate_transferred"))
        .map(|line| traced(line, " transferred ") / traced(line, " time_spent ") * STRETCH_MS)
        .collect();
    let normal_bytes = (1.0 - run.zero_share) * (PACKET_PAGES * PAGE_BYTES) as f64;
    let packet_bytes = normal_bytes + HEADER_BYTES as f64;
    let limit = (MAX_BANDWIDTH_MIB << 20) as f64 / 1e3 * STRETCH_MS / packet_bytes;
    // Packets that are alike reach it at one place, others anywhere.
    let reaching = if run.zero_share < 0.01 { limit.ceil() - limit } else { 0.5 };
    let whole = counted.get(1..counted.len() - 1).expect("a few stretches");
    whole.iter().map(|bytes| bytes / packet_bytes - limit - reaching).collect()
}

/// And the deviation.
fn average(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    (mean, (squares.sum::<f64>() / values.len() as f64).sqrt())
}

const CHANNELS: [u8; 6] = [2, 3, 4, 8, 16, 32];
const ZERO_PERCENTS: [u8; 2] = [0, 60];
/// Those that pass more than the limit.
const NETWORKS: [Option<u64>; 3] = [None, Some(3), Some(6)];
const MAX_BANDWIDTH_MIB: u64 = 120;
const STRETCH_MS: f64 = 100.0;
const TURNS: usize = 3;
