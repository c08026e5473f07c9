//! What an operator allows a run, and the end that he makes of it himself: no source keeps it from
//! that.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use landfall_receiver::error::{Family, RunError};

use super::MAIN;
use super::host::{Attacked, Host};
use super::source::*;

/// A source whose main stream has bytes at any time, until nobody takes them.
fn endless(attacked: &Attacked) -> thread::JoinHandle<Source> {
    let mut source = Source::connect(attacked.port, 0);
    let start =
        start_of(&configuration(MACHINE), &commands(), &list(&[(BLOCK.as_bytes(), BLOCK_BYTES)]));
    let first = page_item(ZERO, 0, &[0]);
    source.send(&[(MAIN, [start, section(SECTION_PART), first].concat())]).unwrap();
    let zero = [item(ZERO | CONTINUE | 4096), vec![0]].concat();
    let zeros = [(MAIN, zero.repeat(10_000))];
    thread::spawn(move || {
        while source.send(&zeros).is_ok() {}
        source
    })
}

#[test]
fn max_time_ends_a_run_that_always_has_bytes() {
    let mut host = Host::with(|config| config.max_time = Some(MAX_TIME));
    let since = Instant::now();
    let attacked = host.start(Some(0));
    let source = endless(&attacked);
    assert!(attacked.migration.wait_for(Duration::from_secs(10)), "it goes on and on");
    let took = since.elapsed();
    let error = host.failed("max-time", attacked, source.join().ok());
    assert_eq!(error.family, Family::Misbehaved, "{error}");
    assert!(error.text.contains("longer than 2 s (--max-time)"), "{error}");
    assert!((MAX_TIME..3 * MAX_TIME).contains(&took), "{took:?}");
}

#[test]
fn an_operator_stops_a_run_that_always_has_bytes() {
    let host = Host::new(60_000);
    let attacked = host.start(Some(0));
    let source = endless(&attacked);
    attacked.wait_until("pages come", |one| one.run.main.zero.get() > 1_000_000);
    attacked.migration.run.fail(RunError::stopped());
    assert!(attacked.migration.wait_for(Duration::from_secs(5)), "it goes on and on");
    drop(source.join());
    drop(attacked);
    host.is_at_rest("stopped");
}

#[test]
fn nobody_listens_for_the_next_run_while_the_last_one_is_looked_at() {
    let host = Host::new(60_000);
    let last = host.start(Some(0));
    last.migration.run.fail(RunError::stopped());
    last.migration.wait();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let next = thread::scope(|scope| {
        let next = scope.spawn(|| host.start_at(&format!("tcp:127.0.0.1:{port}"), Some(0)));
        thread::sleep(Duration::from_millis(300));
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody listens");
        drop(last);
        next.join().expect("it is let go")
    });
    drop(TcpStream::connect(("127.0.0.1", port)).expect("somebody listens"));
    next.migration.run.fail(RunError::stopped());
    next.migration.wait();
}

const MAX_TIME: Duration = Duration::from_secs(2);
