//! The answer of `landfall plan` for programs.

use landfall_bench::forecast::{Calibration, Pass, Question, Spread, TakenFor};
use serde_json::{Value, json};

use super::{Case, limit};
use crate::cli::{Accelerator, PlanArguments};

/// The answer as docs/schema/plan.schema.json has it.
pub(super) fn json_of(
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
        "converging-share": forecast.ends_share,
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
            "cpu-ns-per-run": costs.receiver.ns_per_run,
            "cpu-ns-per-sync-packet": costs.receiver.ns_per_sync_packet,
            "cpu-ns-per-resent-page": costs.receiver.ns_per_resent_page,
            "ns-per-normal-page": costs.pace.ns_per_normal_page,
            "ns-per-zero-page": costs.pace.ns_per_zero_page,
            "sync-s-per-tib": costs.sync_s_per_tib,
            "stop-s": costs.stop_s,
            "device-state-s": costs.device_state_s,
            "answer-s": costs.answer_s,
            "in-flight-bytes": costs.in_flight_bytes,
            "rest-s": costs.rest_s,
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
        let mut at = json!({});
        add_known(&mut at, "downtime-limit-s", remedy.downtime_limit_s);
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
