//! How large the caches of this host's CPUs are.
//!
//! Told by sysfs (the kernel's `Documentation/ABI/testing/sysfs-devices-system-cpu`, `cache`).

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Bytes of the level 2 cache of this host's first CPU; `None` where nothing tells. In a virtual
/// machine it is what the guest is told.
pub fn level_2_bytes() -> Option<u64> {
    static BYTES: OnceLock<Option<u64>> = OnceLock::new();
    *BYTES.get_or_init(|| level_2(Path::new("/sys/devices/system/cpu/cpu0/cache")))
}

fn level_2(caches: &Path) -> Option<u64> {
    let is_level_2 = |cache: &Path| {
        fs::read_to_string(cache.join("level")).is_ok_and(|level| level.trim() == "2")
    };
    let mut found = fs::read_dir(caches).ok()?.flatten().map(|entry| entry.path());
    let size = fs::read_to_string(found.find(|cache| is_level_2(cache))?.join("size")).ok()?;
    // In KiB, with a K behind it.
    size.trim().strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_read_and_not_the_place_in_the_list() {
        let caches = tempfile::tempdir().unwrap();
        for (name, level, size) in [
            ("index0", "1\n", "48K\n"),
            ("index3", "2\n", "2048K\n"),
            ("index2", "3\n", "36608K\n"),
        ] {
            let cache = caches.path().join(name);
            fs::create_dir(&cache).unwrap();
            fs::write(cache.join("level"), level).unwrap();
            fs::write(cache.join("size"), size).unwrap();
        }
        assert_eq!(level_2(caches.path()), Some(2 << 20));
        fs::write(caches.path().join("index3/size"), "2M\n").unwrap();
        assert_eq!(level_2(caches.path()), None, "no size that anybody knows");
        fs::remove_dir_all(caches.path().join("index3")).unwrap();
        assert_eq!(level_2(caches.path()), None);
        assert_eq!(level_2(Path::new("/nonexistent")), None);
    }
}
