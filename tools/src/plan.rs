//! `landfall plan`: what a migration would take.

mod json;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::BinaryBytes;
use landfall_bench::forecast::{
    Calibration, Costs, DirtyTracking, Forecast, Guest, Limit, Network, PAGE_BYTES, Question,
    SourceSettings, Spread, TakenFor, forecast,
};
use landfall_receiver::receiver::READERS_DEFAULT_MAX;
use serde_json::Value;

use crate::cli::{Accelerator, PlanArguments};
use crate::exit::{Exit, Failure};
use crate::{output_paths, standard_error, standard_output};

/// Answers.
pub(crate) fn run(arguments: &PlanArguments, quiet: bool) -> Result<Exit, Failure> {
    let question = question(arguments);
    question.check().map_err(Failure::usage)?;
    arguments.json.iter().try_for_each(|path| output_paths::check_file(path))?;
    let calibrations =
        arguments.calibration.iter().map(calibration).collect::<Result<Vec<_>, Failure>>()?;
    let cases = cases(&question, &calibrations);
    if !quiet {
        let text = text(&question, &calibrations, &cases);
        if standard_output::is_named(arguments.json.as_deref()) {
            standard_error::line(text.trim_end());
        } else {
            standard_output::line(text.trim_end())?;
        }
    }
    if let Some(path) = &arguments.json {
        write_json(path, &json::json_of(&question, arguments, &calibrations, &cases))?;
    }
    let ends = cases.iter().all(|case| case.forecast.pause.is_some());
    Ok(if ends { Exit::Ok } else { Exit::Failed })
}

fn question(arguments: &PlanArguments) -> Question {
    Question {
        guest: Guest {
            ram_bytes: arguments.ram,
            zero_share: f64::from(arguments.zero) / 100.0,
            dirty_bytes_per_second: arguments.dirty_rate as f64,
            working_set_bytes: arguments.working_set.unwrap_or(arguments.ram),
        },
        source: SourceSettings {
            downtime_limit_s: arguments.downtime_limit as f64 / 1e3,
            max_bandwidth: arguments.max_bandwidth,
            channels: arguments.channels,
            tracking: match arguments.accel {
                Accelerator::Kvm => DirtyTracking::BeforeSending,
                Accelerator::Tcg => DirtyTracking::AtSync,
            },
        },
        network: Network { link_bits_per_second: arguments.link as f64, mtu: arguments.mtu },
        readers: arguments.readers.unwrap_or(arguments.channels.min(READERS_DEFAULT_MAX as u8)),
    }
}

fn calibration(path: &PathBuf) -> Result<Calibration, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("--calibration {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    Calibration::read(&text).map_err(|error| failed(&error))
}

/// One set of costs, and where it leads.
struct Case {
    name: &'static str,
    costs: Costs,
    forecast: Forecast,
}

/// One where the costs are measured, else the two ends of the range.
fn cases(question: &Question, calibrations: &[Calibration]) -> Vec<Case> {
    let case = |name, costs: Costs| Case { name, costs, forecast: forecast(question, &costs) };
    if calibrations.is_empty() {
        let channels = question.source.channels;
        vec![
            case("low cost", Costs::assumed_low(channels)),
            case("high cost", Costs::assumed_high(channels)),
        ]
    } else {
        vec![case("calibrated", Calibration::costs(calibrations, question))]
    }
}

fn text(question: &Question, calibrations: &[Calibration], cases: &[Case]) -> String {
    let mut text = summary(cases).trim_fmt();
    text.push('\n');
    for case in cases {
        let _ =
            writeln!(text, "\n{}, round by round, with a pause near the expected one:", case.name);
        let _ = writeln!(text, "{}", rounds(&case.forecast).trim_fmt());
        if let Some(remedy) = remedy(case) {
            let _ = writeln!(text, "{remedy}");
        }
    }
    let payload = question.network.payload_bytes_per_second();
    let _ = writeln!(
        text,
        "\nThe link leaves {} a second for pages, with IP packets of {} bytes. A round ends where \
         what is left\ncan go within downtime-limit; the guest is stopped if that still holds once \
         its writes are known.",
        BinaryBytes(payload as u64),
        question.network.mtu,
    );
    if calibrations.is_empty() {
        text.push_str(
            "No calibration: low cost is what was measured over loopback, high cost allows for a \
             network card\nand a slow source (docs/scaling.md). The report of a run over your own \
             card narrows it: --calibration.\n",
        );
    }
    for calibration in calibrations {
        text.push_str(&story(question, &calibration.taken_for));
    }
    text
}

/// What a calibration speaks for.
fn story(question: &Question, run: &TakenFor) -> String {
    let mut text = format!(
        "Calibrated by a run of {} over {} channels from {} ({}), {} readers on {}, {} pages, \
         compression {}{}:\n{} a second, readers {:.0} % busy.",
        BinaryBytes(run.ram_bytes),
        run.channels,
        run.peer,
        run.machine,
        run.readers,
        run.cpu_model,
        run.backend,
        run.compression,
        run.tls.as_ref().map(|version| format!(", {version}")).unwrap_or_default(),
        BinaryBytes(run.bytes_per_second as u64),
        run.readers_busy * 100.0,
    );
    if run.channels != usize::from(question.source.channels) {
        let _ = write!(
            text,
            " It had another number of channels: how fast {} of them are it does not tell.",
            question.source.channels
        );
    }
    if run.is_held_back_by(&question.network) {
        text.push_str(" The link held it back: how fast the source is it does not tell.");
    }
    if run.peer.starts_with("127.") || run.peer.starts_with("unix") || run.peer.contains("::1") {
        text.push_str(" It was taken on one host: a card costs more.");
    }
    text.push('\n');
    text
}

