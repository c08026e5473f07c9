//! `readers`, `main-thread` and `process`: who spent which time on what.

use serde_json::{Value, json};

use crate::run::ReaderStats;
use crate::stats::CpuUse;

use super::meter::ProcessUse;
use super::snapshot::Snapshot;

/// How a reader's time divides, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReaderTimes {
    /// Wall time in `io_uring_enter` without CPU: waiting for sockets.
    pub(super) waiting_ns: u64,
    /// CPU time in `io_uring_enter`: the kernel's copying into guest RAM.
    pub(super) receiving_ns: u64,
    /// Time outside: headers, placing, counting.
    pub(super) placing_ns: u64,
    /// Time outside: decompressing.
    pub(super) decompressing_ns: u64,
    /// Time outside: opening records of TLS.
    pub(super) decrypting_ns: u64,
    /// CPU time in all.
    pub(super) cpu_ns: u64,
}

impl ReaderTimes {
    /// Those of `reader`, whose channels took `decompressing_ns` to decode and
    /// `decrypting_ns` to decrypt.
    pub(super) fn of(reader: &ReaderStats, decompressing_ns: u64, decrypting_ns: u64) -> Self {
        let counters = &reader.counters;
        let outside_ns = counters.placing_ns.get();
        let times = Self::new(counters.enter_ns.get(), outside_ns, reader.thread.cpu_ns());
        let placing_ns = outside_ns.saturating_sub(decompressing_ns + decrypting_ns);
        Self { placing_ns, decompressing_ns, decrypting_ns, ..times }
    }

    /// A reader runs on the CPU all the time that it is outside of the kernel,
    /// unless somebody takes the CPU away; what it used beyond that, it used
    /// inside.
    fn new(enter_ns: u64, placing_ns: u64, cpu_ns: u64) -> Self {
        let receiving_ns = cpu_ns.saturating_sub(placing_ns);
        let waiting_ns = enter_ns.saturating_sub(receiving_ns);
        Self { waiting_ns, receiving_ns, placing_ns, cpu_ns, ..Self::default() }
    }
}

/// Every reader thread.
pub(super) fn readers(snapshot: &Snapshot<'_>) -> Value {
    let run = &snapshot.migration.run;
    let ended = snapshot.ended();
    let one = |(index, reader): (usize, &ReaderStats)| {
        let mine = || run.channels().iter().enumerate().filter(|(_, c)| c.reader == index);
        let sum = |of: fn(&crate::stats::ChannelCounters) -> u64| -> u64 {
            mine().map(|(_, channel)| of(&channel.counters)).sum()
        };
        let decompressing_ns = sum(|counters| counters.decode_ns.get());
        let decrypting_ns = sum(|counters| counters.decrypt_ns.get());
        let times = ReaderTimes::of(reader, decompressing_ns, decrypting_ns);
        let cpu = ended.and_then(|ended| ended.reader_cpu.get(index));
        let last_ns = mine().map(|(_, channel)| channel.active_ns()).max().unwrap_or(0);
        json!({
            "index": index,
            "thread-id": reader.thread.thread_id(),
            "cpu": reader.kept_on(),
            "channels": mine().map(|(id, _)| id).collect::<Vec<_>>(),
            "wire-bytes": sum(|counters| counters.wire_bytes.get()),
            "packets": sum(|counters| counters.packets.get()),
            "normal-pages": sum(|counters| counters.normal.get()),
            "zero-pages": sum(|counters| counters.zero.get()),
            "waiting-ns": times.waiting_ns,
            "receiving-ns": times.receiving_ns,
            "placing-ns": times.placing_ns,
            "decompressing-ns": times.decompressing_ns,
            "decrypting-ns": times.decrypting_ns,
            "sync-wait-ns": sum(|counters| counters.sync_wait_ns.get()),
            "cpu-ns": times.cpu_ns,
            "cpu-user-ns": cpu.map(|cpu| cpu.user_ns),
            "cpu-system-ns": cpu.map(|cpu| cpu.system_ns),
            "ring-enters": reader.counters.enters.get(),
            "ring-completions": reader.counters.completions.get(),
            "last-activity-age-ns": snapshot.age_ns(last_ns),
        })
    };
    run.readers.iter().enumerate().map(one).collect()
}

/// The thread of the main stream.
pub(super) fn main_thread(snapshot: &Snapshot<'_>) -> Value {
    let run = &snapshot.migration.run;
    let main = &run.main;
    let cpu = snapshot.ended().map(|ended| ended.main_cpu);
    json!({
        "thread-id": run.main_thread.thread_id(),
        "wire-bytes": main.wire_bytes.get(),
        "normal-pages": main.normal.get(),
        "zero-pages": main.zero.get(),
        "waiting-ns": main.socket_wait_ns.get(),
        "sync-wait-ns": main.sync_wait_ns.get(),
        "cpu-ns": run.main_thread.cpu_ns(),
        "cpu-user-ns": cpu.map(|cpu| cpu.user_ns),
        "cpu-system-ns": cpu.map(|cpu| cpu.system_ns),
        "last-activity-age-ns": snapshot.age_ns(main.last_activity_ns.get()),
    })
}

/// The whole process since the listener opened.
pub(super) fn process(snapshot: &Snapshot<'_>) -> Value {
    let ProcessUse { cpu, faults } = spent(snapshot);
    json!({
        "cpu-user-ns": cpu.user_ns,
        "cpu-system-ns": cpu.system_ns,
        "page-faults-minor": faults.minor,
        "page-faults-major": faults.major,
    })
}

/// What the process used from the listener's opening until the end or now.
pub(super) fn spent(snapshot: &Snapshot<'_>) -> ProcessUse {
    snapshot.migration.run.meter.spent()
}

/// CPU time per GiB, in seconds; `None` where nothing came.
pub(super) fn cpu_s_per_gib(cpu: CpuUse, bytes: u64) -> Option<f64> {
    let gib = bytes as f64 / (1u64 << 30) as f64;
    (bytes > 0).then(|| cpu.total_ns() as f64 / 1e9 / gib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readers_time_divides_into_waiting_receiving_and_placing() {
        let times = ReaderTimes::new(900, 100, 400);
        let ReaderTimes { waiting_ns, receiving_ns, placing_ns, .. } = times;
        assert_eq!((waiting_ns, receiving_ns, placing_ns), (600, 300, 100));
    }

    #[test]
    fn a_reader_whose_cpu_was_taken_away_has_no_negative_times() {
        assert_eq!(ReaderTimes::new(10, 500, 300).receiving_ns, 0);
        assert_eq!(ReaderTimes::new(10, 0, 300).waiting_ns, 0);
    }

    #[test]
    fn cpu_per_gib_is_absent_where_nothing_came() {
        let cpu = CpuUse { user_ns: 500_000_000, system_ns: 1_500_000_000 };
        assert_eq!(cpu_s_per_gib(cpu, 0), None);
        assert_eq!(cpu_s_per_gib(cpu, 4 << 30), Some(0.5));
    }
}
