//! How large the caches of this host's CPUs are.
//!
//! Told by sysfs (the kernel's `Documentation/ABI/testing/sysfs-devices-system-cpu`, `cache`).

use std::fs;
use std::path::Path;

use crate::cpu_list::CpuList;

/// A level 2 cache; in a virtual machine what the guest is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level2 {
    /// How large it is.
    pub bytes: u64,
    /// The CPUs that it belongs to: threads of a core, cores of a cluster.
    pub cpus: CpuList,
}

impl Level2 {
    /// That of a CPU; `None` where nothing tells.
    #[must_use]
    pub fn of(cpu: usize) -> Option<Self> {
        Self::among(Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}/cache")))
    }

    fn among(caches: &Path) -> Option<Self> {
        let is_level_2 = |cache: &Path| {
            fs::read_to_string(cache.join("level")).is_ok_and(|level| level.trim() == "2")
        };
        let mut found = fs::read_dir(caches).ok()?.flatten().map(|entry| entry.path());
        let cache = found.find(|cache| is_level_2(cache))?;
        let size = fs::read_to_string(cache.join("size")).ok()?;
        // In KiB, with a K behind it.
        let bytes = size.trim().strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)?;
        let cpus = fs::read_to_string(cache.join("shared_cpu_list")).ok()?;
        Some(Self { bytes, cpus: cpus.trim().parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_read_and_not_the_place_in_the_list() {
        let caches = tempfile::tempdir().unwrap();
        for (name, level, size, cpus) in [
            ("index0", "1\n", "48K\n", "0,4\n"),
            ("index3", "2\n", "2048K\n", "0-1,4-5\n"),
            ("index2", "3\n", "36608K\n", "0-7\n"),
        ] {
            let cache = caches.path().join(name);
            fs::create_dir(&cache).unwrap();
            fs::write(cache.join("level"), level).unwrap();
            fs::write(cache.join("size"), size).unwrap();
            fs::write(cache.join("shared_cpu_list"), cpus).unwrap();
        }
        let cpus = "0-1,4-5".parse().unwrap();
        assert_eq!(Level2::among(caches.path()), Some(Level2 { bytes: 2 << 20, cpus }));
        fs::write(caches.path().join("index3/size"), "2M\n").unwrap();
        assert_eq!(Level2::among(caches.path()), None, "no size that anybody knows");
        fs::remove_dir_all(caches.path().join("index3")).unwrap();
        assert_eq!(Level2::among(caches.path()), None);
        assert_eq!(Level2::among(Path::new("/nonexistent")), None);
    }
}
