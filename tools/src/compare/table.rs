//! A comparison as tables: what each contender used, and landfall's share of it.

use std::collections::BTreeSet;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use landfall_bench::compare::{
    Comparison, Contender, Cost, GuestRam, MemorySetup, Outcome, Ratio, Receiver, Sender, Series,
    held, held_slopes, held_sources, median, slopes,
};

/// Everything for a terminal.
pub(super) fn text(comparison: &Comparison, outcome: &Outcome) -> String {
    let mut text = heading(comparison, outcome);
    let tables = [figures(outcome), ratios(outcome), sources(outcome), slope(outcome)];
    for table in tables.into_iter().flatten() {
        text = format!("{text}\n{}\n", table.trim_fmt());
    }
    text
}

fn heading(comparison: &Comparison, outcome: &Outcome) -> String {
    let Comparison { scenario, pairs, qemu, recording, .. } = comparison;
    let is_replayed = recording.is_some() || scenario.guest.is_some();
    let source = match qemu {
        _ if is_replayed => "a replayed recording".to_owned(),
        _ if scenario.is_file() => "a file".to_owned(),
        Some(program) => program.display().to_string(),
        None => "the synthetic source".to_owned(),
    };
    let beside = if scenario.has_two_sources() { ", and landfall's own" } else { "" };
    let mut heading = format!(
        "{}: {}; {pairs} runs each, source: {source}{beside}",
        scenario.name, scenario.about
    );
    for (side, cpus) in [("source", &scenario.source_cpus), ("receiver", &scenario.receiver_cpus)] {
        if let Some(cpus) = cpus {
            heading.push_str(&format!("; {side} on CPU {cpus}"));
        }
    }
    for (receiver, suite) in &outcome.cipher_suites {
        heading.push_str(&format!("; TLS into {receiver}: {suite}"));
    }
    heading
}

fn figures(outcome: &Outcome) -> Option<Table> {
    let mut table = table(&[
        "destination",
        "mem",
        "GiB",
        "channels",
        "readers",
        "wall s",
        "CPU-s/GiB",
        "user",
        "system",
        "with start-up",
        "source",
    ]);
    for series in &outcome.series {
        let Contender { receiver, channels, readers, source, .. } = series.contender;
        let gib = series.contender.ram_gib();
        let per_gib = |figure: &dyn Fn(&Cost) -> f64| format!("{:.4}", series.median(figure) / gib);
        let readers = match receiver {
            // One thread for each channel, and main's.
            Receiver::Qemu => "\u{2013}".to_owned(),
            _ => readers.to_string(),
        };
        table.add_row([
            match source {
                Sender::Given => receiver.to_string(),
                Sender::Landfall => format!("{receiver}; landfall sends"),
            },
            memory(series.contender.memory, series.ram()),
            format!("{gib:.2}"),
            channels.to_string(),
            readers,
            format!("{:.3}", series.median(|cost| cost.wall_s)),
            per_gib(&|cost| cost.cpu_s),
            per_gib(&|cost| cost.user_s),
            per_gib(&|cost| cost.system_s),
            per_gib(&Cost::whole_s),
            per_gib(&|cost| cost.source_s),
        ]);
    }
    Some(table)
}

/// What was asked for, and what the kernel says it was.
fn memory(asked: MemorySetup, ram: GuestRam) -> String {
    let GuestRam { page_kib, huge_kib, present_kib, .. } = ram;
    let got = match (page_kib, (100 * huge_kib).checked_div(present_kib)) {
        (0, _) => return asked.to_string(),
        (4, None | Some(0)) => "4 KiB".to_owned(),
        (4, Some(share)) => format!("{share} % THP"),
        (kib, _) => format!("{} MiB", kib >> 10),
    };
    let when = match asked {
        MemorySetup::Hugepages => ", prefaulted",
        MemorySetup::Default | MemorySetup::Thp => "",
    };
    format!("{asked}: {got}{when}")
}

fn ratios(outcome: &Outcome) -> Option<Table> {
    let held = held(outcome);
    let sizes: BTreeSet<u64> = outcome.series.iter().map(|one| one.contender.ram_bytes).collect();
    let mut table = table(&["divided, per GiB", "CPU", "with start-up", "wall"]);
    for one in &held {
        table.add_row([
            division(&outcome.series[one.ours], &outcome.series[one.theirs], sizes.len() > 1),
            one.cpu.to_string(),
            one.cpu_with_startup.to_string(),
            one.wall.to_string(),
        ]);
    }
    (!held.is_empty()).then_some(table)
}

/// What sending takes, landfall's source beside the given one.
fn sources(outcome: &Outcome) -> Option<Table> {
    let held = held_sources(outcome);
    let mut table = table(&["sending, landfall ÷ the given source, per GiB", "CPU", "wall"]);
    for one in &held {
        let Contender { receiver, channels, .. } = &outcome.series[one.ours].contender;
        table.add_row([
            format!("into {receiver}, {channels} channels"),
            one.cpu.to_string(),
            one.wall.to_string(),
        ]);
    }
    (!held.is_empty()).then_some(table)
}

/// `landfall ÷ QEMU, default`: as much as tells the two apart.
fn division(ours: &Series, theirs: &Series, has_sizes: bool) -> String {
    let (us, them) = (&ours.contender, &theirs.contender);
    let name = |one: &Contender| {
        let mut name = format!("{}, {}", one.receiver, one.memory);
        if us.channels != them.channels {
            name.push_str(&format!(", {} channels", one.channels));
        }
        if us.readers != them.readers {
            name.push_str(&format!(", {} readers", one.readers));
        }
        if has_sizes {
            name.push_str(&format!(", {:.2} GiB", one.ram_gib()));
        }
        name
    };
    format!("{} \u{f7} {}", name(us), name(them))
}

fn slope(outcome: &Outcome) -> Option<Table> {
    let slopes = slopes(outcome);
    let held = held_slopes(outcome, &slopes);
    let mut table = table(&["a page more", "CPU ns", "landfall \u{f7} it"]);
    for (place, slope) in slopes.iter().enumerate() {
        let Contender { receiver, memory, .. } = &outcome.series[slope.series].contender;
        let against = held.iter().filter(|(_, theirs, _)| *theirs == place);
        let against: Vec<String> =
            against.map(|(_, _, ratio): &(usize, usize, Ratio)| ratio.to_string()).collect();
        table.add_row([
            format!("{receiver}, {memory}"),
            format!("{:.2}", median(slope.ns_per_page.iter().copied())),
            against.join("; "),
        ]);
    }
    (!slopes.is_empty()).then_some(table)
}

/// Numbers to the right, the first column of words to the left.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(header);
    for (index, name) in header.iter().enumerate() {
        let column = table.column_mut(index).expect("as many as the header has");
        if index > 0 && *name != "mem" {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_as_asked_for_and_as_it_was() {
        let ram = |page_kib, huge_kib, present_kib| GuestRam {
            page_kib,
            huge_kib,
            present_kib,
            same_pages: None,
        };
        assert_eq!(memory(MemorySetup::Default, ram(4, 97, 100)), "default: 97 % THP");
        assert_eq!(memory(MemorySetup::Default, ram(4, 0, 100)), "default: 4 KiB");
        assert_eq!(memory(MemorySetup::Default, ram(2048, 0, 100)), "default: 2 MiB");
        assert_eq!(
            memory(MemorySetup::Hugepages, ram(2048, 0, 100)),
            "hugepages: 2 MiB, prefaulted"
        );
    }
}
