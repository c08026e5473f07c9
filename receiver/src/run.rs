//! One migration: what its threads share, and the first error that wins.

use std::os::fd::OwnedFd;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use landfall_pagepool::RamBlocks;
use nix::time::ClockId;
use nix::unistd::gettid;

use crate::arrivals::Arrivals;
use crate::channel::{ChannelId, Terms};
use crate::clock::{now_ns, ns_of};
use crate::cpu_cache::Level2;
use crate::door::Connection;
use crate::error::RunError;
use crate::low_water::hoped_bytes;
use crate::phases::Phases;
use crate::report::Meter;
use crate::stats::{
    BlockCounters, ChannelCounters, ChannelPhase, Counter, MainCounters, ReaderCounters, Round,
};
use crate::status::Status;
use crate::sync::SyncPoints;
use crate::tcp_info::TcpSample;
use crate::tls::TlsInfo;
use crate::wake::Wake;

/// What the threads of one migration share.
///
/// Things are set once, by the main thread, in the order in which the stream
/// tells them: RAM blocks, then channels with their barrier.
pub struct Run {
    /// Counts runs of this process, from 1.
    pub id: u64,
    /// What all channels are driven under.
    pub terms: Arc<Terms>,
    /// What the process spends on it, and rates.
    pub meter: Meter,
    /// What came on main.
    pub main: MainCounters,
    /// One for each reader thread.
    pub readers: Box<[ReaderStats]>,
    /// When main last turned to its stream, after mapping or waiting: before that nothing was
    /// read, so its silence says nothing. [`AWAY`] as long as it reads nothing.
    pub main_turned_ns: Counter,
    /// Main's thread, for its CPU clock.
    pub main_thread: ThreadClock,
    /// Connections that have said what they are.
    pub arrivals: Mutex<Arrivals<Connection>>,
    /// When the door last had anything to do, `CLOCK_MONOTONIC` nanoseconds.
    pub door_busy_ns: AtomicU64,
    /// When the youngest connection came that has not said yet what it is; 0
    /// without any.
    pub door_unknown_ns: AtomicU64,
    /// Connections that were none of ours.
    pub strays: AtomicU64,
    /// Rounds so far.
    pub rounds: Mutex<Vec<Round>>,
    phases: Mutex<Phases>,
    status: Mutex<Status>,
    ram: OnceLock<Arc<RamBlocks>>,
    channels: OnceLock<Channels>,
    tls: OnceLock<TlsInfo>,
    error: OnceLock<RunError>,
    stopping: AtomicBool,
    verdict: AtomicU8,
    main_wake: Wake,
    reader_wakes: Box<[Wake]>,
    door_wake: Wake,
}

struct Channels {
    sync: SyncPoints,
    stats: Box<[ChannelStats]>,
    /// `[thread][block]`; the last thread is main's.
    blocks: Box<[Box<[BlockCounters]>]>,
}

/// One channel as others see it.
pub struct ChannelStats {
    /// Its numbers.
    pub counters: ChannelCounters,
    /// Which reader has it.
    pub reader: usize,
    /// Who is at the other end.
    pub peer: String,
    /// Its socket, to ask the kernel about it for as long as its reader has it.
    pub socket: Weak<OwnedFd>,
    /// What TCP said of it, once a second and at the end.
    pub tcp: Mutex<Vec<TcpSample>>,
    /// When the watchdog last saw bytes come inside a packet, which complete
    /// nothing and so move no counter, `CLOCK_MONOTONIC` nanoseconds.
    pub moved_ns: Counter,
}

impl ChannelStats {
    /// When something last came, as far as anybody can tell, `CLOCK_MONOTONIC`
    /// nanoseconds.
    pub fn active_ns(&self) -> u64 {
        self.counters.last_activity_ns.get().max(self.moved_ns.get())
    }
}

/// One reader thread as others see it.
#[derive(Default)]
pub struct ReaderStats {
    /// Its numbers.
    pub counters: ReaderCounters,
    /// Which CPU it is pinned to.
    pub cpu: Option<usize>,
    /// The kernel did not keep it there: it runs anywhere.
    pub unpinned: AtomicBool,
    /// Its CPU clock.
    pub thread: ThreadClock,
}

impl ReaderStats {
    /// The CPU that it is kept on, for reports.
    pub fn kept_on(&self) -> Option<usize> {
        self.cpu.filter(|_| !self.unpinned.load(Relaxed))
    }

    /// Called by the thread when it starts.
    pub fn enter_thread(&self) {
        self.thread.enter();
    }

    /// Called by the thread when it ends.
    pub fn leave_thread(&self) {
        self.thread.leave();
    }
}

/// A thread's CPU time, readable from any other: nothing on the page path.
#[derive(Default)]
pub struct ThreadClock {
    id: AtomicI32,
    ended_ns: OnceLock<u64>,
}

impl ThreadClock {
    /// The calling thread is the one.
    pub fn enter(&self) {
        self.id.store(gettid().as_raw(), Release);
    }

    /// The calling thread, the one, ends.
    pub fn leave(&self) {
        let _ = self.ended_ns.set(ns_of(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0));
    }

