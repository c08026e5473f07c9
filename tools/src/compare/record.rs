//! A comparison as JSON: everything that somebody needs who does not believe it.

use landfall_bench::compare::{
    Comparison, Outcome, Ratio, Run, Scenario, Series, held, held_slopes, held_sources, host_facts,
    now_s, slopes,
};
use landfall_receiver::cpu_list::CpuList;
use serde_json::{Value, json};

/// The whole file.
pub(super) fn whole(began_s: i64, host_before: &Value, scenarios: &[Value]) -> Value {
    json!({
        "schema": { "name": "landfall.compare", "version": 1 },
        "command-line": std::env::args().collect::<Vec<_>>(),
        "began-unix-s": began_s,
        "ended-unix-s": now_s(),
        "host-before": host_before,
        "host-after": host_facts(),
        "scenarios": scenarios,
    })
}

/// One scenario.
pub(super) fn of_outcome(comparison: &Comparison, outcome: &Outcome) -> Value {
    let suites: serde_json::Map<_, _> = outcome
        .cipher_suites
        .iter()
        .map(|(receiver, suite)| (receiver.to_string(), json!(suite)))
        .collect();
    let ratios: Vec<Value> = held(outcome)
        .iter()
        .map(|held| {
            json!({
                "of": held.ours,
                "by": held.theirs,
                "cpu": ratio(&held.cpu),
                "cpu-with-startup": ratio(&held.cpu_with_startup),
                "wall": ratio(&held.wall),
            })
        })
        .collect();
    let source_ratios: Vec<Value> = held_sources(outcome)
        .iter()
        .map(|held| {
            json!({
                "of": held.ours,
                "by": held.theirs,
                "cpu": ratio(&held.cpu),
                "wall": ratio(&held.wall),
            })
        })
        .collect();
    let slopes = slopes(outcome);
    let of_slopes: Vec<Value> = slopes
        .iter()
        .map(|slope| json!({ "contender": slope.series, "ns-per-page": slope.ns_per_page }))
        .collect();
    let slope_ratios: Vec<Value> = held_slopes(outcome, &slopes)
        .iter()
        .map(|(ours, theirs, held)| {
            let (of, by) = (slopes[*ours].series, slopes[*theirs].series);
            json!({ "of": of, "by": by, "cpu": ratio(held) })
        })
        .collect();
    json!({
        "scenario": of_scenario(&comparison.scenario),
        "pairs": comparison.pairs,
        "programs": outcome.programs,
        "recording": comparison.recording,
        "cipher-suites": suites,
        "contenders": outcome.series.iter().map(of_series).collect::<Vec<_>>(),
        "ratios": ratios,
        "source-ratios": source_ratios,
        "slopes": of_slopes,
        "slope-ratios": slope_ratios,
    })
}

fn of_scenario(scenario: &Scenario) -> Value {
    json!({
        "name": scenario.name,
        "about": scenario.about,
        "ram-mib": scenario.ram_mib,
        "channels": scenario.channels,
        "readers": scenario.readers,
        "content": {
            "kind": format!("{:?}", scenario.content.kind),
            "zero-percent": scenario.content.zero_percent,
        },
        "zero-page-detection": scenario.zero_page_detection,
        "compression": scenario.compression,
        "tls": scenario.tls,
        "capabilities": scenario.capabilities,
        "parameters": scenario.parameters,
        "source-prealloc": scenario.source_prealloc,
        "source-cpus": scenario.source_cpus.as_ref().map(CpuList::to_string),
        "receiver-cpus": scenario.receiver_cpus.as_ref().map(CpuList::to_string),
        "guest": scenario.guest.map(|guest| {
            json!({ "dirties-mib": guest.dirties_mib, "rounds": guest.rounds })
        }),
    })
}

fn of_series(series: &Series) -> Value {
    let contender = &series.contender;
    json!({
        "name": contender.to_string(),
        "receiver": contender.receiver.to_string(),
        "memory": contender.memory.to_string(),
        "channels": contender.channels,
        "readers": contender.readers,
        "ram-bytes": contender.ram_bytes,
        "source": contender.source.to_string(),
        "commands": series.commands,
        "runs": series.runs.iter().map(of_run).collect::<Vec<_>>(),
    })
}

fn of_run(run: &Run) -> Value {
    let Run { cost, ram, .. } = run;
    json!({
        "order": run.order,
        "began-s": run.began_s,
        "wall-s": cost.wall_s,
        "cpu-s": cost.cpu_s,
        "user-s": cost.user_s,
        "system-s": cost.system_s,
        "startup-cpu-s": cost.startup_s,
        "source-cpu-s": cost.source_s,
        "received": run.received,
        "sent": run.sent,
        "guest-ram": {
            "page-kib": ram.page_kib,
            "transparent-huge-kib": ram.huge_kib,
            "present-kib": ram.present_kib,
            "pages-compared-and-same": ram.same_pages,
        },
    })
}

fn ratio(ratio: &Ratio) -> Value {
    json!({
        "median": ratio.median(),
        "interval-95": ratio.interval(),
        "difference-shown": !ratio.is_none(),
    })
}
