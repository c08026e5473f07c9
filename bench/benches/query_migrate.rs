//! How long `query-migrate` takes while readers count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion};
use landfall_bench::send::{End, Progress, SendOptions, Target, send};
use landfall_bench::{Plan, SourceConfig};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Receiver, ReceiverConfig};
use landfall_receiver::report::query_migrate;
use serde_json::Value;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let ram_bytes: u64 = if measuring { 512 << 20 } else { 32 << 20 };
    for channels in [2, 8, 64] {
        let config = ReceiverConfig {
            memory: MemoryConfig {
                hugepages: Hugepages::Off,
                pool_bytes: ram_bytes + (64 << 20),
                ..MemoryConfig::default()
            },
            readers: Some(2),
            ..ReceiverConfig::default()
        };
        let receiver = Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).expect("memory");
        let plan = Plan::new(SourceConfig::new(1, ram_bytes, channels)).expect("possible");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    migrate(&receiver, &plan, channels);
                }
            });
            criterion.bench_function(&format!("query-migrate/{channels} channels"), |bencher| {
                query(bencher, &receiver, ram_bytes);
            });
            stop.store(true, Relaxed);
        });
    }
    criterion.final_summary();
}

/// One whole migration after the other is what there is to count.
fn migrate(receiver: &Receiver, plan: &Plan, channels: u8) {
    let address = Address::parse("tcp:127.0.0.1:0").expect("an address");
    let incoming = Incoming { channels: Some(channels), ..Incoming::default() };
    let migration = receiver.start(&[address], incoming, &mut |_| None).expect("it listens");
    let port = migration.socket_address[0]["port"].as_str().expect("a port");
    let target =
        Target::Tcp { host: "127.0.0.1".to_owned(), port: port.parse().expect("a number") };
    let outcome = send(plan, &target, &SendOptions::default(), &Progress::new());
    assert_eq!(outcome.end, End::Completed);
    assert_eq!(migration.wait().error, None);
}

/// Only questions that a running migration answers count.
fn query(bencher: &mut Bencher<'_>, receiver: &Receiver, ram_bytes: u64) {
    bencher.iter_custom(|times| {
        let mut spent = Duration::ZERO;
        let mut asked = 0;
        while asked < times {
            let migration = receiver.current();
            let start = Instant::now();
            let answer = query_migrate(migration.as_deref());
            let elapsed = start.elapsed();
            if answer["status"] == "active" && answer["ram"] != Value::Null {
                let number = |name: &str| answer["ram"][name].as_u64().expect("a number");
                assert!(number("total") >= ram_bytes, "all blocks count");
                assert!(number("remaining") <= number("total"));
                assert_eq!(number("transferred"), number("normal") * number("page-size"));
                spent += elapsed;
                asked += 1;
            }
        }
        spent
    });
}
