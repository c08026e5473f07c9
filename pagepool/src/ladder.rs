//! The kinds of anonymous memory, best first, and what keeps a host from giving one.

use nix::errno::Errno;

use crate::host::{Host, base_page_bytes};
use crate::hugepages::{HugeSize, Thp};
use crate::placement::Placement;
use crate::{Backend, ByteSize, Hugepages, PoolError};

/// A kind of anonymous memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// Hugetlb pages.
    Huge(HugeSize),
    /// Base pages that the kernel is asked to make huge.
    Thp,
    /// Base pages.
    Base,
}

impl Rung {
    /// The rungs to try for what was asked, best first.
    pub(crate) fn wanted(hugepages: Hugepages) -> &'static [Self] {
        match hugepages {
            Hugepages::Auto => &ALL,
            Hugepages::Huge1G => &ALL[..1],
            Hugepages::Huge2M => &ALL[1..2],
            Hugepages::Thp => &ALL[2..3],
            Hugepages::Off => &ALL[3..],
        }
    }

    /// The rungs for blocks that are small change beside the guest's memory; see `carve`.
    pub(crate) fn for_small_blocks(hugepages: Hugepages) -> &'static [Self] {
        match hugepages {
            Hugepages::Auto | Hugepages::Huge1G | Hugepages::Huge2M => &ALL[1..],
            Hugepages::Thp | Hugepages::Off => Self::wanted(hugepages),
        }
    }

    /// Bytes of the pages that memory of this kind comes in, and is rounded up to.
    pub(crate) fn page_bytes(self) -> u64 {
        match self {
            Self::Huge(size) => size.bytes(),
            // A last part that fills no huge page still is made of base pages.
            Self::Thp | Self::Base => base_page_bytes(),
        }
    }

    /// The name in reports.
    pub(crate) fn backend(self) -> Backend {
        match self {
            Self::Huge(HugeSize::G1) => Backend::Huge1G,
            Self::Huge(HugeSize::M2) => Backend::Huge2M,
            Self::Thp => Backend::Thp,
            Self::Base => Backend::Base4K,
        }
    }

    /// Whether the host can give `bytes` of this kind on these nodes, by its books.
    pub(crate) fn check(
        self,
        host: &Host,
        placement: &Placement,
        bytes: u64,
    ) -> Result<(), PoolError> {
        match self {
            Self::Huge(size) => check_huge(host, placement.bound_nodes(), size, bytes),
            Self::Thp => {
                placement.check_room(host, bytes)?;
                match host.thp() {
                    Thp::On => Ok(()),
                    Thp::Off(found) => Err(PoolError::ThpOff {
                        found,
                        line: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
                    }),
                }
            }
            Self::Base => placement.check_room(host, bytes),
        }
    }

    /// The error for an `mmap` that the kernel refused although the books looked good.
    pub(crate) fn refused(self, bytes: u64, source: Errno) -> PoolError {
        match self {
            Self::Huge(size) => PoolError::HugepagesRefused {
                size: size.as_str(),
                doing: "mmap",
                cause: "likely taken by another process just now",
                source,
            },
            Self::Thp | Self::Base => {
                PoolError::Map { what: self.backend().as_str(), bytes, source }
            }
        }
    }
}

/// One line on why a rung was passed over.
pub(crate) fn missing_text(rung: Rung, error: &PoolError) -> String {
    let name = rung.backend();
    match error {
        PoolError::HugepagesMissing { free, needed, .. } => {
            format!("{name}: {free} of {needed} free")
        }
        PoolError::HugepagesUnknown { .. } => format!("{name}: unknown to this kernel"),
        PoolError::HugepagesRefused { doing, source, .. } => {
            format!("{name}: {doing}: {}", source.desc())
        }
        PoolError::ThpOff { found, .. } => format!("{name}: off ({found})"),
        other => format!("{name}: {other}"),
    }
}

/// Why pages larger than all that is needed are not even asked for; `None` if they are.
pub(crate) fn too_small_text(rung: Rung, bytes: u64) -> Option<String> {
    let page_bytes = match rung {
        Rung::Huge(size) => size.bytes(),
        Rung::Thp => HugeSize::M2.bytes(),
        Rung::Base => 0,
    };
    let name = rung.backend();
    (bytes < page_bytes).then(|| format!("{name}: {} fill no page", ByteSize(bytes)))
}

