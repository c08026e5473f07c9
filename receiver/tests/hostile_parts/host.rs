//! A receiver under attack, and what it must be like afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::error::{Family, RunError};
use landfall_receiver::listen::Address;
use landfall_receiver::migration::Sink;
use landfall_receiver::receiver::{Incoming, Migration, Observer, Receiver, ReceiverConfig};
use landfall_receiver::status::Status;

use super::source::{PONG, SHUT_0, SHUT_1, Script, Source, To};

/// A receiver that is alone in the process as long as this lives, so that
/// threads and descriptors can be counted.
pub(crate) struct Host {
    receiver: Receiver,
    shut: [u8; 8],
    rest: Option<Census>,
    _alone: MutexGuard<'static, ()>,
}

impl Host {
    /// A receiver of small guests that calls a silence of `stall_ms` a stall.
    pub(crate) fn new(stall_ms: u64) -> Self {
        Self::with(|config| config.stall = Duration::from_millis(stall_ms))
    }

    /// A receiver with one reader for all channels, and a migration behind it.
    pub(crate) fn with(change: impl FnOnce(&mut ReceiverConfig)) -> Self {
        Self::observed(Arc::new(|_, _| {}), change)
    }

    /// The same, with `observer` told of each status.
    pub(crate) fn observed(observer: Observer, change: impl FnOnce(&mut ReceiverConfig)) -> Self {
        let alone = alone();
        let hugepages = Hugepages::Off;
        let mut config = ReceiverConfig {
            memory: MemoryConfig { hugepages, ..MemoryConfig::default() },
            readers: Some(1),
            stall: Duration::from_secs(10),
            ..ReceiverConfig::default()
        };
        change(&mut config);
        let shut = if config.sink == Sink::Ram { SHUT_0 } else { SHUT_1 };
        let receiver = Receiver::new(config, observer, &|_, _| {}).unwrap();
        let mut host = Self { receiver, shut, rest: None, _alone: alone };
        host.completes("the first run");
        let rest = Census::at_rest();
        assert!(rest.threads.is_empty(), "{rest:#?}");
        host.rest = Some(rest);
        host
    }

    /// Listens for `channels` channels.
    pub(crate) fn start(&self, channels: Option<u8>) -> Attacked {
        self.start_at("tcp:127.0.0.1:0", channels)
    }

    /// Listens at `address`; the port is 0 where there is none.
    pub(crate) fn start_at(&self, address: &str, channels: Option<u8>) -> Attacked {
        self.start_for(address, Incoming { channels, ..Incoming::default() })
    }

    /// Listens at `address` for what `incoming` says.
    pub(crate) fn start_for(&self, address: &str, incoming: Incoming) -> Attacked {
        let address = Address::parse(address).unwrap();
        let migration = self.receiver.start(&[address], incoming, &mut |_| None).unwrap();
        let port = migration.socket_address[0]["port"]
            .as_str()
            .map_or(0, |port| port.parse().expect("a port is a number"));
        Attacked { migration, port }
    }

    /// Waits for a source at the other end of `stream`, for what `incoming` says.
    pub(crate) fn start_given(&self, stream: OwnedFd, incoming: Incoming) -> Attacked {
        let address = Address::parse("fd:given").unwrap();
        let mut stream = Some(stream);
        let migration = self.receiver.start(&[address], incoming, &mut |_| stream.take()).unwrap();
        Attacked { migration, port: 0 }
    }

    /// A whole legal migration.
    pub(crate) fn completes(&mut self, label: &str) {
        let attacked = self.start(Some(CHANNELS as u8));
        let script = Script::legal(CHANNELS);
        let mut source = Source::connect(attacked.port, CHANNELS);
        source.send(&script.steps).unwrap();
        self.completed(attacked, source, label);
    }

    /// The end of a migration whose bytes have all been sent.
    pub(crate) fn completed(&self, attacked: Attacked, mut source: Source, label: &str) {
        let replies = source.replies();
        let migration = attacked.migration;
        let error = migration.wait().error.clone();
        assert_eq!(error, None, "{label}");
        assert_eq!(replies, [PONG, self.shut].concat(), "{label}");
        assert_eq!(*migration.run.status(), Status::Completed, "{label}");
        if self.shut == SHUT_0 {
            check_ram(&migration, label);
        }
        assert!(source.is_let_go(), "{label}: a connection is still open");
    }

    /// How a migration ends whose source sends all of `script` and, if it
    /// `closes`, says on main that this was all.
    pub(crate) fn outcome(
        &self,
        label: &str,
        channels: usize,
        script: &Script,
        closes: bool,
    ) -> Result<(), RunError> {
        let attacked = self.start(Some(channels as u8));
        let mut source = Source::connect(attacked.port, channels);
        // It may be refused before all of it is written.
        let _ = source.send(&script.steps);
        if closes {
            source.close(To::Main);
        }
        assert!(attacked.migration.wait_for(PATIENCE), "{label}: does not end");
        let ended = attacked.migration.wait();
        let wanted = if ended.error.is_some() { Status::Failed } else { Status::Completed };
        assert_eq!(*attacked.migration.run.status(), wanted, "{label}");
        assert!(source.is_let_go(), "{label}: a connection is still open");
        ended.error.clone().map_or(Ok(()), Err)
    }