    /// The thread's id, as `ps -L` shows it; `None` before it started.
    pub fn thread_id(&self) -> Option<i32> {
        Some(self.id.load(Acquire)).filter(|&id| id != 0)
    }

    /// CPU time used so far.
    pub fn cpu_ns(&self) -> u64 {
        if let Some(&ns) = self.ended_ns.get() {
            return ns;
        }
        // The clock id of a thread, as the kernel encodes it
        // (include/linux/posix-timers.h: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED).
        let clock = |id: i32| ClockId::from_raw((!id << 3) | 6);
        self.thread_id().and_then(|id| ns_of(clock(id))).unwrap_or(0)
    }
}

impl Run {
    /// A run that waits for its source; reader i is woken by `reader_wakes[i]`
    /// and pinned to `cpus[i]`.
    pub fn new(
        id: u64,
        arrivals: Arrivals<Connection>,
        cpus: &[Option<usize>],
        terms: Terms,
    ) -> Result<Self, RunError> {
        let readers = cpus.iter().map(|&cpu| ReaderStats { cpu, ..ReaderStats::default() });
        let reader_wakes = cpus.iter().map(|_| Wake::new()).collect::<Result<_, _>>()?;
        Ok(Self {
            id,
            terms: Arc::new(terms),
            meter: Meter::new(),
            main: MainCounters::default(),
            readers: readers.collect(),
            main_turned_ns: Counter::default(),
            main_thread: ThreadClock::default(),
            arrivals: Mutex::new(arrivals),
            door_busy_ns: AtomicU64::new(now_ns()),
            door_unknown_ns: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            rounds: Mutex::new(Vec::new()),
            phases: Mutex::new(Phases::default()),
            status: Mutex::new(Status::Setup),
            ram: OnceLock::new(),
            channels: OnceLock::new(),
            tls: OnceLock::new(),
            error: OnceLock::new(),
            stopping: AtomicBool::new(false),
            verdict: AtomicU8::new(OPEN),
            main_wake: Wake::new()?,
            reader_wakes,
            door_wake: Wake::new()?,
        })
    }

    /// Ends the run with `error`, unless it has one or is past its end.
    pub fn fail(&self, error: RunError) {
        match self.verdict.compare_exchange(OPEN, FAILED, AcqRel, Acquire) {
            Ok(_) => {
                assert!(self.error.set(error).is_ok(), "the first error is set once");
                self.stop();
            }
            Err(FAILED) => tracing::info!("a consequence: {error}"),
            Err(_) => tracing::debug!("after the end: {error}"),
        }
    }

    /// The error that ended it, if one did.
    pub fn error(&self) -> Option<&RunError> {
        // Whoever has failed it is about to say why.
        (self.verdict.load(Acquire) == FAILED).then(|| self.error.wait())
    }

    /// All threads shall let go; sets no error.
    pub fn stop(&self) {
        self.stopping.store(true, Release);
        self.wake_main();
        self.wake_readers();
        self.wake_door();
    }

