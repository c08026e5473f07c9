//! Ten migrations that the model was not fitted to, forecast from the reports of other runs.

use std::path::PathBuf;

use landfall_bench::compare::median;
use landfall_bench::forecast::{
    Calibration, DirtyTracking, Guest, Network, Outcomes, Question, SourceSettings, Spread,
    forecast,
};
use landfall_receiver::receiver::READERS_DEFAULT_MAX;

use crate::draw::{NETWORKS, ten};
use crate::machine::{Host, Measured, Migration, network};

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn ten_migrations_take_as_long_as_forecast() {
    let host = Host::new();
    let kept = std::env::var_os("LANDFALL_PLAN_RUNS").map(PathBuf::from);
    if let Some(folder) = &kept {
        std::fs::create_dir_all(folder).expect("a place for the runs");
    }
    let run = |name: &str, migration: &Migration| {
        let kept = kept.as_ref().map(|folder| folder.join(name).with_extension("json"));
        if let Some(measured) = kept.as_ref().and_then(|path| Measured::read(path)) {
            return measured;
        }
        let measured = host.make(migration);
        if let Some(path) = kept {
            measured.keep(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        measured
    };
    let mut calibrations: [Vec<Calibration>; NETWORKS.len()] = Default::default();
    let seed = landfall_seed::given().unwrap_or(SEED);
    let migrations = ten(seed);
    let mut all: [Vec<Measured>; 10] = Default::default();
    for pass in 0..passes() {
        for (index, link_gbit) in NETWORKS.iter().enumerate() {
            let measured = run(&format!("calibration-{index}-{pass}"), &calibration(*link_gbit));
            calibrations[index].push(measured.calibration());
        }
        for (index, migration) in migrations.iter().enumerate() {
            all[index].push(run(&format!("run-{seed}-{}-{pass}", index + 1), migration));
        }
    }
    println!(
        "| guest | writes | network | total, s | rounds | pause, ms | CPU, s | bursts/s |\n|---|---|---|---|---|---|---|---|"
    );
    let mut outside = Vec::new();
    for (index, (migration, runs)) in migrations.iter().zip(&all).enumerate() {
        let zero_share = Spread::of(runs.iter().map(|run| run.zero_share)).mean;
        let question = migration.question(zero_share);
        let network = NETWORKS.iter().position(|link_gbit| *link_gbit == migration.link_gbit);
        let costs = Calibration::costs(&calibrations[network.expect("one of them")], &question);
        let answer = forecast(&question, &costs);
        let Outcomes { total_s, rounds, pause_s } = answer.outcomes.expect("all of them end");
        let figures = |name: &str| -> Vec<f64> {
            let figure =
                |run: &Measured| run.source[name].as_f64().expect("a figure of the source");
            runs.iter().map(figure).collect()
        };
        let syncs = |run: &Measured| run.source["ram"]["dirty-sync-count"].as_f64();
        let measured_rounds = runs.iter().map(|run| syncs(run).expect("a count") - 1.0).collect();
        let cpu_s = answer.destination.cpu_s;
        let triples = [
            ("total", scaled(total_s, 1.0), in_units(figures("total-time"), 1e-3)),
            ("rounds", scaled(rounds, 1.0), in_units(measured_rounds, 1.0)),
            ("pause", scaled(pause_s, 1e3), in_units(figures("downtime"), 1.0)),
            ("CPU", Spread::of([cpu_s].into_iter()), middle(runs.iter().map(Measured::cpu_s))),
        ];
        print_row(migration, &triples, runs);
        for (what, predicted, found) in triples {
            let error = predicted.mean / found.mean - 1.0;
            if error.abs() > ALLOWED {
                outside.push(format!("{}: {what} {:+.0} %", index + 1, error * 100.0));
            }
        }
    }
    println!("outside of 15 %: {outside:?}");
    let totals: Vec<_> = outside.iter().filter(|text| text.contains("total")).collect();
    assert!(totals.is_empty(), "{totals:?}");
}

/// How often each is made, in turn.
fn passes() -> usize {
    std::env::var("LANDFALL_PLAN_PASSES").map_or(5, |text| text.parse().expect("a number"))
}

fn scaled(spread: Spread, by: f64) -> Spread {
    Spread { mean: spread.mean * by, least: spread.least * by, most: spread.most * by }
}

/// Of a figure that chance has no part in, but now and then the machine: the median.
fn middle(values: impl Iterator<Item = f64> + Clone) -> Spread {
    Spread { mean: median(values.clone()), ..Spread::of(values) }
}

fn in_units(values: Vec<f64>, unit: f64) -> Spread {
    Spread::of(values.into_iter().map(|value| value * unit))
}

fn print_row(migration: &Migration, triples: &[(&str, Spread, Spread)], runs: &[Measured]) {
    let Migration { ram_mib, zero_percent, channels, writes, max_bandwidth_mib, .. } = migration;
    let writes = writes.map_or("stopped".to_owned(), |writes| {
        format!("{} MiB/s in {} MiB", writes.mib_per_second, writes.working_set_mib)
    });
    let mut network = network(migration.link_gbit);
    if *max_bandwidth_mib > 0 {
        network += &format!(", max-bandwidth {max_bandwidth_mib} MiB/s");
    }
    let cell = |(what, predicted, found): &(&str, Spread, Spread)| {
        let digits = match *what {
            "total" | "CPU" => 2,
            "rounds" => 1,
            _ => 0,
        };
        let text = |spread: &Spread| {
            let Spread { mean, least, most } = spread;
            format!("{mean:.digits$} ({least:.digits$} to {most:.digits$})")
        };
        let error = (predicted.mean / found.mean - 1.0) * 100.0;
        format!("{} / {}, {error:+.0} %", text(predicted), text(found))
    };
    let figures: Vec<_> = triples.iter().map(cell).collect();
    let bursts = Spread::of(runs.iter().map(|run| run.bursts_per_second));
    println!(
        "| {ram_mib} MiB, {zero_percent} % zero, {channels} channels | {writes} | {network}, {} ms | {} | {:.0} |",
        migration.downtime_limit_ms,
        figures.join(" | "),
        bursts.mean,
    );
}

impl Migration {
    pub(crate) fn question(&self, zero_share: f64) -> Question {
        let ram_bytes = self.ram_mib << 20;
        let mib = |mib: u64| mib << 20;
        Question {
            guest: Guest {
                ram_bytes,
                zero_share,
                dirty_bytes_per_second: mib(self.writes.map_or(0, |w| w.mib_per_second)) as f64,
                working_set_bytes: self.writes.map_or(ram_bytes, |w| mib(w.working_set_mib)),
            },
            source: SourceSettings {
                downtime_limit_s: self.downtime_limit_ms as f64 / 1e3,
                max_bandwidth: mib(self.max_bandwidth_mib),
                channels: self.channels,
                tracking: DirtyTracking::AtSync,
            },
            network: Network {
                // Loopback has no rate of its own: what it takes is in the calibration.
                link_bits_per_second: self.link_gbit.map_or(1e13, |gbit| gbit as f64 * 1e9),
                mtu: 65535,
            },
            readers: self.channels.min(READERS_DEFAULT_MAX as u8),
        }
    }
}

/// What the forecasts for a network know, one run in each pass: full speed, nothing written.
pub(crate) const fn calibration(link_gbit: Option<u64>) -> Migration {
    Migration {
        ram_mib: 1024,
        zero_percent: 30,
        channels: 2,
        writes: None,
        max_bandwidth_mib: 0,
        link_gbit,
        downtime_limit_ms: 300,
    }
}

/// The draw of docs/scaling.md; `LANDFALL_SEED` makes another ten.
const SEED: u64 = 20_261_204;
/// The error that a forecast may have.
const ALLOWED: f64 = 0.15;
