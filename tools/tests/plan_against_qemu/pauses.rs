//! What a guest's pause takes beside its pages: migrations over loopback as it is that stop their
//! guest with hardly a page left, or with a burst behind a rest, and what their source traced.

use std::slice;

use landfall_bench::compare::median;
use landfall_bench::forecast::{Calibration, PAGE_BYTES};

use crate::machine::{Host, Migration, Writes, traced};
use crate::migrations::calibration;

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn what_a_pause_takes_beside_its_pages() {
    let host = Host::new();
    let (mut pages_ns, mut seen_s) = (Vec::new(), Vec::new());
    let mut all = vec![Vec::new(); SHAPES.len()];
    // In turn, so that what the machine does meanwhile falls on all shapes.
    for _ in 0..TURNS {
        let full_speed = calibration(None);
        let told = host.make(&full_speed).calibration();
        pages_ns.push(
            Calibration::costs(slice::from_ref(&told), &full_speed.question(0.3))
                .pace
                .ns_per_normal_page,
        );
        seen_s.push(told.after_pages_s());
        for (migration, pauses) in SHAPES.iter().zip(&mut all) {
            pauses.push(Pause::of(&host.make(migration).trace));
        }
    }
    let page_ms = median(pages_ns.into_iter()) / 1e6;
    let seen_ms = median(seen_s.into_iter()) * 1e3;
    println!(
        "at full speed a page takes {:.2} us, device state and answer {seen_ms:.2} ms",
        page_ms * 1e3
    );
    println!(
        "| guest | pages left | stopping, ms | last pass, ms | saving devices, ms | loading and answer, ms | all, ms | beside what a calibration tells, ms |\n|---|---|---|---|---|---|---|---|"
    );
    let mut unseen = Vec::new();
    for (migration, pauses) in SHAPES.iter().zip(&all) {
        let middle = |figure: fn(&Pause) -> f64| median(pauses.iter().map(figure));
        unseen.push(median(
            pauses.iter().map(|pause| pause.all_ms() - pause.pages * page_ms - seen_ms),
        ));
        println!(
            "| {} channels, {} MiB, {} MiB/s, {} ms | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            migration.channels,
            migration.ram_mib,
            migration.max_bandwidth_mib,
            migration.downtime_limit_ms,
            middle(|pause| pause.pages),
            middle(|pause| pause.stopping_ms),
            middle(|pause| pause.last_pass_ms),
            middle(|pause| pause.saving_ms),
            middle(|pause| pause.answering_ms),
            middle(Pause::all_ms),
            unseen[unseen.len() - 1],
        );
    }
    let unseen = median(unseen.into_iter());
    println!("beside what a calibration tells, the median of all: {unseen:.2} ms");
    assert!((0.0..10.0).contains(&unseen), "{unseen} ms");
}

/// By the source's trace, all of one clock.
#[derive(Clone, Debug)]
struct Pause {
    pages: f64,
    stopping_ms: f64,
    last_pass_ms: f64,
    saving_ms: f64,
    answering_ms: f64,
}

impl Pause {
    fn of(trace: &str) -> Self {
        let at = |name: &str| -> f64 {
            let end = format!("vmstate_downtime_checkpoint src-{name}");
            let line = trace.lines().find(|line| line.ends_with(&end)).expect("traced");
            let (_, rest) = line.split_once('@').expect("a time");
            let (seconds, _) = rest.split_once(':').expect("a time");
            seconds.parse().expect("seconds")
        };
        let times = [
            "downtime-start",
            "vm-stopped",
            "iterable-saved",
            "non-iterable-saved",
            "downtime-end",
        ]
        .map(at);
        let between = |index: usize| (times[index + 1] - times[index]) * 1e3;
        let left = trace.lines().rfind(|line| line.contains(LEFT)).expect("what is left");
        Self {
            pages: traced(left, LEFT) / PAGE_BYTES as f64,
            stopping_ms: between(0),
            last_pass_ms: between(1),
            saving_ms: between(2),
            answering_ms: between(3),
        }
    }

    fn all_ms(&self) -> f64 {
        self.stopping_ms + self.last_pass_ms + self.saving_ms + self.answering_ms
    }
}

/// Of a guest that writes a little, with so short a `downtime-limit` that nothing much may be left.
const fn shape(ram_mib: u64, channels: u8) -> Migration {
    Migration {
        ram_mib,
        zero_percent: 90,
        channels,
        writes: Some(Writes { mib_per_second: 1, working_set_mib: 16 }),
        max_bandwidth_mib: 100,
        link_gbit: None,
        downtime_limit_ms: 10,
    }
}

/// Of one that leaves something, behind a rest: `max-bandwidth` is reached long before each stretch
/// of 100 ms ends.
const fn burst(channels: u8, max_bandwidth_mib: u64, downtime_limit_ms: u64) -> Migration {
    Migration {
        ram_mib: 512,
        zero_percent: 50,
        channels,
        writes: Some(Writes { mib_per_second: max_bandwidth_mib / 4, working_set_mib: 256 }),
        max_bandwidth_mib,
        link_gbit: None,
        downtime_limit_ms,
    }
}

#[rustfmt::skip]
const SHAPES: [Migration; 12] = [
    shape(256, 2), shape(1024, 2), shape(1024, 4), shape(1024, 8),
    burst(2, 100, 150), burst(2, 100, 350), burst(2, 200, 150), burst(2, 200, 350),
    burst(2, 300, 250), burst(4, 100, 250), burst(4, 200, 250), burst(4, 300, 350),
];
const TURNS: usize = 8;
/// Bytes left to be sent, in the line of a look at them.
const LEFT: &str = "exact pending size ";
