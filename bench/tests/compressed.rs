//! Compressed packets and device state over real sockets, from the synthetic source to a receiver:
//! every page must be what the seed promises.

#[path = "mask_parts/masks.rs"]
mod masks;

use std::sync::Arc;

use landfall_bench::{
    Plan, SourceConfig,
    encode::compressed::Compression,
    form::{Version, ZeroForm},
    script::{Op, Stream},
    send::{Cut, End, Fault, Outcome, Progress, SendOptions, Target, send},
    verify,
};
use landfall_pagepool::Hugepages;
use landfall_receiver::{
    error::Family,
    listen::Address,
    migration::Sink,
    receiver::{Incoming, Migration, Receiver, ReceiverConfig},
    report::query_receiver,
    wire,
};

const METHODS: [Compression; 5] = [
    Compression::Zlib,
    Compression::Zstd,
    Compression::Qpl,
    Compression::Uadk,
    Compression::Qatzip,
];

/// A guest of 8 MiB, half of whose pages can be made smaller.
fn plan(compression: Compression, change: impl FnOnce(&mut SourceConfig)) -> Plan {
    let mut config = SourceConfig::new(7, 8 << 20, 3);
    config.blocks.truncate(2);
    config.blocks[1].bytes = 1 << 20;
    config.compression = compression;
    config.compressible_share = 0.5;
    change(&mut config);
    Plan::new(config).expect("possible")
}

fn receiver(change: impl FnOnce(&mut ReceiverConfig)) -> Receiver {
    let mut config = ReceiverConfig { readers: Some(2), ..ReceiverConfig::default() };
    config.memory.hugepages = Hugepages::Off;
    change(&mut config);
    Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).expect("this host can")
}

/// One migration.
fn migrate(
    receiver: &Receiver,
    plan: &Plan,
    incoming: Incoming,
    options: &SendOptions,
) -> (Arc<Migration>, Outcome) {
    let address = Address::parse("tcp:127.0.0.1:0").expect("an address");
    let migration = receiver.start(&[address], incoming, &mut |_| None).expect("it listens");
    let port = migration.socket_address[0]["port"].as_str().expect("a port");
    let target: Target = format!("tcp:127.0.0.1:{port}").parse().expect("a target");
    let outcome = send(plan, &target, options, &Progress::new());
    migration.wait();
    (migration, outcome)
}

fn assert_whole(migration: &Migration, plan: &Plan, label: &str) {
    let ended = migration.wait();
    assert_eq!(ended.error, None, "{label}");
    let ram = ended.received.ram.as_ref().expect("RAM");
    let read = |block: u16, offset: u64, out: &mut [u8]| {
        ram[usize::from(block)].read(offset, out);
        Ok(())
    };
    verify(plan, 1, read).unwrap_or_else(|error| panic!("{label}: {error}"));
    let sent = plan.sent();
    let report = query_receiver(migration);
    assert_eq!(report["pages"]["normal-pages"], sent.pages.normal, "{label}");
    assert_eq!(report["wire"]["channel-bytes"], sent.channel_bytes.iter().sum::<u64>(), "{label}");
}

#[test]
fn every_method_brings_every_page_over_both_forms_of_packets() {
    let receiver = receiver(|_| {});
    for compression in METHODS {
        for (version, zero) in [
            (Version::new(10, 0), ZeroForm::InPackets),
            (Version::new(10, 0), ZeroForm::FullPages),
            (Version::new(7, 2), ZeroForm::OnMain),
        ] {
            let plan = plan(compression, |config| {
                config.speak_as(version, &format!("pc-q35-{version}")).expect("a machine");
                config.form.zero = zero;
            });
            let label = format!("{compression:?} as {version} with {zero:?}");
            let (migration, outcome) =
                migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
            assert_whole(&migration, &plan, &label);
            assert_eq!(outcome.end, End::Completed, "{label}");
            let found = query_receiver(&migration)["compression"]["method"].clone();
            assert_eq!(found, format!("{compression:?}").to_lowercase(), "{label}");
        }
    }
}

#[test]
fn larger_target_pages_are_compressed_too() {
    let receiver = receiver(|_| {});
    for compression in METHODS {
        let plan = plan(compression, |config| {
            (config.page_bytes, config.target_page_bits) = (65536, true);
        });
        let (migration, _) =
            migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
        assert_whole(&migration, &plan, &format!("{compression:?}"));
    }
}

#[test]
fn a_run_cut_inside_a_payload_leaves_nothing_to_the_next() {
    let receiver = receiver(|_| {});
    for compression in METHODS {
        let plan = plan(compression, |_| {});
        let half = plan.sent().channel_bytes[1] / 2;
        let cut = Fault::Cut { stream: Stream::Channel(1), after_bytes: half, how: Cut::Close };
        let options = SendOptions { faults: vec![cut], ..SendOptions::default() };
        let (migration, _) = migrate(&receiver, &plan, Incoming::default(), &options);
        let error = migration.wait().error.clone().expect("it was cut");
        assert_eq!(error.family, Family::Misbehaved, "{error}");
        drop(migration);
        let (migration, _) =
            migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
        assert_whole(&migration, &plan, &format!("after a cut, {compression:?}"));
    }
}

