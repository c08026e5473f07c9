//! What hugepages the host has.
//!
//! Sources: Documentation/admin-guide/mm/hugetlbpage.rst and transhuge.rst of the kernel.

use std::fs;
use std::path::PathBuf;

use crate::host::Host;

/// The hugetlb page sizes that guest RAM is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HugeSize {
    /// 1 GiB.
    G1,
    /// 2 MiB.
    M2,
}

impl HugeSize {
    /// Bytes of a page.
    pub(crate) const fn bytes(self) -> u64 {
        1 << self.bits()
    }

    /// The page size as a power of two, as `MAP_HUGE_SHIFT` wants it (mmap(2)).
    pub(crate) const fn bits(self) -> u8 {
        match self {
            Self::G1 => 30,
            Self::M2 => 21,
        }
    }

    /// `1G` or `2M`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::G1 => "1G",
            Self::M2 => "2M",
        }
    }

    /// The name of the directory that describes pages of this size.
    fn directory_name(self) -> String {
        format!("hugepages-{}kB", self.bytes() / 1024)
    }
}

/// The host's pages of one size, on all nodes or on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HugePool {
    /// `nr_hugepages`: how many exist.
    pub(crate) total: u64,
    /// How many are free and not promised to another mapping.
    pub(crate) free: u64,
}

/// The state of transparent hugepages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thp {
    /// They may be had: the mode is `always` or `madvise`.
    On,
    /// They may not; what the kernel says about it.
    Off(String),
}

impl Host {
    /// The directory that describes pages of this size; of one node, or of all.
    pub(crate) fn huge_pool_directory(&self, size: HugeSize, node: Option<u32>) -> PathBuf {
        let parent = match node {
            None => self.sys.join("kernel/mm/hugepages"),
            Some(node) => self.sys.join(format!("devices/system/node/node{node}/hugepages")),
        };
        parent.join(size.directory_name())
    }

    /// The pages of this size; `None` if the kernel has no such pages.
    pub(crate) fn huge_pool(&self, size: HugeSize, node: Option<u32>) -> Option<HugePool> {
        let directory = self.huge_pool_directory(size, node);
        let number = |name: &str| read_number(&directory.join(name));
        let free = number("free_hugepages")?;
        // Reserved pages are still counted as free until they are touched. Nodes do not tell.
        let reserved = number("resv_hugepages").unwrap_or(0);
        Some(HugePool { total: number("nr_hugepages")?, free: free.saturating_sub(reserved) })
    }

    /// Bytes of all hugepages that are free, of every size.
    pub(crate) fn free_huge_bytes(&self) -> u64 {
        [HugeSize::G1, HugeSize::M2]
            .into_iter()
            .filter_map(|size| Some(self.huge_pool(size, None)?.free.saturating_mul(size.bytes())))
            .fold(0, u64::saturating_add)
    }

    /// Whether transparent hugepages may be had by asking for them.
    pub(crate) fn thp(&self) -> Thp {
        let path = self.sys.join("kernel/mm/transparent_hugepage/enabled");
        match fs::read_to_string(&path) {
            Ok(modes) if modes.contains("[always]") || modes.contains("[madvise]") => Thp::On,
            Ok(modes) => Thp::Off(modes.trim().to_owned()),
            Err(error) => Thp::Off(format!("{}: {error}", path.display())),
        }
    }
}

/// The number that a file holds alone.
fn read_number(path: &std::path::Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{HugePool, HugeSize, Thp};
    use crate::host::Host;

    #[test]
    fn reserved_pages_are_not_free() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = host(root.path());
        assert_eq!(host.huge_pool(HugeSize::M2, None), None);
        let directory = host.huge_pool_directory(HugeSize::M2, None);
        fs::create_dir_all(&directory).expect("mkdir");
        for (name, text) in [("nr", "512\n"), ("free", "500\n"), ("resv", "100\n")] {
            fs::write(directory.join(format!("{name}_hugepages")), text).expect("write");
        }
        let found = host.huge_pool(HugeSize::M2, None);
        assert_eq!(found, Some(HugePool { total: 512, free: 400 }));
        assert_eq!(host.free_huge_bytes(), 400 << 21);
    }

    #[test]
    fn thp_is_on_in_always_and_madvise() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = host(root.path());
        assert!(matches!(host.thp(), Thp::Off(_)), "no such file");
        let directory = root.path().join("kernel/mm/transparent_hugepage");
        fs::create_dir_all(&directory).expect("mkdir");
        let cases = [
            ("[always] madvise never", true),
            ("always [madvise] never", true),
            ("always madvise [never]", false),
        ];
        for (text, on) in cases {
            fs::write(directory.join("enabled"), text).expect("write");
            assert_eq!(host.thp() == Thp::On, on, "{text}");
        }
    }

    #[test]
    fn directories_are_the_kernels() {
        let host = Host::here();
        let shown = |size, node| host.huge_pool_directory(size, node).display().to_string();
        assert_eq!(shown(HugeSize::G1, None), "/sys/kernel/mm/hugepages/hugepages-1048576kB");
        assert_eq!(
            shown(HugeSize::M2, Some(3)),
            "/sys/devices/system/node/node3/hugepages/hugepages-2048kB"
        );
    }

    fn host(root: &Path) -> Host {
        Host { sys: root.to_owned(), proc: root.to_owned() }
    }
}
