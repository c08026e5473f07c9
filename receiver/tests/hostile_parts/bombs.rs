//! Every length that a source can claim, as large as it can be: what is kept is
//! what came, at most. And nothing grows from run to run.

use std::fs;

use super::host::{CHANNELS, Host};
use super::source::*;
use super::{MAIN, N, ONE};

/// A claim, the bytes behind it, and the memory that they may cost at most.
struct Bomb {
    what: &'static str,
    script: Script,
    filler: usize,
    peak_kib_max: u64,
}

#[test]
fn no_length_that_a_source_claims_is_allocated() {
    let host = Host::with(|config| config.memory.max_ram_bytes = Some(64 << 20));
    for Bomb { what, script, filler, peak_kib_max } in bombs() {
        let channels = if script.steps[0].0 == MAIN { 0 } else { CHANNELS };
        let before = forget_peak();
        let attacked = host.start(Some(channels as u8));
        let mut source = Source::connect(attacked.port, channels);
        let to = script.steps.last().unwrap().0;
        let piece = vec![0x20; 1 << 20];
        // Refused as soon as may be: the rest may find nobody.
        let mut sent = source.send(&script.steps);
        for _ in 0..filler >> 20 {
            sent = sent.and_then(|()| source.send(&[(to, piece.clone())]));
        }
        source.close(to);
        let error = attacked.migration.wait().error.clone();
        let peak_kib = status_kib("VmHWM").saturating_sub(before);
        println!("{what}: {peak_kib} KiB at most, {}", error.as_ref().map_or("", |one| &one.text));
        assert!(error.is_some(), "{what}: it is no migration");
        assert!(peak_kib <= peak_kib_max, "{what}: {peak_kib} KiB, limit {peak_kib_max}");
    }
    host.is_at_rest("all bombs");
}

