//! What the synthetic source costs: making pages, going through a script, sending over loopback to
//! the bare ceiling. `LANDFALL_BENCH_MIB` is the guest's size; small by default, so that the
//! test suite runs it in passing. Pages are compared, what was sent is counted again.

use std::{
    net::TcpListener,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use landfall_bench::{
    Plan, SourceConfig,
    ceiling::{self, Memory},
    guest::{Expected, PageRef},
    send::{End, Progress, SendOptions, Target, send},
};
use nix::{
    sys::resource::{UsageWho, getrusage},
    sys::time::TimeValLike,
};

fn main() {
    let mib = std::env::var("LANDFALL_BENCH_MIB").ok().and_then(|text| text.parse().ok());
    let ram_bytes = mib.unwrap_or(16u64) << 20;
    make_pages(ram_bytes);
    go_through_a_script(ram_bytes);
    let memory = Memory::leak(vec![1; 64 << 20]);
    for channels in [0, 1, 4, 16, 64] {
        send_to_the_ceiling(ram_bytes, channels, memory);
    }
}

fn make_pages(ram_bytes: u64) {
    let plan = plan(ram_bytes, 0);
    let mut packet = vec![0; 512 * 1024];
    let mut spent = Spent::default();
    let pages = ram_bytes / 4096;
    for first in (0..pages).step_by(128) {
        let numbers = first..pages.min(first + 128);
        spent.on(|| {
            for (page, out) in numbers.clone().zip(packet.chunks_exact_mut(4096)) {
                plan.guest().fill(0, PageRef { page, generation: 0, zero: false }, out);
            }
        });
        for (page, found) in numbers.zip(packet.chunks_exact(4096)) {
            assert!(plan.guest().matches(0, page, Expected::Generation(0), found), "page {page}");
        }
    }
    report("make pages", ram_bytes, spent.wall, spent.cpu);
}

fn go_through_a_script(ram_bytes: u64) {
    let plan = plan(ram_bytes, 4);
    let mut spent = Spent::default();
    let sent = spent.on(|| plan.sent());
    let (guest, rounds) = (plan.guest(), plan.config().rounds);
    let is_dirty = |&(block, page, round): &(u16, u64, u32)| guest.is_dirty(block, page, round);
    let dirty = (0..guest.block_count() as u16)
        .flat_map(|block| (0..guest.pages_sent(block)).map(move |page| (block, page)))
        .flat_map(|(block, page)| (0..rounds).map(move |round| (block, page, round)))
        .filter(is_dirty)
        .count() as u64;
    assert_eq!(sent.unique, guest.pages_sent_total(), "every page is sent");
    assert_eq!(sent.unique + sent.resent, dirty, "and again in each round that finds it dirty");
    assert_eq!(sent.pages.normal, dirty, "none of them is zero");
    report("go through the script", sent.bytes(), spent.wall, spent.cpu);
}

fn send_to_the_ceiling(ram_bytes: u64, channels: u8, memory: Memory) {
    let plan = plan(ram_bytes, channels);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listener = &listener;
    let port = listener.local_addr().expect("bound").port();
    let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
    let before = cpu();
    let (outcome, received) = thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let accept = |_| OwnedFd::from(listener.accept().expect("a connection").0);
            let sockets: Vec<OwnedFd> = (0..=channels).map(accept).collect();
            ceiling::blocking(&sockets, memory, sockets.len()).expect("received")
        });
        let outcome = send(&plan, &target, &SendOptions::default(), &Progress::new());
        (outcome, receiving.join().expect("the ceiling"))
    });
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(received.bytes, plan.sent().bytes());
    let source_cpu = (cpu() - before).saturating_sub(Duration::from_nanos(received.cpu_ns));
    report(&format!("send, {channels} channels"), received.bytes, outcome.elapsed, source_cpu);
}

fn plan(ram_bytes: u64, channels: u8) -> Plan {
    let mut config = SourceConfig::new(1, ram_bytes, channels);
    (config.return_path, config.zero_share) = (false, 0.0);
    Plan::new(config).expect("possible")
}

/// Time that some work took, and no more than that.
#[derive(Default)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

impl Spent {
    fn on<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, before) = (Instant::now(), cpu());
        let done = work();
        self.wall += start.elapsed();
        self.cpu += cpu() - before;
        done
    }
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own usage");
    let ns = usage.user_time().num_nanoseconds() + usage.system_time().num_nanoseconds();
    Duration::from_nanos(u64::try_from(ns).expect("time goes up"))
}

fn report(what: &str, bytes: u64, wall: Duration, cpu: Duration) {
    let gib = bytes as f64 / (1u64 << 30) as f64;
    println!(
        "{what}: {gib:.2} GiB in {:.3} s, {:.2} GiB/s, {:.3} CPU-s/GiB",
        wall.as_secs_f64(),
        gib / wall.as_secs_f64(),
        cpu.as_secs_f64() / gib
    );
}
