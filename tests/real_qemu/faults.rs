//! Real QEMU sources that go wrong, and strangers on the listener.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::{
    Case, Compression, Control, Count, Extra, Guest, Memory, Sender, Tls, Transport, ZeroPages,
};
use crate::destination::Destination;
use crate::machine::UUID;
use crate::process::wait_until;
use crate::run::{self, Programs, verify};
use crate::source::Source;
use crate::{programs, turn};

/// When a source dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// Right after `migrate` was accepted: perhaps nothing was sent.
    AtOnce,
    /// Pages are flowing.
    InRam,
    /// All RAM but the last round was sent, the source waits.
    BeforeSwitchover,
}

#[test]
fn a_source_killed_at_any_time_fails_the_run_and_the_next_source_migrates_whole() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    for sender in SENDERS {
        for memory in [&["--pool", "128M"][..], &[]] {
            killed_sources(&programs, sender, memory)
                .unwrap_or_else(|error| panic!("{sender:?}: {error}"));
        }
    }
}

#[test]
fn strangers_on_the_listener_do_not_disturb_a_real_migration() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    for sender in SENDERS {
        among_strangers(&programs, sender).unwrap_or_else(|error| panic!("{sender:?}: {error}"));
    }
}

#[test]
fn more_ram_than_allowed_is_refused_and_the_guest_stays_with_its_source() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    for sender in SENDERS {
        too_large(&programs, sender).unwrap_or_else(|error| panic!("{sender:?}: {error}"));
    }
}

#[test]
fn sources_without_a_description_end_in_silence() {
    let _turn = turn();
    let Some(programs) = programs() else { return };
    let old = Sender { qemu: "7.2", machine: "pc-i440fx-2.2" };
    for (sender, extra) in [
        (old, Extra::Plain),
        (SENDERS[0], Extra::NoDescription),
        (SENDERS[1], Extra::NoDescription),
    ] {
        for channels in [0, 4] {
            let case = Case { channels, extra, uuid: sender != old, ..case(sender) };
            let begin = Instant::now();
            run::into_landfall(&case, &programs, 9)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            println!("{:.1} s {case}", begin.elapsed().as_secs_f64());
        }
    }
}

/// Three runs whose source dies, then one that goes well, in one landfall: what
/// the dead left in its memory must not show.
fn killed_sources(programs: &Programs, sender: Sender, options: &[&str]) -> Result<(), String> {
    let case = Case { control: Control::Qmp, ..case(sender) };
    let scratch = run::scratch()?;
    let mut destination = Destination::start(&case, &programs.landfall, scratch.path(), options)?;
    let mut events = Vec::new();
    for (index, moment) in
        [Moment::InRam, Moment::BeforeSwitchover, Moment::AtOnce].into_iter().enumerate()
    {
        if index > 0 {
            destination.listen_again()?;
        }
        killed_source(programs, &case, moment, index as u64, &mut destination)
            .map_err(|error| destination.blame(&format!("{moment:?}: {error}")))?;
        events.extend(["setup", "active", "failed"]);
        let found = destination.qmp().wait_for_events(events.len())?;
        if found != events {
            return Err(format!("{moment:?}: the events were {found:?}, not {events:?}"));
        }
    }
    destination.listen_again()?;
    let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 100)?;
    let uri = destination.uri().to_owned();
    let state = source.migrate(&uri).map_err(|error| destination.blame(&error))?;
    events.extend(["setup", "active", "completed"]);
    let received = destination.finish(&events)?;
    verify(&case, &mut source, &state, &received).map(drop)
}

fn killed_source(
    programs: &Programs,
    case: &Case,
    moment: Moment,
    seed: u64,
    destination: &mut Destination,
) -> Result<(), String> {
    let case = match moment {
        Moment::BeforeSwitchover => {
            Case { extra: Extra::PauseBeforeSwitchover, guest: Guest::Paused, ..*case }
        }
        Moment::AtOnce | Moment::InRam => *case,
    };
    let scratch = run::scratch()?;
    let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), seed)?;
    source.begin(destination.uri())?;
    match moment {
        Moment::AtOnce => {
            // The run must have begun: a connection that says nothing is none.
            wait_for(destination, |answer| answer["status"] == "active")?;
        }
        Moment::InRam => {
            wait_for(destination, |answer| answer["ram"]["normal"].as_u64() > Some(2000))?;
        }
        Moment::BeforeSwitchover => source.wait_for("pre-switchover")?,
    }
    drop(source); // kills it
    let answer = wait_for(destination, |answer| answer["status"] == "failed")?;
    if answer["error-desc"].as_str().is_none_or(str::is_empty) {
        return Err(format!("no error-desc: {answer}"));
    }
    if moment != Moment::AtOnce && answer["ram"]["normal"].as_u64() < Some(1000) {
        return Err(format!("the counters are lost: {answer}"));
    }
    Ok(())
}

