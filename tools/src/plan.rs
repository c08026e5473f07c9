//! `landfall plan`: what a migration would take.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::BinaryBytes;
use landfall_bench::forecast::{
    Calibration, Costs, DirtyTracking, Forecast, Guest, Limit, Network, PAGE_BYTES, Pass, Question,
    SourceSettings, Spread, TakenFor, forecast,
};
use landfall_receiver::receiver::READERS_DEFAULT_MAX;
use serde_json::{Value, json};

use crate::cli::{Accelerator, PlanArguments};
use crate::exit::{Exit, Failure};

/// Answers.
pub(crate) fn run(arguments: &PlanArguments, quiet: bool) -> Result<Exit, Failure> {
    let question = question(arguments);
    question.check().map_err(Failure::usage)?;
    let calibrations =
        arguments.calibration.iter().map(calibration).collect::<Result<Vec<_>, Failure>>()?;
    let cases = cases(&question, &calibrations);
    if !quiet {
        let text = text(&question, &calibrations, &cases);
        if arguments.json.as_deref() == Some(Path::new("-")) {
            eprint!("{text}");
        } else {
            print!("{text}");
        }
    }
    if let Some(path) = &arguments.json {
        write_json(path, &json_of(&question, arguments, &calibrations, &cases))?;
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
        vec![case("calibrated", Calibration::costs(calibrations))]
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
    let mut text = format!(
        "It does not converge: round after round {} are left, and below {} the guest would be \
         stopped.\nIt would end with a downtime-limit over {:.0} ms",
        BinaryBytes((last.left_pages * PAGE_BYTES as f64) as u64),
        BinaryBytes((last.threshold_pages * PAGE_BYTES as f64) as u64),
        remedy.downtime_limit_s * 1e3,
    );
    if let Some(rate) = remedy.dirty_bytes_per_second {
        let _ = write!(text, ", or if the guest wrote {} a second", BinaryBytes(rate as u64));
    }
    if let Some(rate) = remedy.bytes_per_second {
        let gbit = rate * 8.0 / 1e9;
        let _ = write!(text, ", or at {gbit:.2} Gbit/s of pages from end to end");
    }
    text.push('.');
    Some(text)
}

fn json_of(
    question: &Question,
    arguments: &PlanArguments,
    calibrations: &[Calibration],
    cases: &[Case],
) -> Value {
    let guest = question.guest;
    json!({
        "schema": { "name": "landfall.plan", "version": 1 },
        "question": {
            "ram-bytes": guest.ram_bytes,
            "zero-percent": arguments.zero,
            "dirty-bytes-per-second": arguments.dirty_rate,
            "working-set-bytes": guest.working_set_bytes,
            "link-bits-per-second": arguments.link,
            "mtu-bytes": arguments.mtu,
            "max-bandwidth": arguments.max_bandwidth,
            "downtime-limit-ms": arguments.downtime_limit,
            "channels": arguments.channels,
            "readers": question.readers,
            "accel": match arguments.accel { Accelerator::Kvm => "kvm", Accelerator::Tcg => "tcg" },
        },
        "calibrations": calibrations.iter().map(|one| taken_for(&one.taken_for)).collect::<Vec<_>>(),
        "cases": cases.iter().map(case_json).collect::<Vec<_>>(),
    })
}

fn taken_for(run: &TakenFor) -> Value {
    let mut value = json!({
        "ram-bytes": run.ram_bytes,
        "channels": run.channels,
        "readers": run.readers,
        "machine": run.machine,
        "peer": run.peer,
        "cpu-model": run.cpu_model,
        "kernel": run.kernel,
        "backend": run.backend,
        "compression": run.compression,
        "bytes-per-second": run.bytes_per_second,
        "readers-busy-share": run.readers_busy,
    });
    add_known(&mut value, "tls", run.tls.as_deref());
    value
}

/// What is not known is absent.
fn add_known(value: &mut Value, name: &str, known: Option<impl Into<Value>>) {
    if let Some(known) = known {
        value[name] = known.into();
    }
}

fn case_json(case: &Case) -> Value {
    let Case { name, costs, forecast } = case;
    let destination = &forecast.destination;
    let mut value = json!({
        "name": name,
        "converges": forecast.pause.is_some(),
        "total-time-s": forecast.total_s,
        "rounds": forecast.passes.len() + usize::from(forecast.pause.is_some()),
        "limited-by": limit(forecast.passes[0].limit),
        "passes": forecast.passes.iter().map(pass_json).collect::<Vec<_>>(),
        "destination": {
            "cores": destination.cores,
            "cpu-s": destination.cpu_s,
            "bytes-per-second-max": destination.bytes_per_second_max,
            "prefault-cpu-s": destination.prefault_cpu_s,
            "bitmap-bytes": destination.bitmap_bytes,
        },
        "costs": {
            "cpu-s-per-gib": costs.receiver.s_per_gib,
            "cpu-ns-per-packet": costs.receiver.ns_per_packet,
            "cpu-ns-per-zero-page": costs.receiver.ns_per_zero_page,
            "cpu-ns-per-sync-packet": costs.receiver.ns_per_sync_packet,
            "cpu-ns-per-resent-page": costs.receiver.ns_per_resent_page,
            "ns-per-normal-page": costs.pace.ns_per_normal_page,
            "ns-per-zero-page": costs.pace.ns_per_zero_page,
            "sync-s-per-tib": costs.sync_s_per_tib,
            "stop-s": costs.stop_s,
            "device-state-s": costs.device_state_s,
            "answer-s": costs.answer_s,
            "in-flight-bytes": costs.in_flight_bytes,
            "prefault-s-per-gib": costs.prefault_s_per_gib,
        },
    });
    if let Some(all) = &forecast.outcomes {
        value["expected"] = json!({
            "total-time-s": spread_json(&all.total_s),
            "rounds": spread_json(&all.rounds),
            "downtime-s": spread_json(&all.pause_s),
        });
    }
    if let Some(pause) = &forecast.pause {
        value["downtime-s"] = pause.total_s().into();
        value["pause"] = json!({
            "stop-and-sync-s": pause.stop_and_sync_s,
            "last-pass-s": pause.last_pass_s,
            "last-pass-pages": pause.last_pass_pages,
            "device-state-s": pause.device_state_s,
            "answer-s": pause.answer_s,
        });
    }
    if let Some(remedy) = &forecast.remedy {
        let mut at = json!({ "downtime-limit-s": remedy.downtime_limit_s });
        add_known(&mut at, "dirty-bytes-per-second", remedy.dirty_bytes_per_second);
        add_known(&mut at, "payload-bytes-per-second", remedy.bytes_per_second);
        value["would-converge-at"] = at;
    }
    value
}

fn spread_json(spread: &Spread) -> Value {
    json!({ "mean": spread.mean, "least": spread.least, "most": spread.most })
}

fn pass_json(pass: &Pass) -> Value {
    json!({
        "start-s": pass.start_s,
        "duration-s": pass.duration_s,
        "sent-pages": pass.sent_pages,
        "zero-pages": pass.zero_pages,
        "wire-bytes": pass.bytes,
        "left-pages": pass.left_pages,
        "threshold-pages": pass.threshold_pages,
        "limited-by": limit(pass.limit),
    })
}

fn write_json(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = format!("{value:#}\n");
    if path == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(path, text)
        .map_err(|error| Failure::host(format!("{}: {error}", path.display())))
}

/// Rounds in the table; of more, the first and the last.
const SHOWN_MAX: usize = 12;
