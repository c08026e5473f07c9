//! What a packet, and a run of pages between zero pages, cost readers that wait for them, as with a
//! real source: migrations of as many packets that hold less and less data, over every network.

use landfall_bench::compare::median;
use landfall_bench::forecast::Calibration;

use crate::draw::NETWORKS;
use crate::machine::{Host, Migration, network};
use crate::migrations::calibration;

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn what_a_packet_costs() {
    let host = Host::new();
    let mut all = vec![vec![Vec::new(); ZERO_PERCENTS.len()]; NETWORKS.len()];
    // In turn, so that what the machine does meanwhile falls on all shapes.
    for _ in 0..TURNS {
        for (link_gbit, each) in NETWORKS.iter().zip(&mut all) {
            for (zero_percent, runs) in ZERO_PERCENTS.into_iter().zip(each) {
                let migration = Migration { zero_percent, ..calibration(*link_gbit) };
                runs.push(host.make(&migration).calibration());
            }
        }
    }
    let calibrated = ZERO_PERCENTS.iter().position(|zero| *zero == calibration(None).zero_percent);
    let calibrated = calibrated.expect("one of them");
    let names = ZERO_PERCENTS.map(|zero| format!("{zero} %")).join(" | ");
    println!(
        "| network | {names} | a GiB, s | a packet, us | a run, us |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (link_gbit, each) in NETWORKS.iter().zip(&all) {
        // What a forecast would say that knows one of the shapes.
        let costs = Calibration::receiver_costs(&each[calibrated]);
        let cell = |runs: &Vec<Calibration>| {
            let cpu_s = median(runs.iter().map(Calibration::cpu_s));
            let error = median(runs.iter().map(|run| run.cpu_s_by(&costs) / cpu_s - 1.0));
            assert!(error.abs() < 1.0, "{cpu_s} s, off by {error:+}");
            format!("{cpu_s:.3}, {:+.0} %", error * 100.0)
        };
        let cells: Vec<_> = each.iter().map(cell).collect();
        let runs: Vec<_> = each.iter().flatten().collect();
        let [gib_s, packet_s, run_s] = Calibration::page_costs(&runs).expect("told apart");
        println!(
            "| {} | {} | {gib_s:.3} | {:.1} | {:.2} |",
            network(*link_gbit),
            cells.join(" | "),
            packet_s * 1e6,
            run_s * 1e6,
        );
    }
}

const ZERO_PERCENTS: [u8; 6] = [0, 10, 30, 60, 80, 95];
const TURNS: usize = 5;