fn check_huge(
    host: &Host,
    nodes: Option<&[u32]>,
    size: HugeSize,
    bytes: u64,
) -> Result<(), PoolError> {
    let needed = bytes.div_ceil(size.bytes());
    // What binding demands of each node cannot be known; the line asks the first for what lacks.
    let places: Vec<Option<u32>> = match nodes {
        None => vec![None],
        Some(nodes) => nodes.iter().copied().map(Some).collect(),
    };
    let mut free = 0u64;
    for place in &places {
        let Some(pool) = host.huge_pool(size, *place) else {
            return Err(PoolError::HugepagesUnknown {
                size: size.as_str(),
                directory: host.huge_pool_directory(size, *place),
            });
        };
        free = free.saturating_add(pool.free);
    }
    // The nodes' books do not know reservations, the host's do.
    free = free.min(host.huge_pool(size, None).map_or(free, |pool| pool.free));
    if needed <= free {
        return Ok(());
    }
    let first = places.first().copied().flatten();
    let total = host.huge_pool(size, first).map_or(0, |pool| pool.total);
    let file = host.huge_pool_directory(size, first).join("nr_hugepages");
    let line = format!("echo {} > {}", total.saturating_add(needed - free), file.display());
    Err(PoolError::HugepagesMissing { size: size.as_str(), needed, free, line })
}

const ALL: [Rung; 4] = [Rung::Huge(HugeSize::G1), Rung::Huge(HugeSize::M2), Rung::Thp, Rung::Base];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Rung, missing_text};
    use crate::host::Host;
    use crate::hugepages::HugeSize;
    use crate::placement::Placement;
    use crate::{Numa, PoolError};

    #[test]
    fn missing_pages_name_the_line_that_makes_them() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = with_2m_pages(root.path(), 100, 60, 10);
        let rung = Rung::Huge(HugeSize::M2);
        let any = Placement::new(&host, &Numa::Local).expect("local");
        rung.check(&host, &any, 50 << 21).expect("50 are free and unreserved");
        let error = rung.check(&host, &any, (50 << 21) + 1).expect_err("51 are not");
        assert_eq!(missing_text(rung, &error), "2M: 50 of 51 free");
        // 100 exist, 50 can be had, one more is needed.
        let line = format!(
            "echo 101 > {}/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            root.path().display()
        );
        assert_eq!(error.to_string(), format!("2M hugepages: 50 of 51 free; run: {line}"));
    }

    #[test]
    fn bound_memory_needs_the_nodes_own_pages() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = with_2m_pages(root.path(), 100, 60, 0);
        let node = root.path().join("devices/system/node/node0/hugepages/hugepages-2048kB");
        fs::create_dir_all(&node).expect("mkdir");
        fs::write(node.join("nr_hugepages"), "8").expect("write");
        fs::write(node.join("free_hugepages"), "4").expect("write");
        let rung = Rung::Huge(HugeSize::M2);
        let bound = Placement::new(&host, &Numa::Bind(vec![0])).expect("node 0");
        rung.check(&host, &bound, 4 << 21).expect("4 pages");
        let error = rung.check(&host, &bound, 6 << 21).expect_err("6 pages");
        let PoolError::HugepagesMissing { line, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(line, format!("echo 10 > {}/nr_hugepages", node.display()));
    }

    #[test]
    fn a_size_the_kernel_does_not_know_is_said_so() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = with_2m_pages(root.path(), 1, 1, 0);
        let any = Placement::new(&host, &Numa::Local).expect("local");
        let rung = Rung::Huge(HugeSize::G1);
        let error = rung.check(&host, &any, 1 << 30).expect_err("no 1G");
        assert_eq!(missing_text(rung, &error), "1G: unknown to this kernel");
    }

    #[test]
    fn switched_off_thp_names_the_line() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = with_2m_pages(root.path(), 0, 0, 0);
        let directory = root.path().join("kernel/mm/transparent_hugepage");
        fs::create_dir_all(&directory).expect("mkdir");
        fs::write(directory.join("enabled"), "always madvise [never]\n").expect("write");
        let any = Placement::new(&host, &Numa::Local).expect("local");
        let error = Rung::Thp.check(&host, &any, 4096).expect_err("never");
        let line = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
        assert!(error.to_string().ends_with(line), "{error}");
    }

    fn with_2m_pages(root: &Path, total: u64, free: u64, reserved: u64) -> Host {
        let directory = root.join("kernel/mm/hugepages/hugepages-2048kB");
        fs::create_dir_all(&directory).expect("mkdir");
        for (name, count) in [("nr", total), ("free", free), ("resv", reserved)] {
            let file = directory.join(format!("{name}_hugepages"));
            fs::write(file, count.to_string()).expect("write");
        }
        Host { sys: root.to_owned(), proc: root.to_owned() }
    }
}
