//! `memory`: what guest RAM is made of.

use landfall_pagepool::{KernelTiming, MemoryReport, RamBlocks, RegionReport};
use serde_json::{Value, json};

use crate::clock::NS_PER_S;

/// What was really got, and what it took.
pub(super) fn memory(report: &MemoryReport, ram: Option<&RamBlocks>) -> Value {
    let late_bytes = ram.map(RamBlocks::late_bytes);
    json!({
        "wanted": report.wanted.to_string(),
        "backend": report.backend.map(|backend| backend.as_str()),
        "missing": report.missing,
        "bytes": report.bytes,
        "numa": report.numa.to_string(),
        "nodes": report.nodes,
        "prefault-ns": report.prefault_ns,
        "prefault-bytes-per-second": rate(report.bytes, report.prefault_ns),
        "prefault-threads": report.prefault_threads,
        "prefault-page-faults-minor": report.prefault_faults.minor,
        "prefault-page-faults-major": report.prefault_faults.major,
        "late-bytes": late_bytes,
        "late-ns": ram.map(RamBlocks::late_ns),
        "max-ram-bytes": report.max_ram_bytes,
        "regions": report.regions.iter().map(region).collect::<Value>(),
        "zero-kernel": report.zero_kernel,
        "zero-kernels": report.zero_kernel_timings.iter().map(timing).collect::<Value>(),
    })
}

fn region(region: &RegionReport) -> Value {
    json!({
        "backend": region.backend.as_str(),
        "bytes": region.bytes,
        "huge-bytes": region.huge_bytes,
        "missing": region.missing,
        "nodes": region.nodes,
        "prefault-ns": region.prefault_ns,
        "prefault-bytes-per-second": rate(region.bytes, region.prefault_ns),
        "prefault-threads": region.prefault_threads,
        "prefault-page-faults-minor": region.prefault_faults.minor,
        "prefault-page-faults-major": region.prefault_faults.major,
    })
}

fn timing(timing: &KernelTiming) -> Value {
    json!({
        "name": timing.name,
        "zero-page-ns": timing.zero_page_ns,
        "content-page-ns": timing.content_page_ns,
    })
}

/// Bytes per second; `None` over no time.
fn rate(bytes: u64, ns: u64) -> Option<f64> {
    (ns > 0).then(|| bytes as f64 * NS_PER_S as f64 / ns as f64)
}
