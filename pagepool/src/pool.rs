//! The pool: guest memory from before the first connection until the process ends.

use std::sync::Arc;
use std::time::Instant;

use crate::blocks::Carved;
use crate::carve::{self, Room, Slot};
use crate::crew::Crew;
use crate::host::Host;
use crate::ladder::Rung;
use crate::mapping::Mapping;
use crate::placement::Placement;
use crate::reclaim;
use crate::region::{Maker, Region};
use crate::run_directory::RunDirectory;
use crate::zero::{self, Choice};
use crate::{
    BlockRequest, Hugepages, MemoryConfig, MemoryReport, PageFaults, PoolError, RamBlocks,
    Reclaimed, RegionReport, ZeroKernel,
};

/// Guest memory that outlives runs. Whatever is not carved from it is zero.
///
/// One run at a time: [`Self::carve`] gives its blocks, [`Self::reclaim`] takes them back. Memory
/// that a run needed beyond the pool stays for the next one, which likely is the same guest.
pub struct Pool {
    hugepages: Hugepages,
    maker: Maker,
    limit_bytes: Option<u64>,
    run_directory: Option<RunDirectory>,
    regions: Vec<Held>,
    file_reports: Vec<RegionReport>,
    choice: &'static Choice,
    lease: u64,
}

/// A region of the pool.
struct Held {
    region: Arc<Region>,
    /// Bytes from its start that a run may have written to.
    used: u64,
    /// Mapped for a run, not asked for by `--pool`.
    late: bool,
}

