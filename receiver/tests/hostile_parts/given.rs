//! One stream that was handed over: nobody else can come, so whatever makes a stray of others is the
//! end of the run.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use landfall_receiver::error::Family::{Malformed, Misbehaved};
use landfall_receiver::receiver::Incoming;

use super::MAIN;
use super::host::{Attacked, Host};
use super::source::*;

/// A run whose one stream is a socket, and the source at its other end.
fn start(host: &Host, incoming: Incoming) -> (Attacked, Source) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let attacked = host.start_given(OwnedFd::from(ours), incoming);
    (attacked, Source::of(vec![TcpStream::from(OwnedFd::from(theirs))]))
}

#[test]
fn a_given_stream_may_be_silent_for_as_long_as_it_likes_before_it_begins() {
    let host = Host::with(|config| config.stall = STALL);
    let (attacked, mut source) = start(&host, Incoming::default());
    thread::sleep(3 * STALL);
    let script = super::rules::part(&[]);
    source.send(&[(MAIN, script.steps[0].1[..2].to_vec())]).unwrap();
    thread::sleep(STALL / 2);
    source.send(&[(MAIN, script.steps[0].1[2..].to_vec())]).unwrap();
    source.send(&script.steps[1..]).unwrap();
    assert_eq!(attacked.migration.wait().error, None);
    assert_eq!(attacked.strays(), 0);
}

#[test]
fn what_makes_a_stray_of_others_ends_the_run_of_a_given_stream() {
    let host = Host::with(|config| config.stall = STALL);
    for (what, bytes, family, part) in [
        ("two bytes", b"QE".to_vec(), Misbehaved, "unix: 2 bytes in 1 s, and nobody else can come"),
        ("an Init", init(7, 0), Misbehaved, "unix: is a multifd channel, without a main stream"),
        ("garbage", b"GET / HTTP/1.1".to_vec(), Malformed, "unknown channel magic"),
    ] {
        let (attacked, mut source) = start(&host, Incoming::default());
        source.send(&[(MAIN, bytes)]).unwrap();
        assert!(attacked.migration.wait_for(Duration::from_secs(10)), "{what}: it waits for ever");
        let error = attacked.migration.wait().error.clone().expect(what);
        assert_eq!(error.family, family, "{what}: {error}");
        assert!(error.text.contains(part), "{what}: {error}");
        assert!(source.is_let_go(), "{what}");
    }
    let allow: landfall_receiver::door::Allow = Box::new(|_| false);
    let (attacked, _source) = start(&host, Incoming { allow: Some(allow), ..Incoming::default() });
    assert!(attacked.migration.wait_for(Duration::from_secs(10)), "not allowed: it waits for ever");
    let error = attacked.migration.wait().error.clone().expect("nobody may come");
    assert!(error.text.contains("is not in --allow, and nobody else can come"), "{error}");
}

const STALL: Duration = Duration::from_secs(1);