#[test]
fn another_method_than_the_one_that_was_set_is_told_by_both_names() {
    let receiver = receiver(|_| {});
    for (sent, set, text) in [
        (Compression::Zstd, wire::Compression::Zlib, "is zstd, multifd-compression is set to zlib"),
        (Compression::None, wire::Compression::Zlib, "is none, multifd-compression is set to zlib"),
        (Compression::Qpl, wire::Compression::None, "is qpl, multifd-compression is set to none"),
    ] {
        let incoming = Incoming { compression: Some(set), ..Incoming::default() };
        let (migration, outcome) =
            migrate(&receiver, &plan(sent, |_| {}), incoming, &SendOptions::default());
        let error = migration.wait().error.clone().expect("refused");
        assert!(error.family == Family::Misbehaved && error.text.contains(text), "{error}");
        assert_ne!(outcome.end, End::Completed);
        drop(migration);
        let incoming = Incoming { compression: Some(set), ..Incoming::default() };
        let same = METHODS.into_iter().find(|method| method.flag() == 2 && text.contains("zlib"));
        let plan = plan(same.unwrap_or_default(), |_| {});
        let (migration, _) = migrate(&receiver, &plan, incoming, &SendOptions::default());
        assert_whole(&migration, &plan, "the method that was set");
    }
}

#[test]
fn staging_memory_has_a_cap_that_is_named() {
    let receiver = receiver(|config| config.staging_max = 2 << 20);
    let plan = plan(Compression::Zlib, |_| {});
    let (migration, _) = migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
    let error = migration.wait().error.clone().expect("three channels need more");
    assert_eq!(error.family, Family::Environment, "{error}");
    assert!(error.text.contains("of 2097152 are in use: raise --staging-max"), "{error}");
}

#[test]
fn compressed_pages_that_are_dropped_are_counted_and_not_decoded() {
    let receiver = receiver(|config| config.sink = Sink::Discard);
    for compression in [Compression::Zstd, Compression::Qatzip] {
        let plan = plan(compression, |config| config.devices.packets = 4);
        let (migration, outcome) =
            migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
        assert_eq!(migration.wait().error, None);
        assert_eq!(outcome.end, End::Failed { shut: 1 });
        let report = query_receiver(&migration);
        assert_eq!(report["pages"]["normal-pages"], plan.sent().pages.normal);
        assert_eq!(report["compression"]["decompress-ns"], 0);
        assert_eq!(report["device-packets"]["packets"], 4);
    }
}

#[test]
fn device_state_on_channels_is_kept_as_it_came_or_dropped_on_request() {
    let plan = plan(Compression::Zstd, |config| config.devices.packets = 11);
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for op in plan.script() {
        if let Op::DevicePacket(packet) = op {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            sent.push(bytes);
        }
    }
    sent.sort();
    let receiver = receiver(|_| {});
    let (migration, outcome) =
        migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
    assert_whole(&migration, &plan, "kept");
    assert_eq!(outcome.end, End::Completed);
    let mut kept: Vec<Vec<u8>> = migration
        .run
        .terms
        .device_packets
        .with_kept(|kept| kept.iter().map(|packet| packet.bytes.clone()).collect());
    kept.sort();
    assert!(kept == sent, "{} packets kept, {} sent", kept.len(), sent.len());
    let report = query_receiver(&migration);
    assert_eq!(report["device-packets"]["devices"][0]["idstr"], "0000:00:05.0/vfio");
    assert_eq!(report["device-packets"]["kept"], true);
    drop(migration);

    let receiver = self::receiver(|config| config.keep_device_packets = false);
    let (migration, outcome) =
        migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
    assert_whole(&migration, &plan, "dropped");
    // Who has not kept everything does not take the guest.
    assert_eq!(outcome.end, End::Failed { shut: 1 });
    let report = query_receiver(&migration);
    assert_eq!(
        (&report["device-packets"]["packets"], &report["device-packets"]["kept"]),
        (&11.into(), &false.into())
    );

    // One channel, which has its own staging memory before the packets have taken the rest:
    // of several, one may come too late for it, and then it is that which is missing.
    let receiver = self::receiver(|config| config.staging_max = 2 << 20);
    let plan = self::plan(Compression::None, |config| {
        config.channels = 1;
        config.devices.packets = 100;
    });
    let (migration, _) = migrate(&receiver, &plan, Incoming::default(), &SendOptions::default());
    let error = migration.wait().error.clone().expect("more than may be kept");
    assert_eq!(error.family, Family::Environment, "{error}");
    assert!(error.text.contains("--device-packets drop"), "{error}");
}
