//! What memory was got, said honestly.

use std::fmt;

use crate::{Backend, ByteSize, Hugepages, KernelTiming, Numa, PageFaults};

/// What [`crate::Pool`] holds now, and how it came to it.
#[derive(Clone, Debug)]
pub struct MemoryReport {
    /// The kind of pages asked for.
    pub wanted: Hugepages,
    /// The nodes asked for.
    pub numa: Numa,
    /// The kind that most bytes are in; `None` while nothing is mapped.
    pub backend: Option<Backend>,
    /// Why better kinds were passed over, one text each, such as `1G: 0 of 4 free`.
    pub missing: Vec<String>,
    /// Bytes mapped and prefaulted.
    pub bytes: u64,
    /// The nodes the pages are on, by samples; empty where the kernel does not tell.
    pub nodes: Vec<u32>,
    /// ns spent mapping and prefaulting.
    pub prefault_ns: u64,
    /// Threads that prefaulted.
    pub prefault_threads: usize,
    /// Page faults taken by prefaulting.
    pub prefault_faults: PageFaults,
    /// Most bytes of guest RAM allowed; `None` where only the space of the run directory counts.
    pub max_ram_bytes: Option<u64>,
    /// The pieces, in the order they were mapped.
    pub regions: Vec<RegionReport>,
    /// The zero kernel in use.
    pub zero_kernel: &'static str,
    /// What was measured of every zero kernel this CPU has.
    pub zero_kernel_timings: Vec<KernelTiming>,
}

/// One mapping of guest RAM.
#[derive(Clone, Debug)]
pub struct RegionReport {
    /// Bytes mapped and prefaulted.
    pub bytes: u64,
    /// The kind of memory.
    pub backend: Backend,
    /// Bytes that are in huge pages: all of hugetlb memory, what the kernel gave of transparent
    /// hugepages (told by the number of faults), none of base pages.
    pub huge_bytes: u64,
    /// Why better kinds were passed over.
    pub missing: Vec<String>,
    /// The nodes the pages are on, by samples.
    pub nodes: Vec<u32>,
    /// ns spent mapping and prefaulting.
    pub prefault_ns: u64,
    /// Threads that prefaulted.
    pub prefault_threads: usize,
    /// Page faults taken by prefaulting.
    pub prefault_faults: PageFaults,
}

impl MemoryReport {
    /// The sums over `regions`; the other members are taken as given.
    pub(crate) fn summed(self, regions: Vec<RegionReport>) -> Self {
        let largest = regions.iter().max_by_key(|region| region.bytes);
        let mut nodes: Vec<u32> = regions.iter().flat_map(|r| r.nodes.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let sum = |of: fn(&RegionReport) -> u64| regions.iter().map(of).sum::<u64>();
        Self {
            backend: largest.map(|region| region.backend),
            missing: largest.map_or_else(Vec::new, |region| region.missing.clone()),
            bytes: sum(|region| region.bytes),
            nodes,
            prefault_ns: sum(|region| region.prefault_ns),
            prefault_threads: regions.iter().map(|r| r.prefault_threads).max().unwrap_or(0),
            prefault_faults: PageFaults {
                minor: sum(|region| region.prefault_faults.minor),
                major: sum(|region| region.prefault_faults.major),
            },
            regions,
            ..self
        }
    }
}

/// One line, such as `guest memory: 2 GiB as 2M hugepages (wanted auto; 1G: 0 of 2 free), node 0
/// (local), prefaulted in 312 ms by 2 threads (6.4 GiB/s)`.
impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(backend) = self.backend else {
            return f.write_str("guest memory: no pool; mapped when the source announces it");
        };
        write!(f, "guest memory: {} as {}", ByteSize(self.bytes), described(backend))?;
        if backend == Backend::Thp {
            let of = |part: fn(&RegionReport) -> u64| -> u64 {
                let thp = self.regions.iter().filter(|r| r.backend == Backend::Thp);
                thp.map(part).sum()
            };
            let (huge, all) = (of(|region| region.huge_bytes), of(|region| region.bytes));
            write!(f, " ({} % of it huge)", huge * 100 / all.max(1))?;
        }
        write!(f, " (wanted {}", self.wanted)?;
        for text in &self.missing {
            write!(f, "; {text}")?;
        }
        f.write_str(")")?;
        for region in self.regions.iter().filter(|region| region.backend != backend) {
            write!(f, ", {} as {}", ByteSize(region.bytes), described(region.backend))?;
        }
        match &self.nodes[..] {
            [] => {}
            [node] => write!(f, ", node {node} ({})", policy_text(&self.numa))?,
            nodes => {
                let nodes = Numa::Bind(nodes.to_vec());
                write!(f, ", nodes {nodes} ({})", policy_text(&self.numa))?;
            }
        }
        let seconds = self.prefault_ns as f64 / 1e9;
        let threads = self.prefault_threads;
        write!(f, ", prefaulted in {:.0} ms by {threads} thread", seconds * 1e3)?;
        f.write_str(if threads == 1 { "" } else { "s" })?;
        let gib = self.bytes as f64 / (1u64 << 30) as f64;
        write!(f, " ({:.1} GiB/s)", gib / seconds.max(1e-9))
    }
}

