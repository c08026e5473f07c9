//! `compression` and `device-packets`: what channels bring beside plain pages.

use serde_json::{Value, json};

use crate::channel::Terms;
use crate::run::Run;
use crate::wire::Compression;

/// How pages were compressed, and what that took.
pub(super) fn compression(run: &Run) -> Value {
    let Terms { method, staging, .. } = &*run.terms;
    let channels = run.channels().iter();
    json!({
        "configured": method.configured().map_or("auto", Compression::as_str),
        "method": method.found().map(Compression::as_str),
        "decompress-ns": channels.map(|channel| channel.counters.decode_ns.get()).sum::<u64>(),
        "staging-bytes": staging.lent(),
        "staging-max-bytes": staging.max(),
    })
}

/// Device state that came on channels; `None` where none did.
pub(super) fn device_packets(run: &Run) -> Option<Value> {
    let packets = &run.terms.device_packets;
    let totals = packets.totals();
    let devices = packets.by_device().into_iter().map(|(idstr, instance_id, totals)| {
        json!({
            "idstr": idstr,
            "instance-id": instance_id,
            "packets": totals.packets,
            "bytes": totals.bytes,
        })
    });
    (totals.packets > 0).then(|| {
        json!({
            "packets": totals.packets,
            "bytes": totals.bytes,
            "kept": !packets.has_dropped(),
            "devices": devices.collect::<Value>(),
        })
    })
}
