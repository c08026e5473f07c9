//! Threads pinned near the readers, for work on much memory at once.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use core_affinity::CoreId;

use crate::PageFaults;

/// The CPUs that prefault, clear and dump, one thread each.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    cpus: Vec<usize>,
}

/// How a piece of work went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worked {
    /// Threads that took part.
    pub(crate) threads: usize,
    /// Page faults of all of them.
    pub(crate) faults: PageFaults,
}

impl Crew {
    /// The CPUs named, or all that this thread may run on.
    pub(crate) fn new(cpus: &[usize]) -> Self {
        let mut cpus = cpus.to_vec();
        if cpus.is_empty() {
            let allowed = core_affinity::get_core_ids().unwrap_or_default();
            cpus = allowed.into_iter().map(|cpu| cpu.id).collect();
        }
        if cpus.is_empty() {
            // A host whose CPU numbers do not fit the set of sched_getaffinity(2): one thread, unpinned.
            cpus.push(CPU_UNKNOWN);
        }
        Self { cpus }
    }

    /// How many threads work on `chunks` pieces.
    pub(crate) fn threads_for(&self, chunks: u64) -> usize {
        usize::try_from(chunks).map_or(self.cpus.len(), |chunks| chunks.min(self.cpus.len()))
    }

    /// Does `work` for every chunk number below `chunks`, each once, on any of the threads. After
    /// the first error no further chunk is begun, and that error is the answer.
    pub(crate) fn run<E: Send>(
        &self,
        chunks: u64,
        work: impl Fn(u64) -> Result<(), E> + Sync,
    ) -> Result<Worked, E> {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let first_error = Mutex::new(None);
        let share = || {
            while !stop.load(Relaxed) {
                let chunk = next.fetch_add(1, Relaxed);
                if chunk >= chunks {
                    return;
                }
                if let Err(error) = work(chunk) {
                    stop.store(true, Relaxed);
                    let mut first = first_error.lock().expect("no panic holds it");
                    first.get_or_insert(error);
                    return;
                }
            }
        };
        let worked = self.spread(self.threads_for(chunks), &share);
        match first_error.into_inner().expect("no panic holds it") {
            None => Ok(worked),
            Some(error) => Err(error),
        }
    }

    /// Runs `share` on `threads` pinned threads; here, if not one can be started.
    fn spread(&self, threads: usize, share: &(impl Fn() + Sync)) -> Worked {
        let mut worked = Worked::default();
        thread::scope(|scope| {
            let started: Vec<_> = self.cpus[..threads]
                .iter()
                .filter_map(|cpu| {
                    let body = move || {
                        pin(*cpu);
                        share();
                        PageFaults::of_thread()
                    };
                    let builder = thread::Builder::new().name(format!("memory-{cpu}"));
                    let started = builder.spawn_scoped(scope, body);
                    started.inspect_err(|error| tracing::warn!(%error, cpu, "no thread")).ok()
                })
                .collect();
            if started.is_empty() && threads > 0 {
                share();
                worked.threads = 1;
            }
            for thread in started {
                match thread.join() {
                    Ok(faults) => {
                        worked.threads += 1;
                        worked.faults.minor += faults.minor;
                        worked.faults.major += faults.major;
                    }
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        worked
    }
}

/// Pins this thread; a CPU that is not ours leaves it where the scheduler puts it.
fn pin(cpu: usize) {
    let known = cpu < CPU_SET_BITS;
    if !known || !core_affinity::set_for_current(CoreId { id: cpu }) {
        tracing::warn!(cpu, "cannot pin to this CPU; the thread runs on any");
    }
}

/// `CPU_SETSIZE` of sched_setaffinity(2) in the C library: the highest CPU that can be named is one
/// less.
const CPU_SET_BITS: usize = 1024;
const CPU_UNKNOWN: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use super::Crew;

    #[test]
    fn every_chunk_is_worked_on_once() {
        let crew = Crew::new(&[]);
        for chunks in [0, 1, 2, 1000] {
            let seen: Vec<AtomicU64> = (0..chunks).map(|_| AtomicU64::new(0)).collect();
            let worked = crew.run(chunks, |chunk| {
                seen[chunk as usize].fetch_add(1, Relaxed);
                Ok::<_, ()>(())
            });
            assert!(seen.iter().all(|count| count.load(Relaxed) == 1));
            assert_eq!(worked.expect("no error").threads, crew.threads_for(chunks));
        }
    }

    #[test]
    fn an_error_stops_the_work() {
        let crew = Crew::new(&[]);
        let begun = AtomicU64::new(0);
        let answer = crew.run(1_000_000, |chunk| {
            begun.fetch_add(1, Relaxed);
            if chunk == 3 { Err(chunk) } else { Ok(()) }
        });
        assert_eq!(answer.err(), Some(3));
        assert!(begun.load(Relaxed) < 1_000_000);
    }

    #[test]
    fn cpus_that_do_not_exist_are_worked_on_elsewhere() {
        let crew = Crew::new(&[1023, usize::MAX]);
        let worked = crew.run(2, |_| Ok::<_, ()>(())).expect("no error");
        assert_eq!(worked.threads, 2);
    }

    #[test]
    fn threads_are_pinned_to_the_cpus_given() {
        let allowed = core_affinity::get_core_ids().expect("cpus");
        let last = allowed.last().expect("one CPU").id;
        let crew = Crew::new(&[last]);
        let answer = crew.run(1, |_| {
            let mine = core_affinity::get_core_ids().expect("cpus");
            if mine.iter().map(|cpu| cpu.id).eq([last]) { Ok(()) } else { Err(mine) }
        });
        assert!(answer.is_ok(), "{answer:?}");
    }
}
