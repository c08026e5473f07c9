//! What the destination of a migration needs.

use super::{Costs, GIB, PACKET_PAGES, PAGE_BYTES, Pass, Pause, Question, Work};

/// CPUs and memory of the destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Destination {
    /// CPUs that are busy on average in the pass that needs most.
    pub cores: f64,
    /// CPU seconds of the whole migration.
    pub cpu_s: f64,
    /// The most bytes of packets per second in any pass.
    pub bytes_per_second_max: f64,
    /// CPU seconds to map and touch the guest's memory: before the migration with a pool, in it
    /// without.
    pub prefault_cpu_s: f64,
    /// Bytes of bitmaps: two bits for each page. They take memory as pages come.
    pub bitmap_bytes: u64,
}

impl Destination {
    pub(super) fn of(
        question: &Question,
        costs: &Costs,
        passes: &[Pass],
        pause: Option<&Pause>,
    ) -> Self {
        let sync_packets = f64::from(question.source.channels);
        let cpu_of = |pages: f64, zero_pages: f64, resent_pages: f64| {
            costs.receiver.cpu_s(&Work {
                normal_gib: (pages - zero_pages) * PAGE_BYTES as f64 / GIB,
                packets: pages / PACKET_PAGES as f64,
                runs: Work::runs(pages, zero_pages),
                sync_packets,
                resent_pages,
            })
        };
        let mut cores: f64 = 0.0;
        let mut bytes_per_second_max: f64 = 0.0;
        let mut cpu_s = 0.0;
        for pass in passes {
            let pass_cpu_s = cpu_of(pass.sent_pages, pass.zero_pages, pass.resent_pages)
                + costs.rest_s * pass.rests();
            cpu_s += pass_cpu_s;
            cores = cores.max(pass_cpu_s / pass.duration_s);
            bytes_per_second_max = bytes_per_second_max.max(pass.bytes / pass.duration_s);
        }
        if let Some(pause) = pause {
            cpu_s += cpu_of(pause.last_pass_pages, pause.zero_pages, pause.resent_pages);
        }
        let ram_bytes = question.guest.ram_bytes;
        Self {
            cores,
            cpu_s,
            bytes_per_second_max,
            prefault_cpu_s: costs.prefault_s_per_gib * ram_bytes as f64 / GIB,
            bitmap_bytes: 2 * ram_bytes.div_ceil(PAGE_BYTES).div_ceil(8),
        }
    }
}
