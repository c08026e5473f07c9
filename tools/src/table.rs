//! The final table.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::BinaryBytes;
use landfall_receiver::report::Summary;

use crate::exit::Failure;
use crate::{standard_error, standard_output};

/// Prints what a run was, on stdout or on stderr.
///
/// # Errors
/// Those of [`standard_output::line`].
pub(crate) fn print(summary: &Summary, to_stderr: bool) -> Result<(), Failure> {
    let table = rows(summary).trim_fmt();
    if to_stderr {
        standard_error::line(table);
        return Ok(());
    }
    standard_output::line(table)
}

fn rows(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("status", summary.status.to_string());
    let page = u64::from(summary.page_bytes);
    if let Some(ns) = summary.connected_for_ns {
        row("time", format!("{:.3} s", ns as f64 / 1e9));
    }
    row("guest RAM", format!("{} in {} blocks", BinaryBytes(summary.ram_bytes), summary.blocks));
    row(
        "received",
        format!("{} over {} channels", BinaryBytes(summary.wire_bytes), summary.channels),
    );
    if let (Some(gib), Some(gbit)) = (summary.gib_per_second(), summary.gbit_per_second()) {
        row("rate", format!("{gib:.2} GiB/s, {gbit:.2} Gbit/s"));
    }
    let pages = &summary.pages;
    row("pages", format!("{} normal, {} zero", pages.normal, pages.zero));
    row(
        "unique, resent",
        format!("{}, {}", BinaryBytes(pages.unique * page), BinaryBytes(pages.resent() * page)),
    );
    if let (Some(zeros), Some(skipped)) = (pages.zeros, pages.zero_skipped()) {
        row(
            "zero pages",
            format!(
                "{} cleared, {skipped} already zero, {} sent in full",
                zeros.written, zeros.sent_full
            ),
        );
    }
    row("sync points", summary.rounds.to_string());
    if let Some(cpu) = summary.cpu_s_per_gib {
        row(
            "CPU since listening",
            format!("{:.3} s, {cpu:.4} s per GiB", summary.cpu_ns as f64 / 1e9),
        );
    }
    for (index, reader) in summary.readers.iter().enumerate() {
        if let Some(share) = reader.share {
            // One that is kept nowhere has no CPU to name.
            let which = reader.cpu.map_or_else(|| "a CPU".to_owned(), |cpu| format!("CPU {cpu}"));
            row(&format!("reader {index}"), format!("{:.0} % of {which}", share * 100.0));
        }
    }
    if let Some(ns) = summary.switchover_to_loaded_ns {
        row("switchover to loaded", format!("{:.3} ms", ns as f64 / 1e6));
    }
    if summary.strays > 0 {
        row("stray connections", summary.strays.to_string());
    }
    row("memory", summary.memory.clone());
    if let Some(error) = &summary.error {
        row("error", error.to_string());
    }
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
