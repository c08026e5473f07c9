//! `channels`: what each multifd channel brought, and what TCP knows of it.

use serde_json::{Value, json};

use crate::run::{ChannelStats, ReaderStats, Run, lock};
use crate::stats::ChannelPhase;
use crate::tcp_info::TcpSample;

use super::snapshot::Snapshot;

/// Every channel in order of id.
pub(super) fn channels(snapshot: &Snapshot<'_>) -> Value {
    let run: &Run = &snapshot.migration.run;
    let one = |(id, channel): (usize, &ChannelStats)| {
        let counters = &channel.counters;
        let reader = run.readers.get(channel.reader);
        json!({
            "id": id,
            "peer": channel.peer,
            "reader": channel.reader,
            "thread-id": reader.and_then(|reader| reader.thread.thread_id()),
            "cpu": reader.and_then(ReaderStats::kept_on),
            "phase": phase_name(ChannelPhase::of_number(counters.phase.get())),
            "wire-bytes": counters.wire_bytes.get(),
            "packets": counters.packets.get(),
            "sync-packets": counters.syncs.get(),
            "normal-pages": counters.normal.get(),
            "zero-pages": counters.zero.get(),
            "device-packets": counters.device_packets.get(),
            "device-packet-bytes": counters.device_bytes.get(),
            "decompress-ns": counters.decode_ns.get(),
            "decrypt-ns": counters.decrypt_ns.get(),
            "header-wait-ns": counters.header_ns.get(),
            "page-receive-ns": counters.pages_ns.get(),
            "sync-wait-ns": counters.sync_wait_ns.get(),
            "last-activity-age-ns": snapshot.age_ns(channel.active_ns()),
            "tcp": tcp(channel, snapshot.phases.listen),
        })
    };
    run.channels().iter().enumerate().map(one).collect()
}

fn tcp(channel: &ChannelStats, listen_ns: Option<u64>) -> Option<Value> {
    // Copied first: the watchdog takes this lock.
    let samples: Vec<TcpSample> = lock(&channel.tcp).clone();
    let one = |sample: &TcpSample| {
        json!({
            "at-ns": sample.at_ns.saturating_sub(listen_ns.unwrap_or(0)),
            "rtt-us": sample.rtt_us,
            "receive-rtt-us": sample.rcv_rtt_us,
            "retransmitted-segments": sample.retransmits,
            "receive-space-bytes": sample.rcv_space_bytes,
            "received-bytes": sample.received_bytes,
        })
    };
    // None where the socket is not TCP.
    (!samples.is_empty()).then(|| samples.iter().map(one).collect())
}

fn phase_name(phase: ChannelPhase) -> &'static str {
    match phase {
        ChannelPhase::Boundary => "between-packets",
        ChannelPhase::Inside => "inside-packet",
        ChannelPhase::Held => "at-sync-point",
        ChannelPhase::Ended => "ended",
    }
}
