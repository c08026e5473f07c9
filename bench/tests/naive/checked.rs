//! A guest small enough for debug builds, sent into the simple destination and compared.

use fastrand::Rng;
use landfall_bench::{Plan, SourceConfig, verify};

use super::{Arrived, Wire, receive};

/// A guest small enough for debug builds: two blocks and a tiny one.
pub(crate) fn small(seed: u64, channels: u8) -> SourceConfig {
    let mut config = SourceConfig::new(seed, 3 << 20, channels);
    config.blocks.truncate(3);
    config.blocks[1].bytes = 1 << 20;
    config.dirty_share = 0.3;
    config.part_pages = 300;
    config.devices.devices = 5;
    config.devices.device_bytes_max = 500;
    config
}

/// Sends into the simple destination in a random order of streams and compares everything.
pub(crate) fn check(config: SourceConfig) -> (Plan, Arrived) {
    let shown = format!("{config:?}");
    let seed = config.seed;
    let plan = Plan::new(config).expect("possible");
    let wire = Wire::of(&plan);
    let mut random = Rng::with_seed(seed);
    let arrived = receive(&plan, &wire, |streams| random.usize(..streams));
    let result = verify(&plan, 2, |block, offset, out| {
        let start = offset as usize;
        out.copy_from_slice(&arrived.ram.blocks[usize::from(block)].1[start..start + out.len()]);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let sent = plan.sent();
    assert_eq!(arrived.ram.counts.normal, sent.pages.normal, "{shown}");
    assert_eq!(arrived.ram.counts.zero, sent.pages.zero, "{shown}");
    assert_eq!(arrived.ram.counts.xbzrle, sent.xbzrle, "{shown}");
    assert_eq!(arrived.sync_points, sent.sync_points.len(), "{shown}");
    assert_eq!(sent.unique, plan.guest().pages_sent_total());
    assert_eq!(sent.unique + sent.resent, sent.pages.normal + sent.pages.zero);
    assert_eq!(sent.main_bytes, wire.main.len() as u64);
    let channel_bytes: Vec<u64> = wire.channels.iter().map(|bytes| bytes.len() as u64).collect();
    assert_eq!(sent.channel_bytes, channel_bytes);
    assert_eq!(arrived.main.tail, plan.device_state());
    assert_eq!(arrived.main.vmdesc.as_deref(), plan.vmdesc());
    (plan, arrived)
}
