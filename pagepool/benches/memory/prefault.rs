//! Prefaulting: a pool is opened and a block carved from it that has all its pages, by backend and
//! number of threads. Closing it is not counted.

use std::fs;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use landfall_pagepool::{Backend, Hugepages, MemoryConfig, Pool, PoolError, RamBlocks};
use tempfile::TempDir;

use crate::mapped::Mapped;
use crate::{PAGE, config, request};

/// Prefaults `bytes`, or more where pages are larger; a kind that this host does not have is passed
/// over, and it is said why.
pub(crate) fn prefault(criterion: &mut Criterion, bytes: u64) {
    let cpus: Vec<usize> =
        core_affinity::get_core_ids().expect("CPUs").into_iter().map(|cpu| cpu.id).collect();
    let mut group = criterion.benchmark_group("prefault");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for kind in KINDS {
        for threads in [1, 2] {
            let name = format!("{}, {threads} threads", kind.name);
            let prefault_cpus = cpus.iter().copied().cycle().take(threads).collect();
            // Each thread has a page to ask for.
            let bytes = bytes.max(kind.huge_page_bytes.unwrap_or(0) * threads as u64);
            let asked = Asked { kind, bytes, prefault_cpus };
            if let Err(missing) = asked.get() {
                println!("prefault/{name}: {missing}");
                continue;
            }
            group.throughput(Throughput::Bytes(bytes));
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|times| {
                    (0..times).map(|_| asked.get().expect("memory, as before")).sum::<Duration>()
                });
            });
        }
    }
    group.finish();
}

/// A kind of memory.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    hugepages: Hugepages,
    place: Place,
    /// What must come of it.
    backend: Backend,
    /// Of hugetlb memory.
    huge_page_bytes: Option<u64>,
}

/// Where the memory is.
#[derive(Clone, Copy)]
enum Place {
    Anonymous,
    /// Files of a run directory in `/dev/shm`.
    Shm,
    /// Files of a run directory on a hugetlbfs of 2 MiB pages.
    Hugetlbfs,
}

/// What a pool is asked for.
struct Asked {
    kind: Kind,
    bytes: u64,
    prefault_cpus: Vec<usize>,
}

impl Asked {
    /// How long it took; or why it cannot be had.
    fn get(&self) -> Result<Duration, String> {
        let Kind { hugepages, place, backend, huge_page_bytes, .. } = self.kind;
        let directory = place.directory()?;
        let start = Instant::now();
        let (pool, ram) = self.open(directory.as_ref()).map_err(|error| error.to_string())?;
        let elapsed = start.elapsed();
        let report = pool.report();
        assert_eq!((report.wanted, report.backend), (hugepages, Some(backend)));
        assert_eq!(report.prefault_threads, self.prefault_cpus.len(), "{report}");
        let mapped = Mapped::of(&ram[0]);
        assert!(mapped.bytes >= self.bytes, "{mapped:?} for {} bytes", self.bytes);
        // The kernel may take back what nobody has touched: a page of a file is unmapped, one of a
        // process is swapped out.
        let gone = mapped.bytes - mapped.present_bytes;
        assert!(gone <= mapped.bytes / GONE_PART, "all of it was there: {mapped:?}");
        let is_right = |bytes| mapped.page_bytes == bytes;
        let is_base = mapped.page_bytes < HUGE_BYTES;
        assert!(huge_page_bytes.map_or(is_base, is_right), "{mapped:?} as {backend}");
        assert!(backend == Backend::Thp || mapped.thp_bytes == 0, "{mapped:?} as {backend}");
        Ok(elapsed)
    }

    fn open(&self, directory: Option<&TempDir>) -> Result<(Pool, RamBlocks), PoolError> {
        // A run directory has no pool: its files come with the blocks.
        let pool_bytes = if directory.is_some() { 0 } else { self.bytes };
        let config = MemoryConfig {
            prefault_cpus: self.prefault_cpus.clone(),
            mem_path: directory.map(|directory| directory.path().to_owned()),
            ..config(self.kind.hugepages, pool_bytes)
        };
        let mut pool = Pool::open(&config, &|_, _| {})?;
        let ram = pool.carve(&[request(self.bytes)], PAGE as u32, &|_, _| {})?;
        Ok((pool, ram))
    }
}

impl Place {
    /// The run directory, if there is one; it goes with the value.
    fn directory(self) -> Result<Option<TempDir>, String> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Shm => match tempfile::tempdir_in("/dev/shm") {
                Ok(directory) => Ok(Some(directory)),
                Err(error) => Err(format!("/dev/shm: {error}")),
            },
            Self::Hugetlbfs => {
                let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
                let directory = mounts.lines().find_map(|line| {
                    let [_, mount, kind, options, ..] = line.split(' ').collect::<Vec<_>>()[..]
                    else {
                        return None;
                    };
                    let fits = kind == "hugetlbfs" && options.contains("pagesize=2M");
                    fits.then(|| tempfile::tempdir_in(mount).ok()).flatten()
                });
                directory.map(Some).ok_or_else(|| "no hugetlbfs of 2M pages is mounted".to_owned())
            }
        }
    }
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "4K",
        hugepages: Hugepages::Off,
        place: Place::Anonymous,
        backend: Backend::Base4K,
        huge_page_bytes: None,
    },
    Kind {
        name: "THP",
        hugepages: Hugepages::Thp,
        place: Place::Anonymous,
        backend: Backend::Thp,
        huge_page_bytes: None,
    },
    Kind {
        name: "2M",
        hugepages: Hugepages::Huge2M,
        place: Place::Anonymous,
        backend: Backend::Huge2M,
        huge_page_bytes: Some(HUGE_BYTES),
    },
    Kind {
        name: "1G",
        hugepages: Hugepages::Huge1G,
        place: Place::Anonymous,
        backend: Backend::Huge1G,
        huge_page_bytes: Some(1 << 30),
    },
    Kind {
        name: "file in /dev/shm",
        hugepages: Hugepages::Off,
        place: Place::Shm,
        backend: Backend::File { huge: false },
        huge_page_bytes: None,
    },
    Kind {
        name: "file on hugetlbfs",
        hugepages: Hugepages::Huge2M,
        place: Place::Hugetlbfs,
        backend: Backend::File { huge: true },
        huge_page_bytes: Some(HUGE_BYTES),
    },
];

/// Less than a page of 2 MiB in the test suite's few.
const GONE_PART: u64 = 64;
/// The least of hugepages.
const HUGE_BYTES: u64 = 2 << 20;
