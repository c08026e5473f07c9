//! What `max-bandwidth` costs the destination: the same migrations with it and without, of a source
//! that sends so much at once and then nothing until a stretch of 100 ms is over.

use landfall_bench::compare::median;

use crate::machine::{Host, Measured, Migration, Writes, network};
use crate::migrations::calibration;

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn what_a_rest_costs() {
    let host = Host::new();
    let mut all = vec![[Vec::new(), Vec::new()]; SHAPES.len()];
    // In turn, so that what the machine does meanwhile falls on all shapes.
    for _ in 0..TURNS {
        for (shape, both) in SHAPES.iter().zip(&mut all) {
            for (migration, runs) in shape.both().iter().zip(both) {
                let run = host.make(migration);
                runs.push((run.cpu_s(), stretches(&run)));
            }
        }
    }
    println!(
        "| channels | network | max-bandwidth | CPU without, s | CPU with, s | stretches | CPU of a rest, ms |\n|---|---|---|---|---|---|---|"
    );
    let mut rests_ms = Vec::new();
    for (shape, [free, held]) in SHAPES.iter().zip(&all) {
        let cpu_s = |runs: &[(f64, f64)]| median(runs.iter().map(|(cpu_s, _)| *cpu_s));
        let stretches = median(held.iter().map(|(_, stretches)| *stretches));
        let rest_ms = (cpu_s(held) - cpu_s(free)) / stretches * 1e3;
        println!(
            "| {} | {} | {} MiB/s | {:.3} | {:.3} | {stretches:.0} | {rest_ms:.2} |",
            shape.channels,
            network(shape.link_gbit),
            shape.max_bandwidth_mib,
            cpu_s(free),
            cpu_s(held),
        );
        rests_ms.push(rest_ms);
    }
    let rest_ms = median(rests_ms.into_iter());
    println!("the median of all: {rest_ms:.2} ms");
    assert!((0.0..10.0).contains(&rest_ms), "{rest_ms} ms");
}

/// Stretches of 100 ms in which pages came.
fn stretches(run: &Measured) -> f64 {
    let ms = run.source["total-time"].as_f64().expect("a time of the source");
    ms / 100.0
}

struct Shape {
    channels: u8,
    link_gbit: Option<u64>,
    max_bandwidth_mib: u64,
}

impl Shape {
    fn both(&self) -> [Migration; 2] {
        let Self { channels, link_gbit, max_bandwidth_mib } = *self;
        // A guest that runs, though it writes hardly anything.
        let writes = Some(Writes { mib_per_second: 1, working_set_mib: 16 });
        let free = Migration { channels, writes, ..calibration(link_gbit) };
        [free, Migration { max_bandwidth_mib, ..free }]
    }
}

#[rustfmt::skip]
const SHAPES: [Shape; 6] = [
    Shape { channels: 2, link_gbit: None, max_bandwidth_mib: 120 },
    Shape { channels: 4, link_gbit: None, max_bandwidth_mib: 120 },
    Shape { channels: 8, link_gbit: None, max_bandwidth_mib: 120 },
    Shape { channels: 2, link_gbit: None, max_bandwidth_mib: 250 },
    Shape { channels: 2, link_gbit: Some(3), max_bandwidth_mib: 120 },
    Shape { channels: 8, link_gbit: Some(3), max_bandwidth_mib: 120 },
];
const TURNS: usize = 6;
