//! Our own bugs: a thread of a run that panics fails its run, is heard, and leaves a receiver
//! that goes on. Each panic here is one that the code has for its own mistakes, or of a
//! function that the receiver was given.

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use landfall_receiver::error::{Family, RunError};
use landfall_receiver::receiver::Incoming;
use landfall_receiver::status::Status;

use super::host::{CHANNELS, Host};
use super::source::{Script, Source, To, connect};

#[test]
fn a_reader_that_panics_fails_its_run_and_nothing_hangs() {
    let mut host = Host::with(|config| config.readers = Some(CHANNELS));
    let (error, printed) = heard(|| {
        host.fails("a reader's panic", Some(CHANNELS as u8), |attacked| {
            let script = Script::legal(CHANNELS);
            let mut source = Source::connect(attacked.port, CHANNELS);
            let synced = script.step(To::Channel(0), 1);
            source.send(&script.steps[..synced]).unwrap();
            attacked.wait_until("the channels are known", |one| one.run.sync().is_some());
            // A SYNC that nobody sent: reader 0 finds that its own is the second.
            attacked.migration.run.sync().unwrap().reach(0, 1);
            source.send(&script.steps[synced..=synced]).unwrap();
            Some(source)
        })
    });
    check(&error, "reader-0", "channel 0: SYNC 1 after 1");
    assert_eq!(printed, ["reader-0"]);
}

#[test]
fn a_door_that_panics_fails_its_run_and_nothing_hangs() {
    let mut host = Host::new(10_000);
    let knocked = AtomicUsize::new(0);
    let incoming = Incoming {
        channels: Some(CHANNELS as u8),
        allow: Some(Box::new(move |_| {
            assert!(knocked.fetch_add(1, SeqCst) == 0, "one too many");
            true
        })),
        ..Incoming::default()
    };
    let (error, printed) = heard(|| {
        let attacked = host.start_for("tcp:127.0.0.1:0", incoming);
        let script = Script::legal(CHANNELS);
        let mut source = Source::of(vec![connect(attacked.port)]);
        let started = script.step(To::Main, 0);
        source.send(&script.steps[started..=started]).unwrap();
        attacked.wait_until("the RAM blocks are known", |one| one.run.ram().is_some());
        drop(connect(attacked.port));
        host.failed("a door's panic", attacked, Some(source))
    });
    check(&error, "door", "one too many");
    assert_eq!(printed, ["door"]);
}

#[test]
fn a_main_thread_that_panics_fails_its_run_and_nothing_hangs() {
    let (mut host, trap) = trapped();
    let (error, printed) = heard(|| {
        *trap.lock().unwrap() = Some(Status::Active);
        host.fails("main's panic", Some(CHANNELS as u8), |attacked| {
            let script = Script::legal(CHANNELS);
            let mut source = Source::connect(attacked.port, CHANNELS);
            // It may be refused before all of it is written.
            let _ = source.send(&script.steps);
            Some(source)
        })
    });
    check(&error, "main-stream", "told of active");
    assert_eq!(printed, ["main-stream"]);
}

#[test]
fn a_main_thread_that_panics_behind_its_run_changes_no_end_and_nothing_hangs() {
    let (mut host, trap) = trapped();
    let ((), printed) = heard(|| {
        *trap.lock().unwrap() = Some(Status::Completed);
        host.completes("a run whose end could not be told");
        host.is_at_rest("a run whose end could not be told");
        *trap.lock().unwrap() = Some(Status::Failed);
        let error = host.fails("a run whose failure could not be told", None, |attacked| {
            let script = Script::legal(CHANNELS);
            let mut source = Source::connect(attacked.port, CHANNELS);
            source.send(&script.steps[..script.step(To::Main, 1)]).unwrap();
            attacked.wait_until("the RAM blocks are known", |one| one.run.ram().is_some());
            source.reset(To::Main);
            Some(source)
        });
        assert_eq!(error.family, Family::Misbehaved, "{error}");
    });
    assert_eq!(printed, ["main-stream"; 2]);
}

/// A host whose observer panics once when it is told of the status that is set.
fn trapped() -> (Host, Arc<Mutex<Option<Status>>>) {
    let trap = Arc::new(Mutex::new(None));
    let set = Arc::clone(&trap);
    let observer = Arc::new(move |_: &_, status| {
        let sprung = set.lock().unwrap().take_if(|trap| *trap == status);
        assert!(sprung.is_none(), "told of {status}");
    });
    (Host::observed(observer, |_| {}), trap)
}

/// What `work` returns, and which threads of runs had their panics printed meanwhile: the
/// hook is what prints them.
fn heard<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let printed = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&printed);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        if ["reader", "door", "main-stream"].iter().any(|ours| name.starts_with(ours)) {
            hears.lock().unwrap().push(name);
        } else {
            before(info);
        }
    }));
    let result = work();
    drop(panic::take_hook());
    let printed = printed.lock().unwrap().clone();
    (result, printed)
}

fn check(error: &RunError, thread: &str, said: &str) {
    assert_eq!(error.family, Family::Internal, "{error}");
    let text = format!("internal error, a bug in landfall: thread {thread} panicked: {said}");
    assert_eq!(error.text, text);
}
