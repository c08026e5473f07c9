//! Giving memory its pages before anybody waits for them, in parallel.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;

use crate::crew::{Crew, Worked};
use crate::host::{Host, base_page_bytes};
use crate::hugepages::HugeSize;
use crate::mapping::Mapping;
use crate::{PoolError, Span};

/// What to prefault, and how.
pub(crate) struct Prefault<'a> {
    pub(crate) mapping: &'a Mapping,
    /// Bytes of the largest page that may come out.
    pub(crate) page_bytes: u64,
    pub(crate) crew: &'a Crew,
    /// Asked before every chunk of ordinary memory whether the host still has some. Hugetlb pages
    /// are reserved, and files have their space: `None`.
    pub(crate) watched: Option<&'a Host>,
    /// Told the bytes done, ascending, from any thread.
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
}

impl Prefault<'_> {
    /// Gives the whole mapping its pages. Running out is an error, not a signal and not the OOM
    /// killer: memory is asked for by `MADV_POPULATE_WRITE`, and the host is watched.
    pub(crate) fn run(&self) -> Result<Worked, PoolError> {
        let total = self.mapping.bytes() as u64;
        let chunk_bytes = self.chunk_bytes(total);
        let chunks = total.div_ceil(chunk_bytes);
        // What the other threads may be taking while this one looks.
        let in_flight = chunk_bytes.saturating_mul(self.crew.threads_for(chunks) as u64);
        let touching = AtomicBool::new(false);
        let done = Mutex::new(0);
        self.crew.run(chunks, |chunk| {
            let offset = chunk * chunk_bytes;
            let len = chunk_bytes.min(total - offset);
            let done_before = *done.lock().expect("no panic holds it");
            self.check_host(done_before, total, in_flight)?;
            self.populate(offset as usize, len as usize, &touching).map_err(|source| {
                PoolError::Prefault { done: done_before, total, cause: cause_of(source), source }
            })?;
            // Told under the lock, so that the numbers only go up.
            let mut done = done.lock().expect("no panic holds it");
            *done += len;
            (self.progress)(*done);
            Ok(())
        })
    }

    /// A few chunks for each thread, of sizes that waste no huge page.
    fn chunk_bytes(&self, total: u64) -> u64 {
        let step = self.page_bytes.max(HugeSize::M2.bytes());
        let threads = self.crew.threads_for(u64::MAX) as u64;
        let share = (total / (threads * CHUNKS_PER_THREAD)).min(CHUNK_BYTES_MAX);
        share.max(1).next_multiple_of(step)
    }

    fn check_host(&self, done: u64, total: u64, in_flight: u64) -> Result<(), PoolError> {
        let Some(host) = self.watched else {
            return Ok(());
        };
        let available = host.available_bytes();
        let needed = total - done;
        if available >= needed.min(in_flight).saturating_add(HOST_RESERVE_BYTES) {
            return Ok(());
        }
        Err(PoolError::OutOfMemory { done, needed, available })
    }

    fn populate(&self, offset: usize, len: usize, touching: &AtomicBool) -> Result<(), Errno> {
        if !touching.load(Relaxed) {
            match self.mapping.populate(offset, len) {
                Err(Errno::EINVAL) => touching.store(true, Relaxed), // before Linux 5.14
                answer => return answer,
            }
        }
        let span = Span::new(self.mapping, offset, len).expect("a chunk is inside its mapping");
        span.touch(base_page_bytes() as usize);
        Ok(())
    }
}

/// What usually stands behind an answer of `MADV_POPULATE_WRITE` (madvise(2)).
fn cause_of(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOMEM => "no memory left within the limits of the control group or the nodes",
        Errno::EFAULT => "the nodes or the control group have no such page left",
        Errno::EHWPOISON => "a memory module is broken here",
        _ => "the kernel gave no further reason",
    }
}

/// Large enough that a thread is busy for milliseconds, small enough for a smooth progress.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// So that threads end at about the same time.
const CHUNKS_PER_THREAD: u64 = 4;
/// What is left to the rest of the host.
const HOST_RESERVE_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::Prefault;
    use crate::PoolError;
    use crate::crew::Crew;
    use crate::host::Host;
    use crate::ladder::Rung;
    use crate::mapping::Mapping;

    #[test]
    fn all_pages_are_there_and_progress_ends_at_the_total() {
        let bytes = 200 << 20;
        let mapping = Mapping::anonymous(Rung::Base, bytes).expect("map");
        let told = Mutex::new(Vec::new());
        let progress = |done| told.lock().expect("lock").push(done);
        let done = prefault(&mapping, &progress, Some(&Host::here())).run().expect("memory");
        let told = told.into_inner().expect("lock");
        assert!(told.is_sorted(), "{told:?}");
        assert_eq!(told.last(), Some(&bytes));
        assert!(done.faults.minor >= bytes / 65536, "{done:?}");
    }

    #[test]
    fn a_kernel_without_populate_has_its_pages_touched() {
        let mapping = Mapping::anonymous(Rung::Base, 8 << 20).expect("map");
        let before = crate::PageFaults::of_thread();
        let touching = AtomicBool::new(true);
        let ignore = |_| {};
        let prefault = prefault(&mapping, &ignore, None);
        prefault.populate(0, 8 << 20, &touching).expect("touched");
        let faults = crate::PageFaults::of_thread().since(before);
        assert!(faults.minor >= (8 << 20) / crate::host::base_page_bytes(), "{faults:?}");
    }

    #[test]
    fn a_host_without_memory_is_an_error_before_it_is_used_up() {
        let root = tempfile::tempdir().expect("tempdir");
        fs::write(root.path().join("meminfo"), "MemAvailable: 100000 kB\n").expect("write");
        let host = Host { sys: root.path().to_owned(), proc: root.path().to_owned() };
        let mapping = Mapping::anonymous(Rung::Base, 1 << 30).expect("map");
        let ignore = |_| {};
        let error = prefault(&mapping, &ignore, Some(&host)).run().expect_err("100 MB");
        assert!(matches!(error, PoolError::OutOfMemory { done: 0, .. }), "{error}");
    }

    fn prefault<'a>(
        mapping: &'a Mapping,
        progress: &'a (dyn Fn(u64) + Sync),
        watched: Option<&'a Host>,
    ) -> Prefault<'a> {
        use std::sync::OnceLock;
        static CREW: OnceLock<Crew> = OnceLock::new();
        Prefault {
            mapping,
            page_bytes: 4096,
            crew: CREW.get_or_init(|| Crew::new(&[])),
            watched,
            progress,
        }
    }
}