    /// True once the threads shall let go.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Acquire)
    }

    /// The stream has ended well: what channels do from now on is no error.
    /// False if the run has failed already.
    pub fn finish(&self) -> bool {
        self.verdict.compare_exchange(OPEN, FINISHED, AcqRel, Acquire).is_ok()
    }

    /// True if the source has closed `channel` at a packet boundary.
    pub fn has_ended(&self, channel: usize) -> bool {
        let phase = self.channels()[channel].counters.phase.get();
        ChannelPhase::of_number(phase) == ChannelPhase::Ended
    }

    /// The RAM blocks, once the source has told them.
    #[inline]
    pub fn ram(&self) -> Option<&Arc<RamBlocks>> {
        self.ram.get()
    }

    /// The source has told its RAM blocks.
    pub fn set_ram(&self, ram: Arc<RamBlocks>) {
        assert!(self.ram.set(ram).is_ok(), "RAM blocks come once");
    }

    /// What main's TLS handshake agreed on; `None` in the clear, and before.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.get()
    }

    /// Main has come under TLS.
    pub fn set_tls(&self, info: TlsInfo) {
        assert!(self.tls.set(info).is_ok(), "main comes once");
    }

    /// The channels are known.
    pub fn set_channels(&self, stats: Box<[ChannelStats]>) {
        let blocks = self.ram().expect("RAM comes before channels").len();
        let of_thread = || (0..blocks).map(|_| BlockCounters::default()).collect();
        let channels = Channels {
            sync: SyncPoints::new(stats.len()),
            stats,
            blocks: (0..=self.readers.len()).map(|_| of_thread()).collect(),
        };
        assert!(self.channels.set(channels).is_ok(), "channels come once");
    }

    /// The barrier, once the channels are known.
    #[inline]
    pub fn sync(&self) -> Option<&SyncPoints> {
        self.channels.get().map(|channels| &channels.sync)
    }

    /// The channels in order of id; none before they are known.
    pub fn channels(&self) -> &[ChannelStats] {
        self.channels.get().map_or(&[], |channels| &channels.stats)
    }

    /// What reader `index` waits for at most: it shares its CPU's level 2 cache with all readers
    /// that have channels on CPUs of that cache. One that is not pinned shares the first CPU's
    /// with all that are not.
    pub fn hoped_bytes(&self, index: usize) -> u64 {
        let cpu = self.readers[index].cpu;
        let cache = Level2::of(cpu.unwrap_or(0));
        let sharing = sharing_cache(&self.readers, self.channels(), cpu, cache.as_ref());
        hoped_bytes(cache.as_ref(), sharing)
    }

    /// One channel.
    #[inline]
    pub fn channel(&self, id: ChannelId) -> &ChannelStats {
        &self.channels()[id.index()]
    }

    /// What reader `index` counts, by block.
    #[inline]
    pub fn reader_blocks(&self, index: usize) -> &[BlockCounters] {
        &self.channels.get().expect("channels are known").blocks[index]
    }

    /// What main counts, by block.
    pub fn main_blocks(&self) -> &[BlockCounters] {
        self.reader_blocks(self.readers.len())
    }

    /// What all threads have counted, by thread and block.
    pub fn blocks(&self) -> &[Box<[BlockCounters]>] {
        self.channels.get().map_or(&[], |channels| &channels.blocks)
    }

    /// The phases, to read or to note one.
    pub fn phases(&self) -> MutexGuard<'_, Phases> {
        lock(&self.phases)
    }

    /// The status, to read or to change.
    pub fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }

    /// Who has come.
    pub fn arrivals(&self) -> MutexGuard<'_, Arrivals<Connection>> {
        lock(&self.arrivals)
    }

    /// Logs and counts a connection that is none of ours.
    pub fn stray(&self, peer: &str, why: &str) {
        let before = self.strays.fetch_add(1, Relaxed);
        if before < STRAYS_LOGGED {
            tracing::warn!("stray connection from {peer}: {why}");
        } else if before == STRAYS_LOGGED {
            tracing::warn!("more than {STRAYS_LOGGED} stray connections: only counted from now on");
        }
    }

    /// What wakes main.
    pub fn main_wake(&self) -> &Wake {
        &self.main_wake
    }

    /// Main has something to look at.
    pub fn wake_main(&self) {
        self.main_wake.wake();
    }

    /// What wakes reader `index`.
    pub fn reader_wake(&self, index: usize) -> &Wake {
        &self.reader_wakes[index]
    }

    /// Every reader has something to look at.
    pub fn wake_readers(&self) {
        self.reader_wakes.iter().for_each(Wake::wake);
    }

    /// What wakes the door.
    pub fn door_wake(&self) -> &Wake {
        &self.door_wake
    }

    /// The door has something to look at.
    pub fn wake_door(&self) {
        self.door_wake.wake();
    }
}

fn sharing_cache(
    readers: &[ReaderStats],
    channels: &[ChannelStats],
    cpu: Option<usize>,
    cache: Option<&Level2>,
) -> usize {
    let has_channels = |reader| channels.iter().any(|channel| channel.reader == reader);
    let is_there = |other: Option<usize>| {
        let is_near = |cpu: usize| cache.is_some_and(|cache| cache.cpus.cpus().contains(&cpu));
        other == cpu || cpu.is_some() && other.is_some_and(is_near)
    };
    let there = readers.iter().enumerate().filter(|(_, reader)| is_there(reader.cpu));
    there.filter(|&(reader, _)| has_channels(reader)).count()
}

/// A lock whose holder's panic does not spread: all it guards is plain data.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Main has not turned to its stream yet.
pub const AWAY: u64 = u64::MAX;

/// Stray connections of a run that are logged one by one.
const STRAYS_LOGGED: u64 = 100;

/// How a run stands: which of its two ends came first.
const OPEN: u8 = 0;
const FAILED: u8 = 1;
const FINISHED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readers_with_channels_share_a_cache() {
        let cpus = [0, 1, 0, 1, 0].map(|cpu| ReaderStats { cpu: Some(cpu), ..Default::default() });
        let of = |reader| ChannelStats {
            counters: ChannelCounters::default(),
            reader,
            peer: String::new(),
            socket: Weak::new(),
            tcp: Mutex::default(),
            moved_ns: Counter::default(),
        };
        let shared = |channels: usize, cache: Option<&str>| {
            let channels: Vec<_> = (0..channels).map(|id| of(id % cpus.len())).collect();
            let cache = cache.map(|cpus| Level2 { bytes: 1 << 20, cpus: cpus.parse().unwrap() });
            [Some(0), Some(1), None].map(|cpu| sharing_cache(&cpus, &channels, cpu, cache.as_ref()))
        };
        assert_eq!(shared(2, None), [1, 1, 0]);
        assert_eq!(shared(4, None), [2, 2, 0]);
        assert_eq!(shared(255, None), [3, 2, 0]);
        assert_eq!(shared(4, Some("0-1")), [4, 4, 0]);
        assert_eq!(shared(4, Some("0,8"))[0], 2, "nobody is on CPU 8");
    }
}
