//! The receiver: guest memory that stays, and one migration after the other.

mod config;
mod under_way;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use landfall_pagepool::{MemoryReport, Pool};
use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::arrivals::Arrivals;
use crate::channel::{RunMethod, Terms};
use crate::clock::{nanos, now_ns};
use crate::device_packets::DevicePackets;
use crate::door::Door;
use crate::error::{Family, RunError};
use crate::listen::{Address, ListenError, Listeners};
use crate::mapped_ram::FileReads;
use crate::migration::{ChannelCount, Conductor, Ended, Plan, Sink};
use crate::nic_node::{NearCpus, cpus_near};
use crate::panicked::caught;
use crate::reader::{CHANNELS_MAX, Reader};
use crate::ring::RingFeatures;
use crate::run::{Run, lock};
use crate::staging::Staging;
use crate::status::Status;
use crate::watchdog::Watchdog;
use crate::wire::Compression;

pub use config::{Incoming, ReceiverConfig};
pub use under_way::{Migration, Observer};

/// Receives migrations, one at a time.
pub struct Receiver {
    config: ReceiverConfig,
    features: RingFeatures,
    pool: Arc<Mutex<Pool>>,
    memory: Arc<Mutex<MemoryReport>>,
    current: Mutex<Option<Arc<Migration>>>,
    observer: Observer,
    starting: Mutex<u64>,
}

/// Why a migration could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One is under way.
    #[error("a migration is under way")]
    Busy,
    /// Nothing could be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address has one channel only, and multifd needs more.
    #[error("Migration requires multi-channel URIs (e.g. tcp)")]
    SingleChannel,
    /// The credentials that `tls-creds` or `tls-authz` names.
    #[error("{0}")]
    Tls(String),
    /// This host.
    #[error(transparent)]
    Host(#[from] RunError),
}

