//! `landfall compare`: the same migration into the bare ceiling, QEMU and landfall.

use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use landfall_bench::compare::{
    Comparison, Contender, Cost, Outcome, Ratio, SCENARIOS, Scenario, Series, compare, run_ceiling,
};
use landfall_bench::recording::{ChannelKind, RecordedChannel, Recording};
use serde_json::{Value, json};

use crate::cli::{CeilingArguments, CompareArguments};
use crate::exit::{Exit, Failure};

/// Compares, scenario by scenario.
pub(crate) fn run(arguments: &CompareArguments, quiet: bool) -> Result<Exit, Failure> {
    if arguments.list {
        for scenario in SCENARIOS {
            println!("{:<16}{}", scenario.name, scenario.about);
        }
        return Ok(Exit::Ok);
    }
    let landfall = std::env::current_exe().map_err(Failure::host)?;
    let scratch = arguments.scratch.join(format!("landfall-compare-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)
        .map_err(|error| Failure::host(format!("{}: {error}", scratch.display())))?;
    let scratch = Scratch(scratch);
    let mut results = Vec::new();
    for scenario in scenarios(arguments)? {
        if scenario.is_tls && arguments.tls_creds.is_none() {
            return Err(Failure::usage("the scenario tls needs certificates: --tls-creds DIR"));
        }
        let comparison = Comparison {
            scenario,
            ram_bytes: arguments.ram.next_multiple_of(RAM_STEP),
            pairs: arguments.pairs,
            landfall: landfall.clone(),
            qemu: arguments.qemu.clone(),
            recording: arguments.recording.clone(),
            tls_creds: arguments.tls_creds.clone(),
            scratch: scratch.0.clone(),
        };
        let mut tell = |contender: Contender, cost: &Cost| {
            if !quiet {
                eprintln!("{contender:<25}{:7.3} s, {:7.3} CPU-s", cost.wall_s, cost.cpu_s);
            }
        };
        let outcome = compare(&comparison, &mut tell).map_err(Failure::host)?;
        let text = format!("{}\n{}", heading(&comparison), table(&outcome).trim_fmt());
        if arguments.json.as_deref() == Some(Path::new("-")) {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
        results.push(json_of(&comparison, &outcome));
    }
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", Value::from(results));
        if path == Path::new("-") {
            print!("{text}");
        } else {
            std::fs::write(path, text)
                .map_err(|error| Failure::host(format!("{}: {error}", path.display())))?;
        }
    }
    Ok(Exit::Ok)
}

/// The child of a comparison that looks at nothing.
pub(crate) fn ceiling(arguments: &CeilingArguments) -> Result<Exit, Failure> {
    let CeilingArguments { kind, channels, readers, ram } = arguments;
    run_ceiling(kind, *channels, *readers, *ram).map_err(|error| {
        let mib = ram.next_multiple_of(RAM_STEP) >> 20;
        Failure::host(format!("{error}: {mib} MiB of 2 MiB pages are needed (vm.nr_hugepages)"))
    })?;
    Ok(Exit::Ok)
}

/// A directory for as long as the comparison lasts.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scenarios(arguments: &CompareArguments) -> Result<Vec<Scenario>, Failure> {
    if let Some(directory) = &arguments.recording {
        let recording = Recording::open(directory).map_err(Failure::usage)?;
        let is_channel = |channel: &&RecordedChannel| channel.kind == ChannelKind::Multifd;
        let channels = recording.channels().iter().filter(is_channel).count();
        let channels = u8::try_from(channels).map_err(Failure::usage)?;
        return Ok(vec![Scenario::recorded(channels)]);
    }
    let asked = &arguments.scenario;
    let asked = if asked.is_empty() { vec![&SCENARIOS[0]] } else { asked.clone() };
    let channels = |scenario: &Scenario| arguments.channels.unwrap_or(scenario.channels);
    let asked = asked.into_iter();
    Ok(asked.map(|one| Scenario { channels: channels(one), ..one.clone() }).collect())
}

fn heading(comparison: &Comparison) -> String {
    let Comparison { scenario, ram_bytes, pairs, qemu, .. } = comparison;
    let source = qemu.as_ref().map_or_else(
        || "the synthetic source".to_owned(),
        |program| format!("source {}", program.display()),
    );
    format!(
        "{}: {}; {} channels, {:.2} GiB, {pairs} runs each, {source}",
        scenario.name,
        scenario.about,
        scenario.channels,
        *ram_bytes as f64 / GIB
    )
}

fn table(outcome: &Outcome) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header([
        "destination",
        "wall s",
        "CPU-s/GiB",
        "user",
        "system",
        "with start-up",
        "source",
        "landfall \u{f7} it, CPU",
        "with start-up",
        "wall",
    ]);
    for column in 1..=6 {
        let column = table.column_mut(column).expect("there are ten");
        column.set_cell_alignment(CellAlignment::Right);
    }
    let gib = outcome.ram_gib;
    for series in &outcome.series {
        let per_gib = |figure: &dyn Fn(&Cost) -> f64| format!("{:.4}", series.median(figure) / gib);
        let mut row = vec![
            series.contender.to_string(),
            format!("{:.3}", series.median(|cost| cost.wall_s)),
            per_gib(&|cost| cost.cpu_s),
            per_gib(&|cost| cost.user_s),
            per_gib(&|cost| cost.system_s),
            per_gib(&whole),
            per_gib(&|cost| cost.source_s),
        ];
        if let Some(ours) = ours(outcome).filter(|_| !series.contender.is_landfall()) {
            row.extend(FIGURES.map(|(_, figure)| ratio(ours, series, figure).to_string()));
        }
        table.add_row(row);
    }
    table
}