fn summary(cases: &[Case]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    if cases.len() > 1 {
        let names = cases.iter().map(|case| case.name.to_owned());
        table.add_row([String::new()].into_iter().chain(names));
    }
    let mut row = |name: &str, value: &dyn Fn(&Case) -> String| {
        table.add_row([name.to_owned()].into_iter().chain(cases.iter().map(value)));
    };
    row("total time", &|case| match &case.forecast.outcomes {
        Some(all) => spread(&all.total_s, 1.0, 1, " s"),
        None => "does not converge".to_owned(),
    });
    row("rounds", &|case| match &case.forecast.outcomes {
        Some(all) => spread(&all.rounds, 1.0, 0, ""),
        None => format!("{} and no end", case.forecast.passes.len()),
    });
    let is_chance = |case: &Case| (f64::EPSILON..1.0).contains(&case.forecast.ends_share);
    if cases.iter().any(is_chance) {
        // Whole percents would call one way of 256 none, or all.
        row("it ends in", &|case| format!("{:.1} % of cases", case.forecast.ends_share * 100.0));
    }
    row("guest's pause", &|case| match &case.forecast.outcomes {
        Some(all) => spread(&all.pause_s, 1e3, 0, " ms"),
        None => "–".to_owned(),
    });
    row("of it the last round", &|case| match case.forecast.pause {
        Some(pause) => format!("{:.0} ms", pause.last_pass_s * 1e3),
        None => "–".to_owned(),
    });
    row("limited by", &|case| limit(case.forecast.passes[0].limit).to_owned());
    row("destination's CPUs", &|case| format!("{:.2}", case.forecast.destination.cores));
    row("its CPU time", &|case| format!("{:.0} s", case.forecast.destination.cpu_s));
    row("its bitmaps", &|case| BinaryBytes(case.forecast.destination.bitmap_bytes).to_string());
    row("prefaulting a pool", &|case| {
        format!("{:.0} CPU-s", case.forecast.destination.prefault_cpu_s)
    });
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What is expected, and the least and the most where that is something else.
fn spread(spread: &Spread, by: f64, digits: usize, unit: &str) -> String {
    let text = |value: f64| format!("{:.digits$}", value * by);
    let (mean, least, most) = (text(spread.mean), text(spread.least), text(spread.most));
    if least == most {
        format!("{mean}{unit}")
    } else {
        format!("{mean}{unit} ({least} to {most})")
    }
}

fn limit(limit: Limit) -> &'static str {
    match limit {
        Limit::Link => "link",
        Limit::MaxBandwidth => "max-bandwidth",
        Limit::Source => "source",
        Limit::Receiver => "receiver's CPUs",
    }
}

fn rounds(forecast: &Forecast) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.add_row([
        "round",
        "from",
        "takes",
        "sends",
        "a second",
        "then left",
        "stops below",
        "limit",
    ]);
    let bytes = |pages: f64| BinaryBytes((pages * PAGE_BYTES as f64) as u64).to_string();
    let passes = &forecast.passes;
    for (index, pass) in passes.iter().enumerate() {
        if (SHOWN_MAX / 2..passes.len().saturating_sub(SHOWN_MAX / 2)).contains(&index) {
            if index == SHOWN_MAX / 2 {
                table.add_row(["…"]);
            }
            continue;
        }
        table.add_row([
            (index + 1).to_string(),
            format!("{:.2} s", pass.start_s),
            format!("{:.3} s", pass.duration_s),
            bytes(pass.sent_pages),
            BinaryBytes((pass.bytes / pass.duration_s) as u64).to_string(),
            bytes(pass.left_pages),
            bytes(pass.threshold_pages),
            limit(pass.limit).to_owned(),
        ]);
    }
    if let Some(pause) = &forecast.pause {
        table.add_row([
            "pause".to_owned(),
            format!("{:.2} s", forecast.total_s - pause.total_s()),
            format!("{:.3} s", pause.total_s()),
            bytes(pause.last_pass_pages),
        ]);
    }
    for column in 0..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What would help a migration that does not end.
fn remedy(case: &Case) -> Option<String> {
    let remedy = case.forecast.remedy?;
    let last = case.forecast.passes.last()?;
    let ways = [
        remedy
            .downtime_limit_s
            .map(|limit_s| format!("with a downtime-limit over {:.0} ms", limit_s * 1e3)),
        remedy
            .dirty_bytes_per_second
            .map(|rate| format!("if the guest wrote {} a second", BinaryBytes(rate as u64))),
        remedy
            .bytes_per_second
            .map(|rate| format!("at {:.2} Gbit/s of pages from end to end", rate * 8.0 / 1e9)),
    ];
    let ways: Vec<_> = ways.into_iter().flatten().collect();
    let would = match ways.is_empty() {
        true => "No downtime-limit, dirty rate or link alone would end it".to_owned(),
        false => format!("It would end {}", ways.join(", or ")),
    };
    Some(format!(
        "It does not converge: round after round {} are left, and below {} the guest would be \
         stopped.\n{would}.",
        BinaryBytes((last.left_pages * PAGE_BYTES as f64) as u64),
        BinaryBytes((last.threshold_pages * PAGE_BYTES as f64) as u64),
    ))
}

fn write_json(path: &Path, value: &Value) -> Result<(), Failure> {
    if standard_output::is_named(Some(path)) {
        return standard_output::line(format_args!("{value:#}"));
    }
    std::fs::write(path, format!("{value:#}\n"))
        .map_err(|error| Failure::host(format!("{}: {error}", path.display())))
}

/// Rounds in the table; of more, the first and the last.
const SHOWN_MAX: usize = 12;