fn wait_for(
    destination: &mut Destination,
    holds: impl Fn(&Value) -> bool,
) -> Result<Value, String> {
    wait_until("such an answer of query-migrate", Duration::from_secs(20), || {
        let answer = destination.qmp().command("query-migrate", json!({}))?;
        if answer["status"] == "completed" {
            return Err(format!("completed too early: {answer}"));
        }
        Ok(holds(&answer).then_some(answer))
    })
}

/// Strangers of every kind before the source comes and while it sends.
fn among_strangers(programs: &Programs, sender: Sender) -> Result<(), String> {
    let case = case(sender);
    let scratch = run::scratch()?;
    let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 7)?;
    let mut destination =
        Destination::start(&case, &programs.landfall, scratch.path(), &["--uuid", UUID])?;
    let uri = destination.uri().to_owned();
    let address = uri.trim_start_matches("tcp:").to_owned();
    let mut held = strangers(&address)?;
    let state = thread::scope(|scope| {
        let late = scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            strangers(&address)
        });
        let state = source.migrate(&uri);
        // A run that is over no longer listens; its own verdict comes first.
        held.extend(late.join().expect("it does not panic").unwrap_or_default());
        state
    })
    .map_err(|error| destination.blame(&error))?;
    let received = destination.finish(&[])?;
    let strays = received.report["stray-connections"].as_u64();
    if strays < Some(STRANGERS) {
        return Err(format!("{strays:?} strays are in the report, at least {STRANGERS} came"));
    }
    verify(&case, &mut source, &state, &received).map(drop)
}

/// Connects as strangers do; those that stay open are returned.
fn strangers(address: &str) -> Result<Vec<TcpStream>, String> {
    let connect = || TcpStream::connect(address).map_err(|error| format!("{address}: {error}"));
    drop(connect()?); // a port scan
    let silent = connect()?;
    let mut babbling = connect()?;
    // It may be thrown out while it still talks.
    let _ = babbling.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut cut = connect()?;
    let _ = cut.write_all(&[0x11, 0x22]); // half a magic, then gone
    drop(cut);
    let mut other = connect()?;
    let mut init = [0; 64]; // a MultiFDInit of another VM
    init[..8].copy_from_slice(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]);
    init[8..24].fill(0xee);
    let _ = other.write_all(&init);
    Ok(vec![silent, babbling, other])
}

fn too_large(programs: &Programs, sender: Sender) -> Result<(), String> {
    let case = Case { return_path: true, ..case(sender) };
    let scratch = run::scratch()?;
    let mut source = Source::start(&case, programs.qemu(&case)?, scratch.path(), 8)?;
    let mut destination =
        Destination::start(&case, &programs.landfall, scratch.path(), &["--max-ram", "32M"])?;
    source.begin(destination.uri())?;
    source.wait_for("failed")?;
    destination.expect_exit(3)?; // this host will not: more room, or another limit, helps
    let log = destination.log();
    if log.contains("max-ram") { Ok(()) } else { Err(format!("no word of --max-ram: {log}")) }
}

/// A running guest over four channels into anonymous memory.
fn case(sender: Sender) -> Case {
    Case {
        sender,
        channels: 4,
        compression: Compression::Zstd,
        transport: Transport::Tcp,
        readers: 2,
        zero_pages: ZeroPages::Default,
        return_path: true,
        count: Count::Configured,
        memory: Memory::Base,
        guest: Guest::Running,
        control: Control::CommandLine,
        extra: Extra::Plain,
        uuid: true,
        two_blocks: false,
        tls: Tls::Off,
    }
}

/// How many come at a time.
const STRANGERS: u64 = 5;
/// One source of each version.
const SENDERS: [Sender; 2] = [
    Sender { qemu: "7.2", machine: "pc-q35-7.2" },
    Sender { qemu: "10.0", machine: "pc-q35-10.0" },
];