/// A policy in a sentence.
fn policy_text(numa: &Numa) -> String {
    match numa {
        Numa::Local | Numa::Interleave => numa.to_string(),
        Numa::Bind(_) => format!("bound to {numa}"),
    }
}

/// A backend in a sentence.
fn described(backend: Backend) -> &'static str {
    match backend {
        Backend::Huge1G => "1G hugepages",
        Backend::Huge2M => "2M hugepages",
        Backend::Thp => "transparent hugepages",
        Backend::Base4K => "base pages",
        Backend::File { huge: false } => "files",
        Backend::File { huge: true } => "hugetlbfs files",
    }
}

#[cfg(test)]
mod tests {
    use super::{MemoryReport, RegionReport};
    use crate::{Backend, Hugepages, Numa, PageFaults};

    #[test]
    fn the_line_says_what_was_got_and_what_was_missing() {
        let main = RegionReport {
            bytes: 2 << 30,
            backend: Backend::Huge2M,
            huge_bytes: 2 << 30,
            missing: vec!["1G: 0 of 2 free".to_owned()],
            nodes: vec![0],
            prefault_ns: 312_000_000,
            prefault_threads: 2,
            prefault_faults: PageFaults::default(),
        };
        assert_eq!(
            report(vec![main.clone()]).to_string(),
            "guest memory: 2 GiB as 2M hugepages (wanted auto; 1G: 0 of 2 free), node 0 (local), \
             prefaulted in 312 ms by 2 threads (6.4 GiB/s)"
        );
        let side = RegionReport {
            bytes: 17 << 20,
            backend: Backend::Thp,
            huge_bytes: 16 << 20,
            nodes: vec![1],
            prefault_ns: 0,
            prefault_threads: 1,
            ..main.clone()
        };
        assert_eq!(
            report(vec![main, side]).to_string(),
            "guest memory: 2.0 GiB as 2M hugepages (wanted auto; 1G: 0 of 2 free), 17 MiB as \
             transparent hugepages, nodes 0,1 (local), prefaulted in 312 ms by 2 threads (6.5 GiB/s)"
        );
    }

    #[test]
    fn nothing_mapped_is_said_too() {
        let line = report(Vec::new()).to_string();
        assert_eq!(line, "guest memory: no pool; mapped when the source announces it");
    }

    fn report(regions: Vec<RegionReport>) -> MemoryReport {
        let empty = MemoryReport {
            wanted: Hugepages::Auto,
            numa: Numa::Local,
            backend: None,
            missing: Vec::new(),
            bytes: 0,
            nodes: Vec::new(),
            prefault_ns: 0,
            prefault_threads: 0,
            prefault_faults: PageFaults::default(),
            max_ram_bytes: None,
            regions: Vec::new(),
            zero_kernel: "scalar",
            zero_kernel_timings: Vec::new(),
        };
        empty.summed(regions)
    }
}
