//! `x-query-receiver`: everything that is known of a run.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::clock::NS_PER_S;
use crate::receiver::Migration;
use crate::run::{ChannelStats, lock};
use crate::status::Status;

use super::snapshot::Snapshot;
use super::{
    channels, compression, environment, guest, latencies, memory, pages, phases, query_migrate,
    threads,
};

/// The object that `x-query-receiver` answers, `--json` writes and a run
/// directory keeps as `run.json`: `docs/schema/x-query-receiver.schema.json`.
///
/// What is not known (yet) is absent, never null and never 0.
pub fn query_receiver(migration: &Migration) -> Value {
    let snapshot = Snapshot::take(migration);
    let run = &migration.run;
    let ended = snapshot.ended();
    let error = ended.and_then(|ended| ended.error.as_ref());
    let memory_now = lock(&migration.memory).clone();
    without_nulls(json!({
        "schema": schema(),
        "run-id": run.id,
        "status": snapshot.status.as_str(),
        "error": error.map(|error| json!({"family": error.family.as_str(), "text": error.text})),
        "socket-address": migration.socket_address,
        "tls": run.tls().map(|tls| json!({
            "version": tls.version, "cipher-suite": tls.suite, "client": tls.client,
        })),
        "query-migrate": query_migrate::answer(&snapshot),
        "phases": phases::phases(&snapshot.phases, snapshot.status),
        "live": live(&snapshot),
        "rates": rates(&snapshot),
        "wire": pages::wire(&snapshot.totals),
        "pages": pages::pages(&snapshot.totals),
        "blocks": pages::blocks(run, &snapshot.totals),
        "rounds": pages::rounds(run),
        "compression": compression::compression(run),
        "device-packets": compression::device_packets(run),
        "channels": channels::channels(&snapshot),
        "readers": threads::readers(&snapshot),
        "main-thread": threads::main_thread(&snapshot),
        "process": threads::process(&snapshot),
        "latencies": ended.map(|ended| latencies::latencies(&ended.latencies)),
        "guest": ended.filter(|ended| ended.error.is_none()).map(|ended| guest::guest(&ended.received)),
        "stray-connections": run.strays.load(Relaxed),
        "memory": memory::memory(&memory_now, run.ram().map(|ram| &**ram)),
        "environment": environment::environment(migration.features),
    }))
}

/// The answer of `x-query-receiver` while nothing has ever been started.
pub fn nothing_yet() -> Value {
    json!({"schema": schema(), "status": Status::None.as_str()})
}

fn schema() -> Value {
    json!({"name": SCHEMA_NAME, "version": SCHEMA_VERSION})
}

/// Enough to tell slow from stalled; only while the run goes on.
fn live(snapshot: &Snapshot<'_>) -> Option<Value> {
    if snapshot.status.is_terminal() {
        return None;
    }
    let rates = snapshot.rates_now();
    let run = &snapshot.migration.run;
    let channels = run.channels().iter().map(ChannelStats::active_ns);
    let last_ns = channels.chain([run.main.last_activity_ns.get()]).max().unwrap_or(0);
    Some(json!({
        "now-window-ns": rates.map(|rates| rates.window_ns),
        "wire-bytes-per-second-now": rates.map(|rates| rates.wire_bytes_per_second),
        "pages-per-second-now": rates.map(|rates| rates.pages_per_second),
        "unique-pages-per-second-now": rates.map(|rates| rates.unique_pages_per_second),
        "last-activity-age-ns": snapshot.age_ns(last_ns),
    }))
}

/// Over the whole of the run so far, from the last connection on.
fn rates(snapshot: &Snapshot<'_>) -> Option<Value> {
    let window_ns = snapshot.connected_for_ns().filter(|&ns| ns > 0)?;
    let per_second = |count: u64| count as f64 * NS_PER_S as f64 / window_ns as f64;
    let totals = &snapshot.totals;
    let cpu = threads::spent(snapshot).cpu;
    Some(json!({
        "window-ns": window_ns,
        "wire-bytes-per-second": per_second(totals.wire_bytes()),
        "pages-per-second": per_second(totals.pages.arrived()),
        "unique-pages-per-second": per_second(totals.pages.unique),
        "cpu-s-per-gib": threads::cpu_s_per_gib(cpu, totals.wire_bytes()),
    }))
}

/// Takes out every member that is null: absent says the same in fewer words.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// `schema.name` of the object.
pub const SCHEMA_NAME: &str = "landfall.x-query-receiver";
/// `schema.version` of the object: counts changes that a reader must know of.
pub const SCHEMA_VERSION: u32 = 1;