fn bombs() -> Vec<Bomb> {
    let config = configuration(MACHINE);
    let one_block = list(&[(BLOCK.as_bytes(), BLOCK_BYTES)]);
    let advise = command(3, &[0x1000u64.to_be_bytes(), 0x1000u64.to_be_bytes()].concat());
    let beginning = start_of(&config, &commands(), &one_block);
    let main = |bytes: Vec<u8>| Script { steps: vec![(MAIN, bytes)] };
    let header = |bytes: &[u8]| main([MAIN_MAGIC_3, bytes].concat());
    let ram = |list: &[u8]| main(start_of(&config, &commands(), list));
    let later = |bytes: &[u8]| main([&beginning, bytes].concat());
    let item_of = |bytes: &[u8]| later(&[&section(SECTION_PART), bytes].concat());
    let of_one = |packet: Vec<u8>| Script::legal(CHANNELS).spoilt(ONE, 2, packet);
    let state = |bytes: &[u8]| {
        let end = [section(SECTION_END), end_of_section()].concat();
        later(&[&end, bytes].concat())
    };
    let long_names: Vec<String> = (0..4096).map(|index| format!("{index:0255}")).collect();
    let long_names: Vec<_> = long_names.iter().map(|name| (name.as_bytes(), 4096)).collect();
    let other = |kind: u8, name: &str, bytes: &[u8]| {
        let start = [&[kind, 0, 0, 0, 9, name.len() as u8], name.as_bytes(), &[0; 7], &[1]];
        later(&[&start.concat(), bytes].concat())
    };
    let iterable = |name: &str, bytes: &[u8]| other(1, name, bytes);
    let bits = |bytes: u64| {
        [b"\x40\0\0\0\0\0\0\0\0\0\0\x10\0".to_vec(), bytes.to_be_bytes().to_vec()].concat()
    };
    let vfio = |bytes: u64| {
        [b"\xff\xff\xff\xff\xef\x10\0\x04".to_vec(), bytes.to_be_bytes().to_vec()].concat()
    };
    let plugged = |region: u64, block: u64| {
        let numbers = [0, region, block].map(u64::to_be_bytes).concat();
        other(4, "virtio-mem-device-early", &[&numbers[..], &[0; 12]].concat())
    };
    let mut size = packet(0, BLOCK, &[4, 5], &[]);
    size[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
    let vmdesc =
        |bytes: u32| state(&[&undescribed()[..], &[6], &bytes.to_be_bytes(), b"{\""].concat());
    let claim = |what, script, filler| Bomb { what, script, filler, peak_kib_max: CLAIM_KIB };
    vec![
        claim("name_len of 4 GiB", header(b"\x07\xff\xff\xff\xff"), 8 << 20),
        claim(
            "4 billion capabilities",
            header(
                &[&config[..], &subsection("configuration/capabilities", 1, &[0xff; 4])].concat(),
            ),
            8 << 20,
        ),
        claim("RAM of 16 EiB", ram(&list(&[(b"a", u64::MAX - 4095)])), 8 << 20),
        claim("XBZRLE of 64 KiB", item_of(&page_item(XBZRLE, 0, &[1, 0xff, 0xff])), 8 << 20),
        claim("COMPRESS_PAGE of 4 GiB", item_of(&page_item(0x100, 0, &[0xff; 4])), 8 << 20),
        claim(
            "a command of 64 KiB",
            header(&[&config[..], &advise, &[8, 0, 6, 0xff, 0xff]].concat()),
            8 << 20,
        ),
        claim(
            "a package of 4 GiB",
            header(&[&config[..], &advise, &command(7, &[0xff; 4])].concat()),
            8 << 20,
        ),
        claim("a package of 4 GiB and nothing before it", header(&command(7, &[0xff; 4])), 8 << 20),
        claim("bitmap bits of 16 EiB", iterable("dirty-bitmap", &bits(u64::MAX)), 8 << 20),
        claim("bitmap bits of 64 MiB", iterable("dirty-bitmap", &bits(64 << 20)), 40 << 20),
        claim("vfio data of 16 EiB", iterable("0000:00:05.0/vfio", &vfio(u64::MAX)), 8 << 20),
        claim("vfio data of 1 GiB", iterable("0000:00:05.0/vfio", &vfio(1 << 30)), 40 << 20),
        claim("virtio-mem of 16 EiB", plugged(u64::MAX, 1), 8 << 20),
        claim("virtio-mem with 64 MiB of bits", plugged(1 << 29, 1), 40 << 20),
        claim("an unknown section without an end", iterable("x-new", &[]), 40 << 20),
        claim("next_packet_size of 4 GiB", of_one(size), 8 << 20),
        claim("normal_pages of 4 billion", of_one(self::header(0, BLOCK, &[], &[], u32::MAX)), 0),
        claim("4096 blocks with the longest names", ram(&list(&long_names)), 8 << 20),
        // What is kept as it comes may cost as much as came, and its copy while
        // the memory under it grows.
        Bomb {
            what: "a device without an end, 40 MiB of it",
            script: state(b"\x04\0\0\0\x04\x05timer\0\0\0\0\0\0\0\x02"),
            filler: 40 << 20,
            peak_kib_max: 2 * (40 << 10) + CLAIM_KIB,
        },
        claim("a description of 4 GiB, 1 MiB of it", vmdesc(u32::MAX), 1 << 20),
        Bomb {
            what: "a description of 64 MiB, 40 MiB of it",
            script: vmdesc(64 << 20),
            filler: 40 << 20,
            peak_kib_max: 2 * (40 << 10) + CLAIM_KIB,
        },
        Bomb {
            what: "a description of 8 MiB that lists all it can",
            script: state(&described(&densest(8 << 20))),
            filler: 0,
            // Ten bytes of ours for one of text, at the very most.
            peak_kib_max: 10 * (8 << 10) + CLAIM_KIB,
        },
    ]
}

/// A description whose entries take as little text, and as much memory, as can be.
fn densest(bytes: usize) -> Vec<u8> {
    let entry = br#"{"name":"a","instance_id":0}"#;
    let mut text = br#"{"devices":["#.to_vec();
    while text.len() < bytes {
        text.extend(entry);
        text.push(b',');
    }
    text.extend(entry);
    text.extend(b"]}");
    text
}

#[test]
fn hundreds_of_failed_runs_leave_no_memory_behind() {
    let host = Host::new(10_000);
    let legal = Script::legal(CHANNELS);
    let mut settled_kib = 0;
    for run in 0..RUNS {
        let attacked = host.start(N);
        let mut source = Source::connect(attacked.port, CHANNELS);
        let bytes = legal.bytes() * run / RUNS;
        let cut = bytes.max(legal.steps[..3].iter().map(|(_, step)| step.len()).sum());
        source.send_bytes(&legal.steps, cut).unwrap();
        drop(source);
        assert!(attacked.migration.wait().error.is_some());
        if run == RUNS / 4 {
            settled_kib = status_kib("RssAnon");
        }
    }
    host.is_at_rest("all of them");
    let (now_kib, runs) = (status_kib("RssAnon"), RUNS * 3 / 4);
    println!("RssAnon {settled_kib} KiB, after {runs} more failed runs {now_kib} KiB");
    assert!(now_kib <= settled_kib + LEFT_KIB, "{settled_kib} KiB grew to {now_kib} KiB");
}

/// Forgets the highest use of memory so far, and says what it is now, KiB.
fn forget_peak() -> u64 {
    fs::write("/proc/self/clear_refs", "5").expect("a process may forget its peak");
    status_kib("VmHWM")
}

/// A line of proc_pid_status(5) in KiB.
fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).expect(name);
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What a claim that is refused may cost: the buffers of a run, its threads,
/// its RAM of 256 KiB, and blocks that are carved before it is refused (16 MiB).
const CLAIM_KIB: u64 = 24 << 10;
const RUNS: usize = 240;
const LEFT_KIB: u64 = 4 << 10;