    /// A migration fails as it must, nothing of it is left, and the next one
    /// completes. Returns the error.
    pub(crate) fn fails(
        &mut self,
        label: &str,
        channels: Option<u8>,
        attack: impl FnOnce(&Attacked) -> Option<Source>,
    ) -> RunError {
        let attacked = self.start(channels);
        let source = attack(&attacked);
        self.failed(label, attacked, source)
    }

    /// The end of a migration that fails, as [`Host::fails`] wants it.
    pub(crate) fn failed(
        &mut self,
        label: &str,
        attacked: Attacked,
        source: Option<Source>,
    ) -> RunError {
        let migration = &attacked.migration;
        assert!(migration.wait_for(PATIENCE), "{label}: does not end");
        let error = migration.wait().error.clone().unwrap_or_else(|| panic!("{label}: completed"));
        assert_eq!(*migration.run.status(), Status::Failed, "{label}");
        assert!(error.family != Family::Stopped && !error.text.is_empty(), "{label}: {error:?}");
        // Its counters stay, and what RAM it got.
        let run = &migration.run;
        assert!(run.main.wire_bytes.get() >= 4, "{label}: counters are lost");
        assert_eq!(run.ram().is_some(), migration.wait().received.ram.is_some(), "{label}");
        if let Some(mut source) = source {
            assert!(source.is_let_go(), "{label}: a connection is still open after {error}");
        }
        drop(attacked);
        self.is_at_rest(label);
        self.completes(&format!("the run after {label}"));
        self.is_at_rest(&format!("the run after {label}"));
        error
    }

    /// Nothing is open and no thread runs that was not there after the first run.
    pub(crate) fn is_at_rest(&self, label: &str) {
        let Some(rest) = &self.rest else { return };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Census::take();
            if now == *rest {
                return;
            }
            assert!(Instant::now() < deadline, "{label} leaves {now:#?}, at rest it was {rest:#?}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Nobody else counts descriptors as long as this is held.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run that waits to be attacked.
pub(crate) struct Attacked {
    pub(crate) migration: Arc<Migration>,
    pub(crate) port: u16,
}

impl Attacked {
    /// Waits until `is_so`.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&Migration) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.migration) {
            let error = self.migration.run.error();
            assert!(Instant::now() < deadline, "{what} does not happen, error: {error:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn strays(&self) -> u64 {
        self.migration.run.strays.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// What [`Script::legal`] puts into RAM.
fn check_ram(migration: &Migration, label: &str) {
    let ram = migration.run.ram().unwrap();
    let block = &ram[0];
    let channels = migration.run.channels().len() as u64;
    for page in 0..block.pages() {
        let mut bytes = [0; 4096];
        block.read(page * 4096, &mut bytes);
        let sent = page < channels * 4 && page % 4 < 2;
        let wanted = if sent { page as u8 + 1 } else { 0 };
        assert!(bytes.iter().all(|&byte| byte == wanted), "{label}: page {page}");
        assert_eq!(block.is_received(page), page < channels * 4 && page % 4 < 3, "{label}: {page}");
    }
}

/// Threads of a run and open descriptors of this process, by what they are.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    threads: BTreeMap<String, usize>,
    descriptors: BTreeMap<String, usize>,
}

impl Census {
    /// What is there when nothing goes any more: the last thread says that the run has ended
    /// before it ends itself, and of a list of threads the kernel leaves out the rest when the
    /// one that it is at ends meanwhile, so one look that finds none is not enough.
    fn at_rest() -> Self {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Self::take();
        loop {
            thread::sleep(Duration::from_millis(5));
            let now = Self::take();
            if now == last && now.threads.is_empty() || Instant::now() >= deadline {
                return now;
            }
            last = now;
        }
    }

    fn take() -> Self {
        let mut census = Self { threads: BTreeMap::new(), descriptors: BTreeMap::new() };
        for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
            // The test harness starts threads of its own.
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if OURS.iter().any(|ours| name.starts_with(ours)) {
                *census.threads.entry(name).or_default() += 1;
            }
        }
        for descriptor in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            if let Ok(target) = fs::read_link(descriptor.path()) {
                let target = target.to_string_lossy();
                let kind = target.split(':').next().unwrap_or_default();
                // The directory being read, and whatever the harness holds.
                if !kind.starts_with("/proc") {
                    *census.descriptors.entry(kind.to_owned()).or_default() += 1;
                }
            }
        }
        census
    }
}

pub(crate) const CHANNELS: usize = 2;
static ALONE: Mutex<()> = Mutex::new(());
/// Names of a run's threads, and of the kernel's for a ring.
const OURS: [&str; 4] = ["door", "main-stream", "reader", "iou-"];
/// Longer than any of these tests needs.
const PATIENCE: Duration = Duration::from_secs(10);
