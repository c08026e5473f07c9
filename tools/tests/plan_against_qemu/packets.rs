//! What a packet costs readers that wait for it, as with a real source: migrations of as many packets
//! full of data as nearly empty ones, over every network.

use landfall_bench::compare::median;

use crate::draw::NETWORKS;
use crate::machine::{Host, Migration, network};
use crate::migrations::calibration;

#[test]
#[ignore = "measures: docs/scaling.md has the command"]
fn what_a_packet_costs() {
    let host = Host::new();
    let mut all = vec![[Vec::new(), Vec::new()]; NETWORKS.len()];
    // In turn, so that what the machine does meanwhile falls on all shapes.
    for _ in 0..TURNS {
        for (link_gbit, both) in NETWORKS.iter().zip(&mut all) {
            for (zero_percent, runs) in [0, ZERO_PERCENT].into_iter().zip(both) {
                let migration = Migration { zero_percent, ..calibration(*link_gbit) };
                runs.push(host.make(&migration).cpu_s());
            }
        }
    }
    println!(
        "| network | CPU without zero pages, s | CPU with {ZERO_PERCENT} %, s | a GiB, s | a packet, us |\n|---|---|---|---|---|"
    );
    let mut packets_us = Vec::new();
    for (link_gbit, [full, thin]) in NETWORKS.iter().zip(&all) {
        let [full_s, thin_s] = [full, thin].map(|runs| median(runs.iter().copied()));
        let share = f64::from(ZERO_PERCENT) / 100.0;
        let gib_s = (full_s - thin_s) / share;
        // 1 GiB is 2048 packets of 512 KiB.
        let packet_us = (full_s - gib_s) / 2048.0 * 1e6;
        println!(
            "| {} | {full_s:.3} | {thin_s:.3} | {gib_s:.3} | {packet_us:.1} |",
            network(*link_gbit),
        );
        packets_us.push(packet_us);
    }
    let packet_us = median(packets_us.into_iter());
    println!("the median of all: {packet_us:.1} us");
    assert!((0.0..1000.0).contains(&packet_us), "{packet_us} us");
}

const ZERO_PERCENT: u8 = 80;
const TURNS: usize = 7;
