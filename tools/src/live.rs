//! What a person sees while a run goes on.

mod lines;

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use landfall_receiver::receiver::Migration;
use landfall_receiver::report::{self, Summary};
use landfall_receiver::status::Status;

use lines::Lines;

use crate::standard_error;

/// One live line on a terminal, interval lines elsewhere if they are asked for.
pub(crate) struct Live {
    quiet: bool,
    interval: Option<Duration>,
}

impl Live {
    /// Nothing at all if `quiet`.
    pub(crate) fn new(quiet: bool, interval: Option<Duration>) -> Self {
        Self { quiet, interval }
    }

    /// Shows `migration` until it has ended.
    pub(crate) fn follow(&self, migration: &Migration) {
        let terminal = std::io::stderr().is_terminal() && !self.quiet;
        let bar = bar(terminal);
        let mut lines = self.interval.map(Lines::new);
        let mut wait = REFRESH;
        while !migration.wait_for(wait) {
            wait = REFRESH;
            if self.quiet || !(terminal || lines.is_some()) {
                continue;
            }
            let summary = report::summary(migration);
            if summary.status != Status::Active {
                continue;
            }
            if terminal {
                bar.set_length(summary.ram_bytes);
                bar.set_position(unique_bytes(&summary));
                bar.set_message(line(&summary));
            } else if let (Some(lines), Some(ns)) = (&mut lines, summary.connected_for_ns) {
                if lines.is_due(ns) {
                    standard_error::line(format_args!(
                        "{:8.1} s  {}",
                        ns as f64 / 1e9,
                        line(&summary)
                    ));
                }
                wait = wait.min(lines.until_due(ns));
            }
        }
        bar.finish_and_clear();
    }
}

/// A bar for mapping and prefaulting the pool; it shows nothing without a pool.
pub(crate) fn prefault_progress(bytes: u64, quiet: bool) -> ProgressBar {
    let shown = bytes > 0 && !quiet && std::io::stderr().is_terminal();
    let bar = bar(shown);
    bar.set_length(bytes);
    bar.set_message("prefaulting guest memory");
    bar
}

/// Figures of a run under way, in one line.
fn line(summary: &Summary) -> String {
    let rate = summary.bytes_per_second_now.or(summary.bytes_per_second).unwrap_or(0.0);
    let loads: Vec<String> = summary
        .readers
        .iter()
        .map(|reader| format!("{:.0}", reader.share.unwrap_or(0.0) * 100.0))
        .collect();
    format!(
        "{:.2} GiB/s  {} of {} unique  {} resent  round {}  readers {} %",
        rate / GIB,
        BinaryBytes(unique_bytes(summary)),
        BinaryBytes(summary.ram_bytes),
        BinaryBytes(summary.pages.resent() * u64::from(summary.page_bytes)),
        summary.rounds,
        loads.join(" "),
    )
}

fn unique_bytes(summary: &Summary) -> u64 {
    summary.pages.unique * u64::from(summary.page_bytes)
}

fn bar(shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

const REFRESH: Duration = Duration::from_millis(200);
pub(crate) const GIB: f64 = (1u64 << 30) as f64;
