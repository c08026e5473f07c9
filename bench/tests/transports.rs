//! The synthetic source into files, commands and descriptors that were handed over, and from there
//! into a receiver: one stream, of which every page must be what the seed promises.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use landfall_bench::send::{
    End, NO_ANSWER, NOT_MULTI_CHANNEL, Progress, SendOptions, Stop, Target, send,
};
use landfall_bench::{Plan, SourceConfig, verify};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Migration, Receiver, ReceiverConfig};

/// A guest that sends every form of page that main has, with a return path or without.
fn plan(seed: u64, return_path: bool) -> Plan {
    let mut config = SourceConfig::new(seed, 12 << 20, 0);
    config.blocks.truncate(2);
    config.blocks[1].bytes = 2 << 20;
    (config.xbzrle, config.patched_share) = (true, 0.75);
    (config.compress, config.compressible_share) = (true, 0.5);
    (config.rounds, config.dirty_share) = (4, 0.5);
    config.return_path = return_path;
    Plan::new(config).expect("possible")
}

fn receiver() -> Receiver {
    let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
    let config = ReceiverConfig { memory, ..ReceiverConfig::default() };
    Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).expect("io_uring")
}

/// A migration from an address, or from a descriptor by the name `mig`.
fn from(receiver: &Receiver, uri: &str, handed_over: Option<OwnedFd>) -> Arc<Migration> {
    let address = Address::parse(uri).expect("an address");
    let handed_over = Mutex::new(handed_over);
    let mut take = |_: &str| handed_over.lock().expect("nobody panics here").take();
    receiver.start(&[address], Incoming::default(), &mut take).expect("it opens")
}

fn is_whole(migration: Arc<Migration>, plan: &Plan, label: &str) {
    assert!(migration.wait_for(Duration::from_secs(60)), "{label}: it ends");
    let ended = migration.wait();
    assert_eq!(ended.error, None, "{label}");
    let ram = ended.received.ram.as_ref().expect("a completed run has RAM");
    let read = |block: u16, offset: u64, out: &mut [u8]| {
        ram[usize::from(block)].read(offset, out);
        Ok(())
    };
    verify(plan, 1, read).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(migration.run.main.xbzrle.get(), plan.sent().xbzrle, "{label}");
    assert!(plan.sent().xbzrle > 0 && plan.sent().compressed_on_main > 0);
}

fn sent(plan: &Plan, target: &Target) -> End {
    send(plan, target, &SendOptions::default(), &Progress::new()).end
}

fn uri(path: &Path) -> String {
    format!("file:{}", path.display())
}

#[test]
fn a_plain_file_carries_a_migration_and_keeps_what_stands_before_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    let receiver = receiver();
    for (seed, offset) in [(1, 0), (2, 4096), (3, 777)] {
        let plan = plan(seed, false);
        let before = vec![0x5a; offset as usize];
        // A longer file of an earlier save: nothing of it may be left behind the stream.
        fs::write(&path, [&before[..], &vec![1; 64 << 20]].concat()).expect("written");
        let target = Target::File { path: path.clone(), offset };
        assert_eq!(sent(&plan, &target), End::Completed);
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len() as u64, offset + plan.sent().bytes());
        assert!(bytes[..offset as usize] == before);
        let uri = format!("{},offset={offset}", uri(&path));
        is_whole(from(&receiver, &uri, None), &plan, &uri);
    }
}

#[test]
fn a_commands_input_carries_a_migration_and_its_failure_fails_the_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("saved");
    let command = |text: String| {
        let Ok(Address::Exec { args }) = Address::parse(&format!("exec:{text}")) else {
            panic!("{text} is a command");
        };
        Target::Command { args }
    };
    let plan = plan(4, false);
    let pipeline = format!("gzip -1 | gzip -d > {}", path.display());
    assert_eq!(sent(&plan, &command(pipeline)), End::Completed);
    is_whole(from(&receiver(), &uri(&path), None), &plan, "a pipeline");
    // One that takes all and fails, and one that goes away.
    for (text, says) in [("cat > /dev/null; exit 3", "exit status: 3"), ("exit 0", "Broken pipe")] {
        match sent(&plan, &command(text.to_owned())) {
            End::ConnectionLost { error, .. } => assert!(error.contains(says), "{text}: {error}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_socket_that_was_handed_over_has_a_return_path_and_a_pipe_and_a_file_have_none() {
    let receiver = receiver();
    let (writes, reads) = UnixStream::pair().expect("a pair");
    let plan_with = plan(5, true);
    let migration = from(&receiver, "fd:mig", Some(reads.into()));
    assert_eq!(sent(&plan_with, &Target::stream(writes.into())), End::Completed);
    is_whole(migration, &plan_with, "a socket");

    let plan = plan(6, false);
    let (reads, writes) = io::pipe().expect("a pipe");
    let migration = from(&receiver, "fd:mig", Some(reads.into()));
    assert_eq!(sent(&plan, &Target::stream(writes.into())), End::Completed);
    is_whole(migration, &plan, "a pipe");

    let file = tempfile::NamedTempFile::new().expect("a file");
    let writes = file.reopen().expect("a file");
    assert_eq!(sent(&plan, &Target::stream(writes.into())), End::Completed);
    let reads = file.reopen().expect("a file");
    is_whole(from(&receiver, "fd:mig", Some(reads.into())), &plan, "a file");

    let (_reads, writes) = io::pipe().expect("a pipe");
    match sent(&plan_with, &Target::stream(writes.into())) {
        End::ConnectionLost { error, .. } => assert_eq!(error, NO_ANSWER),
        other => panic!("{other:?}"),
    }
}

#[test]
fn channels_need_more_than_one_stream() {
    let mut config = SourceConfig::new(7, 4 << 20, 2);
    config.return_path = false;
    let plan = Plan::new(config).expect("possible");
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let never = Path::new("/nonexistent/file").to_owned();
    for target in [Target::stream(ours.into()), Target::File { path: never, offset: 0 }] {
        match sent(&plan, &target) {
            End::ConnectionLost { error, .. } => assert_eq!(error, NOT_MULTI_CHANNEL),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stop_does_not_wait_for_who_reads_nothing() {
    let plan = plan(8, false);
    let (mut reads, writes) = io::pipe().expect("a pipe");
    let sleeps = Target::Command { args: vec!["/bin/sleep".into(), "1000".into()] };
    for target in [Target::stream(writes.into()), sleeps] {
        let stop = Stop::new();
        let options = SendOptions { stop: stop.clone(), ..SendOptions::default() };
        let begin = Instant::now();
        let end = thread::scope(|scope| {
            let sending = scope.spawn(|| send(&plan, &target, &options, &Progress::new()).end);
            thread::sleep(Duration::from_millis(100));
            stop.stop();
            sending.join().expect("no panic")
        });
        assert_eq!(end, End::Stopped);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }
    // Whoever made the pipe finds it as it was: it waits.
    let mut some = Vec::new();
    reads.read_to_end(&mut some).expect("what was written before the stop");
    assert!(!some.is_empty());
}
