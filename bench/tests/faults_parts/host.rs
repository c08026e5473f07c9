//! A receiver for synthetic sources, and what it must have got from them.

use std::sync::Arc;
use std::time::Duration;

use landfall_bench::send::{End, Fault, Outcome, Progress, SendOptions, Target, send};
use landfall_bench::{Plan, SourceConfig, verify};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::error::RunError;
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Migration, Receiver, ReceiverConfig};
use landfall_receiver::status::Status;

/// A receiver with two readers that calls a silence of `stall` a stall.
pub(super) fn receiver(stall: Duration) -> Receiver {
    let config = ReceiverConfig {
        memory: MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() },
        readers: Some(2),
        stall,
        ..ReceiverConfig::default()
    };
    Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).expect("a host that can")
}

/// A migration that waits for its source, and where.
pub(super) fn listen(receiver: &Receiver, channels: Option<u8>) -> (Arc<Migration>, u16) {
    let address = Address::parse("tcp:127.0.0.1:0").expect("an address");
    let incoming = Incoming { channels, ..Incoming::default() };
    let migration = receiver.start(&[address], incoming, &mut |_| None).expect("it listens");
    let port = migration.socket_address[0]["port"].as_str().expect("a port");
    let port = port.parse().expect("a number");
    (migration, port)
}

/// A guest of one block of `mib` MiB.
pub(super) fn plan(mib: u64, channels: u8, change: impl FnOnce(&mut SourceConfig)) -> Plan {
    let mut config = SourceConfig::new(42, mib << 20, channels);
    config.blocks.truncate(1);
    config.devices.devices = 6;
    change(&mut config);
    Plan::new(config).expect("possible")
}

/// Sends `plan`, at `bytes_per_second` if given and with `faults`.
pub(super) fn run(
    plan: &Plan,
    port: u16,
    bytes_per_second: Option<u64>,
    faults: Vec<Fault>,
    progress: &Progress,
) -> Outcome {
    let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
    let reply_timeout = Some(Duration::from_secs(60));
    let options = SendOptions { bytes_per_second, reply_timeout, faults, ..Default::default() };
    send(plan, &target, &options, progress)
}

/// The migration completed, and its RAM is what `plan` says.
pub(super) fn is_whole(plan: &Plan, migration: &Migration, outcome: &Outcome, label: &str) {
    assert_eq!(migration.wait().error, None, "{label}");
    assert_eq!(*migration.run.status(), Status::Completed, "{label}");
    assert_eq!(outcome.end, End::Completed, "{label}");
    let ram = migration.run.ram().expect("it has RAM");
    let read = |block: u16, offset, out: &mut [u8]| {
        ram[usize::from(block)].read(offset, out);
        Ok(())
    };
    verify(plan, 2, read).unwrap_or_else(|error| panic!("{label}: {error}"));
}

/// The migration failed; why.
pub(super) fn failed(migration: &Migration, label: &str) -> RunError {
    let error = migration.wait().error.clone().unwrap_or_else(|| panic!("{label}: completed"));
    assert_eq!(*migration.run.status(), Status::Failed, "{label}");
    assert!(migration.run.main.wire_bytes.get() >= 4, "{label}: counters are lost");
    error
}
