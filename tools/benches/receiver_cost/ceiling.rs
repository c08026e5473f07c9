//! The bare ceiling in a process of its own.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use landfall_bench::ceiling::{self, Memory};
use landfall_receiver::reader::process_cpu_use;
use memmap2::{Advice, MmapOptions};

use crate::landfall::send;
use crate::{Cost, Scenario};

/// First argument of the child process.
pub(crate) const CHILD: &str = "ceiling-child";

/// One run of the loop `kind` in a child, fed by the synthetic source.
pub(crate) fn run(scenario: &Scenario, kind: &str) -> Cost {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args([CHILD, kind, &scenario.channels.to_string()])
        .args([&scenario.mib.to_string(), &scenario.memory])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    let port = line();
    send(scenario, &format!("tcp:127.0.0.1:{port}"));
    let figures = line();
    let mut figures = figures.split(' ').map(|figure| figure.parse::<f64>().expect("a number"));
    let mut next = || figures.next().expect("three numbers");
    let cost = Cost { bytes: next() as u64, cpu_s: next(), wall_s: next() };
    assert!(child.wait().expect("the child").success());
    cost
}

/// The child: listens, receives until all sockets end, prints what it used.
pub(crate) fn child(arguments: &[String]) {
    let [kind, channels, mib, memory] = arguments else { panic!("four arguments") };
    let channels: usize = channels.parse().expect("a number of channels");
    let bytes = mib.parse::<usize>().expect("a number of MiB") << 20;
    let memory = prefaulted(bytes.max(4 << 20), memory);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("bound").port());
    let mut sockets: Vec<OwnedFd> = Vec::new();
    let (first, _) = listener.accept().expect("main");
    // As for landfall: from the first connection on.
    let (cpu_before, start) = (process_cpu_use(), Instant::now());
    sockets.push(first.into());
    for _ in 0..channels {
        sockets.push(listener.accept().expect("a channel").0.into());
    }
    // Main carries next to nothing: its share of the memory is as small.
    let main = sockets.split_off(1);
    let (main, channels_of) = (sockets, main);
    let drain = std::thread::spawn(move || {
        ceiling::blocking(&main, Memory::leak(vec![0; 1 << 20]), 1).expect("main is received")
    });
    let threads = channels.min(2);
    let report = match kind.as_str() {
        "blocking" => ceiling::blocking(&channels_of, memory, threads),
        _ => ceiling::ring(&channels_of, memory, threads),
    }
    .expect("everything is received");
    let main = drain.join().expect("main's thread");
    let cpu = process_cpu_use().since(cpu_before);
    println!(
        "{} {} {}",
        report.bytes + main.bytes,
        cpu.total_ns() as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
}

fn prefaulted(bytes: usize, kind: &str) -> Memory {
    let huge = 2 << 20;
    let bytes = bytes.next_multiple_of(huge);
    let mut options = MmapOptions::new();
    if kind == "2M" {
        options.huge(Some(21));
    }
    let map = options.len(bytes).map_anon().expect("memory");
    if kind != "2M" {
        map.advise(Advice::HugePage).expect("transparent hugepages");
    }
    map.advise(Advice::PopulateWrite).expect("memory is there");
    Memory::leak_map(map)
}
