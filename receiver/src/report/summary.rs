//! The few figures that a person wants at the end, and the live line.

use crate::clock::NS_PER_S;
use crate::error::RunError;
use crate::receiver::Migration;
use crate::run::lock;
use crate::status::Status;

use super::phases::switchover_to_loaded_ns;
use super::snapshot::Snapshot;
use super::threads;
use super::totals::PageTotals;

/// A run in short, live or ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Which run of this process.
    pub run_id: u64,
    /// Where it stands.
    pub status: Status,
    /// Why it failed.
    pub error: Option<RunError>,
    /// From the last expected connection until the end or now, nanoseconds;
    /// `None` before.
    pub connected_for_ns: Option<u64>,
    /// Bytes of all RAM blocks; 0 before the source has told them.
    pub ram_bytes: u64,
    /// The target's page size; 0 before the source has told its RAM.
    pub page_bytes: u32,
    /// RAM blocks.
    pub blocks: usize,
    /// Pages of all blocks.
    pub pages: PageTotals,
    /// Bytes from all sockets.
    pub wire_bytes: u64,
    /// Bytes of device state among them.
    pub device_state_bytes: u64,
    /// Packets on all channels.
    pub packets: u64,
    /// Sync points passed.
    pub rounds: u64,
    /// Multifd channels; 0 before they are known.
    pub channels: usize,
    /// Wire bytes per second over `connected_for_ns`; `None` where that is
    /// empty.
    pub bytes_per_second: Option<f64>,
    /// Wire bytes per second over the last second; `None` once ended.
    pub bytes_per_second_now: Option<f64>,
    /// CPU time of the whole process since listening, nanoseconds.
    pub cpu_ns: u64,
    /// CPU seconds of the whole process per GiB from the wire; `None` where
    /// nothing came.
    pub cpu_s_per_gib: Option<f64>,
    /// From the source's stopping the guest until all was loaded, nanoseconds;
    /// `None` unless completed.
    pub switchover_to_loaded_ns: Option<u64>,
    /// What each reader did.
    pub readers: Vec<ReaderLoad>,
    /// Connections that were none of ours.
    pub strays: u64,
    /// The memory line, as printed at start.
    pub memory: String,
}

/// How busy a reader was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReaderLoad {
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// CPU time as a share of the time since all were connected, 0 to 1;
    /// `None` where that is empty.
    pub share: Option<f64>,
}

impl Summary {
    /// GiB per second over the run.
    pub fn gib_per_second(&self) -> Option<f64> {
        Some(self.bytes_per_second? / (1u64 << 30) as f64)
    }

    /// Gigabits (10⁹) per second over the run.
    pub fn gbit_per_second(&self) -> Option<f64> {
        Some(self.bytes_per_second? * 8.0 / 1e9)
    }
}

/// The figures of `migration` as of now. Cheap: may be asked many times a
/// second.
pub fn summary(migration: &Migration) -> Summary {
    let snapshot = Snapshot::take(migration);
    let run = &migration.run;
    let totals = &snapshot.totals;
    let connected_for_ns = snapshot.connected_for_ns();
    let window_ns = connected_for_ns.filter(|&ns| ns > 0);
    let wire_bytes = totals.wire_bytes();
    let cpu = threads::spent(&snapshot).cpu;
    Summary {
        run_id: run.id,
        status: snapshot.status,
        error: snapshot.ended().and_then(|ended| ended.error.clone()),
        connected_for_ns,
        ram_bytes: totals.ram_bytes,
        page_bytes: totals.page_bytes,
        blocks: totals.blocks.len(),
        pages: totals.pages,
        wire_bytes,
        device_state_bytes: totals.device_state_bytes,
        packets: totals.packets,
        rounds: totals.sync_points,
        channels: run.channels().len(),
        bytes_per_second: window_ns.map(|ns| wire_bytes as f64 * NS_PER_S as f64 / ns as f64),
        bytes_per_second_now: snapshot.rates_now().map(|rates| rates.wire_bytes_per_second),
        cpu_ns: cpu.total_ns(),
        cpu_s_per_gib: threads::cpu_s_per_gib(cpu, wire_bytes),
        switchover_to_loaded_ns: switchover_to_loaded_ns(&snapshot.phases, snapshot.status),
        readers: run
            .readers
            .iter()
            .map(|reader| {
                let cpu_ns = reader.thread.cpu_ns();
                let share = window_ns.map(|ns| (cpu_ns as f64 / ns as f64).min(1.0));
                ReaderLoad { cpu: reader.kept_on(), cpu_ns, share }
            })
            .collect(),
        strays: run.strays.load(std::sync::atomic::Ordering::Relaxed),
        memory: lock(&migration.memory).to_string(),
    }
}
