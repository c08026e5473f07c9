//! What a GiB, a packet and a run of pages cost the receiver: migrations of different shapes from the
//! synthetic source, and the costs that fit all of them best.

use std::fs;
use std::path::Path;
use std::time::Duration;

use landfall_bench::forecast::Calibration;

use crate::landfall;
use crate::process::{Process, wait_until};

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn what_a_gib_a_packet_and_a_run_of_pages_cost() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut all = Vec::new();
    // In turn, so that what the machine does meanwhile falls on all shapes.
    for turn in 0..TURNS {
        for (index, shape) in SHAPES.iter().enumerate() {
            let report = scratch.path().join(format!("{index}-{turn}.json"));
            run(shape, &report, scratch.path()).unwrap_or_else(|e| panic!("{shape:?}: {e}"));
            let text = fs::read_to_string(&report).expect("a report");
            all.push(Calibration::read(&text).unwrap_or_else(|e| panic!("{shape:?}: {e}")));
        }
    }
    let costs = Calibration::receiver_costs(&all);
    println!("{costs:#?}");
    println!("| shape | CPU-s measured | by the costs | error |\n|---|---|---|---|");
    for (index, shape) in SHAPES.iter().enumerate() {
        let runs = all.iter().skip(index).step_by(SHAPES.len());
        let found = landfall_bench::compare::median(runs.clone().map(Calibration::cpu_s));
        let by_costs =
            landfall_bench::compare::median(runs.clone().map(|run| run.cpu_s_by(&costs)));
        let error = (by_costs / found - 1.0) * 100.0;
        println!("| {} | {found:.3} | {by_costs:.3} | {error:+.0} % |", shape.name);
    }
    assert!(costs.s_per_gib > 0.0);
}

#[derive(Debug)]
struct Shape {
    name: &'static str,
    send: &'static str,
    channels: &'static str,
}

fn run(shape: &Shape, report: &Path, scratch: &Path) -> Result<(), String> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let json = report.display().to_string();
    let mut receive = words("receive tcp:127.0.0.1:4479 --pool 2080M --readers 2 -i 60");
    receive.extend(["--multifd", shape.channels, "--json", &json].map(str::to_owned));
    let mut destination = Process::start(&landfall(), receive, scratch.join("destination.log"))?;
    wait_until("listening destination", LIMIT, || {
        Ok(destination.log().contains("listening on").then_some(()))
    })?;
    let mut send = words("send tcp:127.0.0.1:4479 -q");
    send.extend(words(shape.send));
    send.extend(["--multifd", shape.channels].map(str::to_owned));
    let mut source = Process::start(&landfall(), send, scratch.join("source.log"))?;
    source.wait(LIMIT).map_err(|error| format!("{error}; {}", destination.log()))?;
    destination.wait(LIMIT)?;
    Ok(())
}

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    Shape { name: "1 GiB, no zero pages", send: "--ram 1G --rounds 1 --zero 0", channels: "2" },
    Shape { name: "2 GiB, no zero pages, 4 channels", send: "--ram 2G --rounds 1 --zero 0", channels: "4" },
    Shape { name: "1 GiB, half zero", send: "--ram 1G --rounds 1 --zero 50", channels: "2" },
    Shape { name: "2 GiB, 90 % zero, 8 channels", send: "--ram 2G --rounds 1 --zero 90", channels: "8" },
    Shape { name: "2 GiB, all zero", send: "--ram 2G --rounds 1 --zero 100", channels: "2" },
    Shape { name: "64 MiB, 300 rounds of 1 %", send: "--ram 64M --rounds 300 --zero 0 --dirty 1", channels: "2" },
    Shape { name: "64 MiB, 1000 rounds of nothing, 16 channels", send: "--ram 64M --rounds 1000 --zero 0 --dirty 0", channels: "16" },
    Shape { name: "256 MiB, 20 rounds of 10 %, 20 % zero", send: "--ram 256M --rounds 20 --zero 20 --dirty 10", channels: "4" },
];
const TURNS: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);
