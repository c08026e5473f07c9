//! A region: one mapping of guest RAM with its pages, and the story of how it was got.

use std::time::Instant;

use crate::crew::{Crew, Worked};
use crate::host::{Host, base_page_bytes};
use crate::hugepages::HugeSize;
use crate::ladder::{self, Rung};
use crate::mapping::Mapping;
use crate::placement::{Placement, nodes_of};
use crate::prefault::Prefault;
use crate::{Backend, PoolError, RegionReport};

/// Memory that is mapped and populated; zero wherever nobody wrote since.
pub(crate) struct Region {
    mapping: Mapping,
    report: RegionReport,
}

/// Everything a region is made with.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) host: Host,
    pub(crate) placement: Placement,
    pub(crate) crew: Crew,
}

impl Region {
    /// A region from a mapping that has its pages.
    pub(crate) fn new(mapping: Mapping, report: RegionReport) -> Self {
        Self { mapping, report }
    }

    /// A region of pages that come when they are touched.
    pub(crate) fn untouched(mapping: Mapping) -> Self {
        let report = RegionReport {
            bytes: mapping.bytes() as u64,
            backend: Backend::Base4K,
            huge_bytes: 0,
            missing: Vec::new(),
            nodes: Vec::new(),
            prefault_ns: 0,
            prefault_threads: 0,
            prefault_faults: crate::PageFaults::default(),
        };
        Self::new(mapping, report)
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.mapping.bytes() as u64
    }

    pub(crate) fn report(&self) -> &RegionReport {
        &self.report
    }
}