impl Pool {
    /// Chooses the zero kernel, checks the options against the host, and maps and prefaults the
    /// pool, in parallel and pinned. `progress` is told bytes done and bytes in all.
    ///
    /// # Errors
    /// Memory that cannot be had as asked for; the text names the line that repairs it.
    pub fn open(
        config: &MemoryConfig,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Self, PoolError> {
        let host = Host::here();
        let run_directory = match &config.mem_path {
            None => None,
            Some(path) if config.pool_bytes > 0 => {
                return Err(PoolError::PoolWithMemPath {
                    pool_bytes: config.pool_bytes,
                    mem_path: path.clone(),
                });
            }
            Some(path) => Some(RunDirectory::open(path, config.hugepages, &host)?),
        };
        let takes_memory = run_directory.as_ref().is_none_or(RunDirectory::is_in_memory);
        let default_limit = takes_memory.then(|| default_limit_bytes(&host));
        let mut pool = Self {
            hugepages: config.hugepages,
            maker: Maker {
                placement: Placement::new(&host, &config.numa)?,
                crew: Crew::new(&config.prefault_cpus),
                host,
            },
            limit_bytes: config.max_ram_bytes.or(default_limit),
            run_directory,
            regions: Vec::new(),
            file_reports: Vec::new(),
            choice: zero::choice(),
            lease: 0,
        };
        pool.check_limit(config.pool_bytes)?;
        if config.pool_bytes > 0 {
            let total = config.pool_bytes;
            let rungs = Rung::wanted(config.hugepages);
            let told = |done: u64| progress(done.min(total), total);
            let region = pool.maker.anonymous(total, rungs, &told)?;
            pool.hold(region, false);
        }
        Ok(pool)
    }

    /// What is held now: of a run directory, what the last run got.
    pub fn report(&self) -> MemoryReport {
        let held = self.regions.iter().map(|held| held.region.report().clone());
        let regions = held.chain(self.file_reports.iter().cloned()).collect();
        let empty = MemoryReport {
            wanted: self.hugepages,
            numa: self.maker.placement.wanted().clone(),
            backend: None,
            missing: Vec::new(),
            bytes: 0,
            nodes: Vec::new(),
            prefault_ns: 0,
            prefault_threads: 0,
            prefault_faults: PageFaults::default(),
            max_ram_bytes: self.limit_bytes,
            regions: Vec::new(),
            zero_kernel: self.choice.kernel.name(),
            zero_kernel_timings: self.choice.timings.clone(),
        };
        empty.summed(regions)
    }

    /// The memory for the RAM blocks of a run, all of it zero. What the pool cannot hold is mapped
    /// and prefaulted now ([`RamBlocks::late_ns`]); `progress` is told bytes done and bytes in all
    /// of that. With a run directory every block becomes a fresh file.
    ///
    /// # Errors
    /// Requests that are no blocks, more than `--max-ram`, memory or space that cannot be had, and
    /// blocks of an earlier run that are still held. The pool stays usable.
    pub fn carve(
        &mut self,
        blocks: &[BlockRequest],
        page_bytes: u32,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<RamBlocks, PoolError> {
        let total = RamBlocks::check(blocks, page_bytes)?;
        self.check_limit(total)?;
        self.settle()?;
        let start = Instant::now();
        let (regions, slots, late_bytes) = if self.run_directory.is_some() {
            self.place_in_files(blocks, progress)?
        } else {
            self.place_in_memory(blocks, progress)?
        };
        let elapsed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lease += 1;
        let carved = Carved {
            regions: &regions,
            slots: &slots,
            page_bytes,
            zero_kernel: self.choice.kernel,
            lease: self.lease,
            late_bytes,
            late_ns: if late_bytes > 0 { elapsed } else { 0 },
        };
        let ram = RamBlocks::new(blocks, &carved)?;
        for (request, slot) in blocks.iter().zip(&slots) {
            if let Some(held) = self.regions.get_mut(slot.region) {
                held.used = held.used.max(slot.offset + request.bytes);
            }
        }
        Ok(ram)
    }

    /// Blocks for a run whose pages are counted but not kept: address space and bitmaps of the
    /// right size, no memory. Nothing of the pool is used, and nothing needs to be given back.
    ///
    /// # Errors
    /// Requests that are no blocks, and more address space than there is.
    pub fn sketch(&self, blocks: &[BlockRequest], page_bytes: u32) -> Result<RamBlocks, PoolError> {
        RamBlocks::check(blocks, page_bytes)?;
        let sizes: Vec<u64> = blocks.iter().map(|block| block.bytes).collect();
        let bytes = packed(&sizes)?;
        let mapping = Mapping::unreserved(bytes).map_err(|source| PoolError::Map {
            what: "address space",
            bytes,
            source,
        })?;
        let mut rooms = [Room { bytes, used: 0 }];
        let mut slots = vec![None; sizes.len()];
        carve::fit(&mut rooms, &sizes, &mut slots);
        let slots: Vec<Slot> =
            slots.into_iter().map(|slot| slot.expect("room for all was mapped")).collect();
        let regions = [Arc::new(Region::untouched(mapping))];
        let carved = Carved {
            regions: &regions,
            slots: &slots,
            page_bytes,
            zero_kernel: self.choice.kernel,
            lease: 0,
            late_bytes: 0,
            late_ns: 0,
        };
        RamBlocks::new(blocks, &carved)
    }

    /// Takes the blocks of a run back: clears, in parallel, what was written, and keeps the memory
    /// for the next run. Files of a run directory are unmapped and stay as they are.
    ///
    /// # Panics
    /// If the blocks are not the last ones carved from this pool: our own bug.
    pub fn reclaim(&mut self, blocks: RamBlocks) -> Reclaimed {
        assert_eq!(blocks.lease(), self.lease, "blocks of another run or pool");
        if self.run_directory.is_some() {
            return Reclaimed::default();
        }
        let reclaimed = reclaim::clear_written(&blocks, &self.maker.crew);
        for held in &mut self.regions {
            held.used = 0;
        }
        reclaimed
    }

    /// The zero kernel chosen by measurement at start.
    pub fn zero_kernel(&self) -> ZeroKernel {
        self.choice.kernel
    }

    fn check_limit(&self, found: u64) -> Result<(), PoolError> {
        match self.limit_bytes {
            Some(allowed) if found > allowed => Err(PoolError::OverMaxRam { found, allowed }),
            _ => Ok(()),
        }
    }

    fn hold(&mut self, region: Region, late: bool) {
        let region = Arc::new(region);
        self.regions.push(Held { region, used: 0, late });
    }

    /// Makes sure that nobody holds blocks of an earlier run, and that what such a run wrote is
    /// gone, even if its blocks were dropped and not reclaimed.
    fn settle(&mut self) -> Result<(), PoolError> {
        let lent = |held: &Held| Arc::strong_count(&held.region) > 1;
        if self.regions.iter().any(lent) {
            return Err(PoolError::StillLent);
        }
        for held in self.regions.iter_mut().filter(|held| held.used > 0) {
            reclaim::clear_unknown(&held.region, held.used, &self.maker.crew);
            held.used = 0;
        }
        Ok(())
    }

    fn place_in_memory(
        &mut self,
        blocks: &[BlockRequest],
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Placed, PoolError> {
        let sizes: Vec<u64> = blocks.iter().map(|block| block.bytes).collect();
        let mut slots = self.fit_in_kept(&sizes)?;
        let left = |slots: &[Option<Slot>], take: &dyn Fn(u64) -> bool| -> Vec<u64> {
            let left = sizes.iter().zip(slots).filter(|(_, slot)| slot.is_none());
            left.map(|(bytes, _)| *bytes).filter(|bytes| take(*bytes)).collect()
        };
        let late_before = self.mapped_bytes();
        let total = packed(&left(&slots, &|_| true))?;
        let small_max = match self.hugepages {
            Hugepages::Auto | Hugepages::Huge1G | Hugepages::Huge2M => {
                carve::small_bytes_max(&sizes)
            }
            Hugepages::Thp | Hugepages::Off => 0,
        };
        let large: (_, fn(Hugepages) -> &'static [Rung]) = (small_max + 1, Rung::wanted);
        let small: (_, fn(Hugepages) -> &'static [Rung]) = (0, Rung::for_small_blocks);
        let mut done_before = 0;
        for (at_least, rungs) in [large, small] {
            let missing = left(&slots, &|bytes| bytes >= at_least);
            if missing.is_empty() {
                continue;
            }
            let told = |done: u64| progress(total.min(done_before + done), total);
            let bytes = packed(&missing)?;
            let region = self.maker.anonymous(bytes, rungs(self.hugepages), &told)?;
            done_before += region.bytes();
            self.hold(region, true);
            // Small blocks may find room behind the large ones.
            let mut rooms = self.rooms();
            slots = vec![None; sizes.len()];
            carve::fit(&mut rooms, &sizes, &mut slots);
        }
        let slots = slots.into_iter().map(|slot| slot.expect("mapped above")).collect();
        let regions = self.regions.iter().map(|held| held.region.clone()).collect();
        Ok((regions, slots, self.mapped_bytes() - late_before))
    }

    /// Places what fits into the memory that is there. If that is short, memory of earlier runs
    /// that is of no use to this one is given back first, and all of it where `--max-ram` would not
    /// hold both.
    fn fit_in_kept(&mut self, sizes: &[u64]) -> Result<Vec<Option<Slot>>, PoolError> {
        loop {
            let mut rooms = self.rooms();
            let mut slots = vec![None; sizes.len()];
            carve::fit(&mut rooms, sizes, &mut slots);
            let left = sizes.iter().zip(&slots).filter(|(_, slot)| slot.is_none());
            let left: Vec<u64> = left.map(|(bytes, _)| *bytes).collect();
            if left.is_empty() {
                return Ok(slots);
            }
            let mut rooms = rooms.iter();
            let held_before = self.regions.len();
            self.regions.retain(|held| {
                let used = rooms.next().is_some_and(|room| room.used > 0);
                used || !held.late
            });
            let both = self.mapped_bytes().saturating_add(packed(&left)?);
            if self.limit_bytes.is_some_and(|limit| both > limit) {
                tracing::info!(both, "pool given back: --max-ram does not hold it and this guest");
                self.regions.clear();
            }
            if self.regions.len() == held_before {
                return Ok(slots);
            }
        }
    }

    fn place_in_files(
        &mut self,
        blocks: &[BlockRequest],
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Placed, PoolError> {
        let directory = self.run_directory.as_ref().expect("asked before");
        let regions = directory.make_files(blocks, &self.maker, progress)?;
        self.file_reports = regions.iter().map(|region| region.report().clone()).collect();
        let slots = (0..regions.len()).map(|region| Slot { region, offset: 0 });
        let late_bytes = regions.iter().map(Region::bytes).sum();
        let slots = slots.collect();
        Ok((regions.into_iter().map(Arc::new).collect(), slots, late_bytes))
    }

    fn rooms(&self) -> Vec<Room> {
        let room = |held: &Held| Room { bytes: held.region.bytes(), used: 0 };
        self.regions.iter().map(room).collect()
    }

    fn mapped_bytes(&self) -> u64 {
        self.regions.iter().map(|held| held.region.bytes()).sum()
    }
}

/// The regions, a slot in them for each request, and the bytes mapped just now.
type Placed = (Vec<Arc<Region>>, Vec<Slot>, u64);

fn packed(sizes: &[u64]) -> Result<u64, PoolError> {
    carve::packed_bytes(sizes).ok_or(PoolError::TotalBytes)
}

/// 90 % of what the host can give.
fn default_limit_bytes(host: &Host) -> u64 {
    let all = host.available_bytes().saturating_add(host.free_huge_bytes());
    all / 10 * 9
}