/// The series of landfall that others are held against.
fn ours(outcome: &Outcome) -> Option<&Series> {
    outcome.series.iter().find(|series| series.contender.is_landfall())
}

fn whole(cost: &Cost) -> f64 {
    cost.cpu_s + cost.startup_s
}

/// A figure of a run.
type Figure = fn(&Cost) -> f64;

fn ratio(ours: &Series, theirs: &Series, figure: Figure) -> Ratio {
    Ratio::of(ours.costs.iter().map(figure), theirs.costs.iter().map(figure))
}

fn json_of(comparison: &Comparison, outcome: &Outcome) -> Value {
    let run = |cost: &Cost| {
        json!({
            "wall-s": cost.wall_s,
            "cpu-s": cost.cpu_s,
            "user-s": cost.user_s,
            "system-s": cost.system_s,
            "startup-cpu-s": cost.startup_s,
            "source-cpu-s": cost.source_s,
        })
    };
    let against = |series: &Series| -> Value {
        let Some(ours) = ours(outcome).filter(|_| !series.contender.is_landfall()) else {
            return Value::Null;
        };
        FIGURES
            .iter()
            .map(|&(name, figure)| {
                let ratio = ratio(ours, series, figure);
                let (median, interval) = (ratio.median(), ratio.interval());
                (name.to_owned(), json!({ "median": median, "interval-95": interval }))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let contenders: Vec<Value> = outcome
        .series
        .iter()
        .map(|series| {
            json!({
                "name": series.contender.to_string(),
                "prefaulted-hugepages": series.contender.is_prefaulted(),
                "runs": series.costs.iter().map(run).collect::<Vec<_>>(),
                "landfall-divided-by-it": against(series),
            })
        })
        .collect();
    json!({
        "scenario": comparison.scenario.name,
        "channels": comparison.scenario.channels,
        "readers": comparison.scenario.readers,
        "ram-bytes": comparison.ram_bytes,
        "qemu": comparison.qemu,
        "contenders": contenders,
    })
}

/// What landfall is held against others by.
const FIGURES: [(&str, Figure); 3] =
    [("cpu", |cost| cost.cpu_s), ("cpu-with-startup", whole), ("wall", |cost| cost.wall_s)];

/// Guest RAM is whole hugepages.
const RAM_STEP: u64 = 2 << 20;
const GIB: f64 = (1u64 << 30) as f64;