impl Maker {
    /// Maps and prefaults at least `bytes` of anonymous memory in the best of `rungs` that the host
    /// can give, and notes what kept it from the better ones. `progress` is told bytes done.
    ///
    /// With a single rung, what is missing is the error; with several, it is the last rung's.
    pub(crate) fn anonymous(
        &self,
        bytes: u64,
        rungs: &[Rung],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Region, PoolError> {
        let mut missing = Vec::new();
        let (last, better) = rungs.split_last().expect("a ladder has a rung");
        for rung in better {
            if let Some(text) = ladder::too_small_text(*rung, bytes) {
                missing.push(text);
                continue;
            }
            match self.on_rung(bytes, *rung, &missing, progress) {
                Ok(region) => return Ok(region),
                Err(error) if ends_the_ladder(&error) => return Err(error),
                Err(error) => {
                    let text = ladder::missing_text(*rung, &error);
                    tracing::info!(%text, "hugepages passed over");
                    missing.push(text);
                }
            }
        }
        self.on_rung(bytes, *last, &missing, progress)
    }

    fn on_rung(
        &self,
        bytes: u64,
        rung: Rung,
        missing: &[String],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Region, PoolError> {
        let start = Instant::now();
        rung.check(&self.host, &self.placement, bytes)?;
        let page_bytes = rung.page_bytes();
        let bytes = bytes.checked_next_multiple_of(page_bytes).ok_or(PoolError::TotalBytes)?;
        let mapping = Mapping::anonymous(rung, bytes).map_err(|e| rung.refused(bytes, e))?;
        self.placement.apply(&mapping)?;
        let prefault = Prefault {
            mapping: &mapping,
            page_bytes,
            crew: &self.crew,
            watched: (!matches!(rung, Rung::Huge(_))).then_some(&self.host),
            progress,
        };
        let worked = prefault.run().map_err(|error| blame_rung(rung, error))?;
        let report = RegionReport {
            bytes,
            backend: rung.backend(),
            huge_bytes: huge_bytes(rung, bytes, &worked),
            missing: missing.to_vec(),
            nodes: nodes_of(&mapping),
            prefault_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            prefault_threads: worked.threads,
            prefault_faults: worked.faults,
        };
        Ok(Region::new(mapping, report))
    }

    /// Prefaults a mapped file and reports it.
    pub(crate) fn file(
        &self,
        mapping: Mapping,
        huge: bool,
        start: Instant,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Region, PoolError> {
        let bytes = mapping.bytes() as u64;
        let prefault = Prefault {
            mapping: &mapping,
            page_bytes: base_page_bytes(),
            crew: &self.crew,
            watched: None,
            progress,
        };
        let worked = prefault.run()?;
        let report = RegionReport {
            bytes,
            backend: Backend::File { huge },
            huge_bytes: if huge { bytes } else { 0 },
            missing: Vec::new(),
            nodes: nodes_of(&mapping),
            prefault_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            prefault_threads: worked.threads,
            prefault_faults: worked.faults,
        };
        Ok(Region::new(mapping, report))
    }
}

/// Errors that smaller pages would not repair.
fn ends_the_ladder(error: &PoolError) -> bool {
    matches!(
        error,
        PoolError::OutOfMemory { .. }
            | PoolError::NodesShort { .. }
            | PoolError::Policy { .. }
            | PoolError::TotalBytes
    )
}

/// A hugetlb page that was promised but not given is the rung's failure, not the host's end.
fn blame_rung(rung: Rung, error: PoolError) -> PoolError {
    match (rung, error) {
        (Rung::Huge(size), PoolError::Prefault { cause, source, .. }) => {
            PoolError::HugepagesRefused { size: size.as_str(), doing: "prefault", cause, source }
        }
        (_, error) => error,
    }
}

/// How much of it is huge. For transparent hugepages the faults tell: one that gives a huge page
/// stands for 2 MiB, one that does not for a base page.
fn huge_bytes(rung: Rung, bytes: u64, worked: &Worked) -> u64 {
    match rung {
        Rung::Huge(_) => bytes,
        Rung::Base => 0,
        Rung::Thp => {
            let (huge, base) = (HugeSize::M2.bytes(), base_page_bytes());
            let by_base_pages = worked.faults.minor.saturating_mul(base);
            let step = (huge - base).max(1);
            // To the nearest: the threads took some faults of their own.
            let pages = (bytes.saturating_sub(by_base_pages) + step / 2) / step;
            (pages * huge).min(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Maker;
    use crate::crew::Crew;
    use crate::host::Host;
    use crate::hugepages::{HugeSize, Thp};
    use crate::ladder::Rung;
    use crate::placement::Placement;
    use crate::{Backend, Hugepages, Numa, PoolError};

    #[test]
    fn auto_always_gets_something_and_says_what_it_passed_over() {
        let region = maker().anonymous(32 << 20, Rung::wanted(Hugepages::Auto), &|_| {});
        let region = region.expect("32 MiB");
        let report = region.report();
        println!("{report:?}");
        assert!(region.bytes() >= 32 << 20);
        assert!(report.missing[0].starts_with("1G: "), "{report:?}");
        let best_first = [Backend::Huge1G, Backend::Huge2M, Backend::Thp, Backend::Base4K];
        let got = best_first.iter().position(|backend| *backend == report.backend);
        assert_eq!(got, Some(report.missing.len()), "a text for each better rung");
    }

    #[test]
    fn more_huge_pages_than_any_host_has_name_the_line_to_run() {
        let maker = maker();
        let want = [(Hugepages::Huge2M, HugeSize::M2), (Hugepages::Huge1G, HugeSize::G1)];
        for (hugepages, size) in want {
            let bytes = 1 << 50;
            let error = maker.anonymous(bytes, Rung::wanted(hugepages), &|_| {});
            let error = error.err().expect("no host has 1 PiB");
            println!("{error}");
            let PoolError::HugepagesMissing { needed, line, .. } = error else {
                assert!(matches!(error, PoolError::HugepagesUnknown { .. }), "{error}");
                continue;
            };
            assert_eq!(needed, bytes >> size.bits());
            let (echo, file) = line.split_once(" > ").expect("a shell line");
            let count: u64 = echo["echo ".len()..].parse().expect("a count");
            // Other tests take and give pages meanwhile; what is taken has to come on top.
            assert!(count >= needed, "{line}");
            let kib = size.bytes() / 1024;
            let expected = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
            assert_eq!(file, expected);
        }
    }

    #[test]
    fn the_faults_tell_how_much_is_really_huge() {
        let maker = maker();
        let base = maker.anonymous(64 << 20, &[Rung::Base], &|_| {}).expect("base pages");
        assert_eq!(base.report().huge_bytes, 0);
        assert_eq!(smaps_huge_bytes(&base), 0, "MADV_NOHUGEPAGE");
        if maker.host.thp() == Thp::On {
            let thp = maker.anonymous(64 << 20, &[Rung::Thp], &|_| {}).expect("THP");
            let (told, real) = (thp.report().huge_bytes, smaps_huge_bytes(&thp));
            println!("told {told}, smaps {real}");
            // The threads' own faults may hide one huge page.
            assert!(told.abs_diff(real) <= 2 << 20, "told {told}, smaps {real}");
        }
    }

    /// `AnonHugePages` of the region's part of /proc/self/smaps.
    fn smaps_huge_bytes(region: &super::Region) -> u64 {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let start = format!("{:x}-", region.mapping().base() as usize);
        let part = smaps.split_once(&start).map(|(_, rest)| rest).expect("our mapping");
        crate::available::field_bytes(part, "AnonHugePages").expect("AnonHugePages")
    }

    fn maker() -> Maker {
        let host = Host::here();
        Maker {
            placement: Placement::new(&host, &Numa::Local).expect("local"),
            crew: Crew::new(&[]),
            host,
        }
    }
}