impl Receiver {
    /// Checks this host and maps the pool; `progress` is told bytes prefaulted
    /// and in all.
    ///
    /// # Errors
    /// Environment: io_uring or memory that cannot be had; the text says how to
    /// mend it.
    pub fn new(
        config: ReceiverConfig,
        observer: Observer,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self, RunError> {
        let features = RingFeatures::probe()?;
        let mut memory = config.memory.clone();
        if memory.prefault_cpus.is_empty() {
            memory.prefault_cpus.clone_from(&config.cpus);
        }
        let pool = Pool::open(&memory, progress)
            .map_err(|error| RunError::new(Family::Environment, error.to_string()))?;
        Ok(Self {
            memory: Arc::new(Mutex::new(pool.report())),
            pool: Arc::new(Mutex::new(pool)),
            config,
            features,
            current: Mutex::new(None),
            observer,
            starting: Mutex::new(0),
        })
    }

    /// The CPUs that readers are pinned to, one for each reader: in turn those
    /// given, or near the listener's network card, or all that are allowed.
    fn reader_cpus(&self, channels: Option<u8>, near: Option<&NearCpus>) -> Vec<Option<usize>> {
        let allowed = match (self.config.cpus.as_slice(), near) {
            ([], None) => allowed_cpus(),
            ([], Some(near)) => near.cpus.clone(),
            (given, _) => given.to_vec(),
        };
        let most = channels.map_or(CHANNELS_MAX, |count| usize::from(count).max(1));
        let default = READERS_DEFAULT_MAX.min(most);
        let readers = self.config.readers.unwrap_or(default).min(CHANNELS_MAX);
        let mut pinned: Vec<_> = allowed.into_iter().map(Some).cycle().take(readers).collect();
        pinned.resize(readers, None);
        pinned
    }

    fn terms(&self, compression: Option<Compression>) -> Terms {
        let staging = Staging::new(self.config.staging_max);
        let keep = self.config.keep_device_packets;
        Terms {
            keep: self.config.sink == Sink::Ram,
            method: RunMethod::new(compression),
            device_packets: DevicePackets::new(Arc::clone(&staging), keep),
            staging,
        }
    }

    /// What this receiver was made with.
    pub fn config(&self) -> &ReceiverConfig {
        &self.config
    }

    /// io_uring features in use.
    pub fn features(&self) -> RingFeatures {
        self.features
    }

    /// Guest memory, as of the last change.
    pub fn memory(&self) -> MemoryReport {
        lock(&self.memory).clone()
    }

    /// The migration under way, or else the last one.
    pub fn current(&self) -> Option<Arc<Migration>> {
        lock(&self.current).clone()
    }

    /// Opens `addresses` and waits, in the background, for a migration.
    ///
    /// # Errors
    /// A migration is under way, the addresses cannot be opened, or this host
    /// cannot: the last run's report or dump is still being written. It may be tried again. The
    /// last run is still there, unless threads or descriptors of the new one could not be had.
    pub fn start(
        &self,
        addresses: &[Address],
        incoming: Incoming,
        handed_over: &mut dyn FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Arc<Migration>, StartError> {
        let mut runs = lock(&self.starting);
        if self.current().is_some_and(|last| last.ended().is_none()) {
            return Err(StartError::Busy);
        }
        // Of a mapped-ram file multifd only says that it is read in parallel.
        let is_file = |address: &Address| matches!(address, Address::File { .. });
        if incoming.channels.is_some_and(|count| count > 0)
            && !addresses.iter().all(|address| address.multi_channel() || is_file(address))
        {
            return Err(StartError::SingleChannel);
        }
        // Before a source can connect to somebody who does not take it.
        let deadline = Instant::now() + LET_GO_LIMIT;
        self.wait_for_last(deadline)?;
        let listeners = Listeners::bind(addresses, handed_over, &incoming.fdsets)?;
        let direct_file = direct_file(addresses, &incoming)?;
        self.let_go_of_last(deadline)?;
        let channels = match incoming.channels {
            Some(count) if listeners.multi_channel() => ChannelCount::Configured(count),
            None if listeners.multi_channel() => ChannelCount::Derived,
            // What was given is main, and nobody else can come.
            _ => ChannelCount::Configured(0),
        };
        let near = cpus_near(&listeners.inet_addresses(), &allowed_cpus());
        let terms = self.terms(incoming.compression);
        let parallel = incoming.channels.filter(|&count| count > 0 || listeners.multi_channel());
        let cpus = self.reader_cpus(parallel, near.as_ref());
        let run = Arc::new(Run::new(*runs + 1, Arrivals::new(incoming.uuid), &cpus, terms)?);
        let readers = cpus
            .iter()
            .enumerate()
            .map(|(index, &cpu)| Reader::start(Arc::clone(&run), index, cpu, self.features))
            .collect::<Result<Vec<_>, RunError>>()
            // Those that have begun wait for orders that will not come.
            .inspect_err(|_| run.stop())?;
        run.phases().listen = Some(now_ns());
        let migration = Arc::new(Migration {
            run: Arc::clone(&run),
            socket_address: listeners.socket_addresses(),
            near,
            features: self.features,
            memory: Arc::clone(&self.memory),
            ended: OnceLock::new(),
            done: (Mutex::new(false), Condvar::new()),
        });
        let plan = Plan {
            channels,
            sink: self.config.sink,
            stall_ns: nanos(self.config.stall),
            file_reads: FileReads {
                direct_io: self.config.file_reads.direct_io || incoming.direct_io,
                ..self.config.file_reads
            },
            direct_file,
            switchover_ack: incoming.switchover_ack,
            observer: self.status_observer(&migration),
        };
        let door = Door::new(
            Arc::clone(&run),
            listeners,
            incoming.allow,
            incoming.tls.map(Arc::new),
            Watchdog::new(self.config.stall, self.config.idle, self.config.max_time),
            self.config.stall,
        )
        .inspect_err(|_| run.stop())?;
        *lock(&self.current) = Some(Arc::clone(&migration));
        (self.observer)(&migration, Status::Setup);
        let conductor = Conductor::new(run, plan, Arc::clone(&self.pool), readers);
        if let Err(error) = self.spawn(Arc::clone(&migration), door, conductor) {
            // Nobody conducts it: as if it had never been.
            migration.run.stop();
            *lock(&self.current) = None;
            return Err(error.into());
        }
        *runs += 1;
        Ok(migration)
    }

    /// Ends the migration under way, if there is one, as an operator does.
    pub fn stop(&self) {
        if let Some(migration) = self.current().filter(|last| last.ended().is_none()) {
            migration.run.fail(RunError::stopped());
            migration.wait();
        }
    }

    fn status_observer(&self, migration: &Arc<Migration>) -> Arc<dyn Fn(Status) + Send + Sync> {
        let observer = Arc::clone(&self.observer);
        let pool = Arc::clone(&self.pool);
        let migration = Arc::downgrade(migration);
        Arc::new(move |status| {
            if let Some(migration) = migration.upgrade() {
                // Active: the blocks are there, of which some or all were mapped just now.
                *lock(&migration.memory) = lock(&pool).report();
                observer(&migration, status);
            }
        })
    }

    /// Waits until nobody looks at the last run any more.
    ///
    /// # Errors
    /// Environment: its report or dump is still being written at the `deadline`.
    fn wait_for_last(&self, deadline: Instant) -> Result<(), StartError> {
        while lock(&self.current).as_ref().is_some_and(|last| Arc::strong_count(last) > 1) {
            if Instant::now() > deadline {
                let text = "the last run is still being written: try again when its report and \
                            dump are there";
                return Err(RunError::new(Family::Environment, text).into());
            }
            thread::sleep(LET_GO_POLL);
        }
        Ok(())
    }

    /// Clears the memory of the last run for the next one.
    ///
    /// # Errors
    /// As [`Receiver::wait_for_last`]: somebody has begun to look at it again.
    fn let_go_of_last(&self, deadline: Instant) -> Result<(), StartError> {
        loop {
            self.wait_for_last(deadline)?;
            let mut current = lock(&self.current);
            let Some(last) = current.take() else { return Ok(()) };
            match Arc::try_unwrap(last) {
                Ok(mut last) => {
                    drop(current);
                    let Ended { error, received, .. } = last.ended.take().unwrap_or_default();
                    drop(last);
                    // A sketch has nothing to clear. What a bug has left nobody knows: without
                    // its blocks the pool clears all that they had.
                    let is_bug = error.is_some_and(|error| error.family == Family::Internal);
                    let kept = received.ram.filter(|_| self.config.sink == Sink::Ram && !is_bug);
                    if let Some(blocks) = kept.and_then(Arc::into_inner) {
                        lock(&self.pool).reclaim(blocks);
                    }
                    return Ok(());
                }
                Err(last) => *current = Some(last),
            }
        }
    }

    fn spawn(
        &self,
        migration: Arc<Migration>,
        door: Door,
        conductor: Conductor,
    ) -> Result<(), RunError> {
        let observer = Arc::clone(&self.observer);
        let pool = Arc::clone(&self.pool);
        let run = Arc::clone(&migration.run);
        let door = thread::Builder::new()
            .name("door".into())
            .spawn(move || {
                if let Err(error) = caught(|| {
                    door.run();
                    Ok(())
                }) {
                    run.fail(error);
                }
            })
            .map_err(|error| RunError::host("starting a thread", error))?;
        thread::Builder::new()
            .name("main-stream".into())
            .spawn(move || {
                let over = caught(|| {
                    let ended = conductor.run();
                    let run = &migration.run;
                    run.stop();
                    door.join().expect("the door's panic is caught");
                    run.arrivals().let_go();
                    *lock(&migration.memory) = lock(&pool).report();
                    let status =
                        if ended.error.is_some() { Status::Failed } else { Status::Completed };
                    run.meter.close();
                    run.phases().completed = Some(now_ns());
                    assert!(migration.ended.set(ended).is_ok(), "a run ends once");
                    *run.status() = status;
                    observer(&migration, status);
                    Ok(())
                });
                let is_news = over.is_err_and(|error| migration.give_up(error));
                migration.wake_waiters();
                if is_news {
                    // Last: nobody waits any more if it panics.
                    observer(&migration, Status::Failed);
                }
            })
            .map_err(|error| RunError::host("starting a thread", error))?;
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

/// With `direct-io`, the descriptor for reading past the page cache out of the set that
/// the address names: to open the file once more this process may not have the right.
///
/// # Errors
/// QEMU's text, where it reads in this way too: with multifd the set must have one.
fn direct_file(
    addresses: &[Address],
    incoming: &Incoming,
) -> Result<Option<Arc<OwnedFd>>, ListenError> {
    let [Address::File { path, .. }] = addresses else { return Ok(None) };
    if !incoming.direct_io {
        return Ok(None);
    }
    match incoming.fdsets.open(path, OFlag::O_RDONLY | OFlag::O_DIRECT) {
        Some(Ok(descriptor)) => Ok(Some(Arc::new(descriptor))),
        Some(Err(text)) if incoming.channels > Some(0) => Err(ListenError::Address(text)),
        Some(Err(_)) | None => Ok(None),
    }
}

/// The CPUs that this process may run on (sched_getaffinity(2)).
pub fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

/// Readers started without `--readers`, on few CPUs too: beside threads of the source two readers
/// get little of the time, and what waits for them gets cold.
pub const READERS_DEFAULT_MAX: usize = 8;

/// How long the next run waits for those who still look at the last one.
const LET_GO_LIMIT: Duration = Duration::from_secs(60);
const LET_GO_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_only_a_panic_brings_is_told_and_the_next_run_starts() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let observer = Arc::new(move |_: &Migration, status| lock(&tells).push(status));
        let config = ReceiverConfig { readers: Some(2), ..ReceiverConfig::default() };
        let receiver = Receiver::new(config, observer, &|_, _| {}).unwrap();
        let start = || {
            let address = Address::parse("tcp:127.0.0.1:0").unwrap();
            receiver.start(&[address], Incoming::default(), &mut |_| None).unwrap()
        };
        let migration = start();
        // As if it had come from main, which then finds an end where it comes with its own.
        assert!(migration.give_up(RunError::new(Family::Internal, "a bug")));
        assert!(migration.wait_for(Duration::from_secs(10)), "somebody waits for ever");
        let error = migration.wait().error.clone().expect("it failed");
        assert_eq!((error.family, error.text.as_str()), (Family::Internal, "a bug"));
        assert_eq!(*migration.run.status(), Status::Failed);
        assert!(!migration.give_up(RunError::stopped()), "it has ended already");
        drop(migration);
        let next = start();
        assert_eq!((next.run.id, next.ended().is_none()), (2, true));
        receiver.stop();
        assert_eq!(*lock(&told), [Status::Setup, Status::Setup, Status::Failed]);
    }
}
