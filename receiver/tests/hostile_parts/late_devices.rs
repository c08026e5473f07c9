//! Device state on channels that comes when main is at its end, or never.

use std::thread;
use std::time::Duration;

use landfall_receiver::error::Family::Misbehaved;

use super::host::{CHANNELS, Host};
use super::source::*;
use super::{MAIN, N, ONE, rules};

/// A packet with a part of a device's state.
fn device_packet(payload: &[u8]) -> Vec<u8> {
    let mut bytes = sync()[..8].to_vec();
    bytes.extend(0x40u32.to_be_bytes());
    bytes.extend(b"0000:00:05.0/vfio");
    bytes.resize(12 + 256, 0);
    bytes.extend(7u32.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What QEMU puts into one: version, index, flags, data.
fn vfio(index: u32, flags: u32) -> Vec<u8> {
    [&[0, index, flags].map(u32::to_be_bytes).concat()[..], b"data"].concat()
}

/// The legal script, whose device state says that there is a VFIO device, and no more of it on main
/// than that: VFIO_MIG_FLAG_END_OF_STATE.
fn script() -> Script {
    let mut state = b"\x04\0\0\0\x04\x110000:00:05.0/vfio\0\0\0\x07\0\0\0\x02".to_vec();
    state.extend(0xffff_ffff_ef10_0001_u64.to_be_bytes());
    state.extend(b"\x7e\0\0\0\x04\0\x06");
    let text: &[u8] = br#"{"page_size": 4096, "devices": [{"name": "0000:00:05.0/vfio", "instance_id": 7, "fields": [{"size": 8}]}]}"#;
    state.extend((text.len() as u32).to_be_bytes());
    state.extend(text);
    Script::legal(CHANNELS).replaced(MAIN, 4, state)
}

#[test]
fn device_state_that_comes_after_mains_end_is_waited_for() {
    let host = Host::new(10_000);
    let script = script();
    for (what, first, late) in [
        ("the configuration is late", vfio(0, 0), vfio(1, 1)),
        ("one before it is late", vfio(1, 1), vfio(0, 0)),
        ("payloads of another form", b"some state".to_vec(), b"more".to_vec()),
    ] {
        let attacked = host.start(N);
        let mut source = Source::connect(attacked.port, CHANNELS);
        source.send(&script.steps[..script.steps.len() - 1]).unwrap();
        source.send(&[(ONE, device_packet(&first))]).unwrap();
        source.send(&script.steps[script.steps.len() - 1..]).unwrap();
        // As if TCP had to send it again.
        thread::sleep(LATE);
        let _ = source.send(&[(ONE, device_packet(&late))]);
        let migration = attacked.migration.clone();
        host.completed(attacked, source, what);
        let kept = migration.run.terms.device_packets.with_kept(<[_]>::len);
        assert_eq!(kept, 2, "{what}");
    }
}

#[test]
fn a_device_whose_configuration_never_comes_fails_the_run() {
    let mut host = Host::new(1_000);
    let script = script();
    let error = host.fails("no configuration", N, |attacked| {
        let mut source = Source::connect(attacked.port, CHANNELS);
        source.send(&script.steps[..script.steps.len() - 1]).unwrap();
        source.send(&[(ONE, device_packet(&vfio(0, 0)))]).unwrap();
        source.send(&script.steps[script.steps.len() - 1..]).unwrap();
        Some(source)
    });
    assert_eq!(error.family, Misbehaved, "{error}");
    let wanted = "packet 1 of '0000:00:05.0/vfio', instance 7, has not come";
    assert!(error.text.contains(wanted), "{error}");
}

#[test]
fn ram_is_done_at_its_own_end_and_not_at_a_devices() {
    let host = Host::new(10_000);
    let mut script = rules::part(&[]);
    // hw/vfio/migration.c: VFIO_MIG_FLAG_END_OF_STATE, and the footer.
    let body = [&0xffff_ffff_ef10_0001_u64.to_be_bytes()[..], b"\x7e\0\0\0\x09"].concat();
    let start = [&b"\x01\0\0\0\x09\x110000:00:05.0/vfio\0\0\0\0\0\0\0\x01"[..], &body].concat();
    script.steps[0].1.extend(start);
    let attacked = host.start(Some(0));
    let mut source = Source::connect(attacked.port, 0);
    source.send(&script.steps[..3]).unwrap();
    thread::sleep(LATE);
    source.send(&[(MAIN, [&b"\x03\0\0\0\x09"[..], &body].concat())]).unwrap();
    source.send(&script.steps[3..]).unwrap();
    let migration = attacked.migration.clone();
    host.completed(attacked, source, "an END behind ram's");
    let phases = migration.run.phases();
    let (ram_done, all_done) = (phases.ram_done.unwrap(), phases.device_state_done.unwrap());
    let between = Duration::from_nanos(all_done - ram_done);
    assert!(between >= LATE / 2, "{between:?}");
}

const LATE: Duration = Duration::from_millis(300);
