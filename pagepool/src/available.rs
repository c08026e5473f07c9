//! How much memory the host can still give.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::Host;

impl Host {
    /// Bytes of ordinary memory that can be had without swapping: `MemAvailable` of /proc/meminfo,
    /// or less where the process's control group leaves less. `u64::MAX` if the host does not tell.
    pub(crate) fn available_bytes(&self) -> u64 {
        let meminfo = fs::read_to_string(self.proc.join("meminfo")).unwrap_or_default();
        let host = field_bytes(&meminfo, "MemAvailable").unwrap_or(u64::MAX);
        host.min(self.group_available_bytes().unwrap_or(u64::MAX))
    }

    /// What the tightest control group around this process leaves; `None` without a limit.
    fn group_available_bytes(&self) -> Option<u64> {
        let groups = fs::read_to_string(self.proc.join("self/cgroup")).ok()?;
        let root = self.sys.join("fs/cgroup");
        groups.lines().filter_map(|line| left_in_line(&root, line)).min()
    }
}

/// What a line of /proc/self/cgroup (cgroups(7): `id:controllers:path`) leaves of memory, going up
/// from the group to the root.
fn left_in_line(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, limit, usage, given_up) = match controllers {
        "" => (root.to_owned(), "memory.max", "memory.current", &GIVEN_UP[..]),
        "memory" => {
            let root = root.join("memory");
            (root, "memory.limit_in_bytes", "memory.usage_in_bytes", &GIVEN_UP_V1[..])
        }
        _ => return None,
    };
    let group = root.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(&root));
    let left = |group: &Path| {
        let number = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(PathBuf::from(group).join(name)).ok()?;
            text.trim().parse().ok() // "max" is no number and no limit
        };
        let (limit, usage) = (number(limit)?, number(usage)?);
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        Some(limit.saturating_sub(usage.saturating_sub(stat_bytes(&stat, given_up))))
    };
    groups.filter_map(left).min()
}

/// The sum of some lines `name 123` of a memory.stat.
fn stat_bytes(stat: &str, names: &[&str]) -> u64 {
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    let numbers = lines.filter(|(name, _)| names.contains(name));
    numbers.filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// The bytes of a `Name:  123 kB` line of a meminfo file, the host's or a node's.
pub(crate) fn field_bytes(meminfo: &str, name: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| {
        let (head, tail) = line.split_once(':')?;
        if head.split_whitespace().last() != Some(name) {
            return None;
        }
        let kib: u64 = tail.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    })
}

/// What the kernel takes back before a control group runs out of memory, though it counts as used:
/// the cache of files, and what it keeps of them (Documentation/admin-guide/cgroup-v2.rst).
const GIVEN_UP: [&str; 3] = ["inactive_file", "active_file", "slab_reclaimable"];
/// The same in the first version, which counts groups below only in `total_` lines and no slabs
/// (Documentation/admin-guide/cgroup-v1/memory.rst).
const GIVEN_UP_V1: [&str; 2] = ["total_inactive_file", "total_active_file"];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{GIVEN_UP, GIVEN_UP_V1, stat_bytes};
    use crate::host::Host;

    #[test]
    fn the_tightest_control_group_counts() {
        let root = tempfile::tempdir().expect("tempdir");
        let (sys, proc) = (root.path().join("sys"), root.path().join("proc"));
        let outer = sys.join("fs/cgroup/outer");
        fs::create_dir_all(outer.join("inner")).expect("mkdir");
        fs::create_dir_all(proc.join("self")).expect("mkdir");
        let host = Host { sys, proc: proc.clone() };
        assert_eq!(host.available_bytes(), u64::MAX, "nothing is told");
        fs::write(proc.join("meminfo"), "MemFree: 1 kB\nMemAvailable: 1000 kB\n").expect("write");
        assert_eq!(host.available_bytes(), 1000 * 1024);
        fs::write(proc.join("self/cgroup"), "3:cpu:/x\n0::/outer/inner\n").expect("write");
        fs::write(outer.join("inner/memory.max"), "max\n").expect("write");
        fs::write(outer.join("inner/memory.current"), "10\n").expect("write");
        fs::write(outer.join("memory.max"), "500000\n").expect("write");
        fs::write(outer.join("memory.current"), "100000\n").expect("write");
        assert_eq!(host.available_bytes(), 400_000);
    }

    #[test]
    fn file_cache_of_a_control_group_counts_as_available() {
        let root = tempfile::tempdir().expect("tempdir");
        let (sys, proc) = (root.path().join("sys"), root.path().join("proc"));
        fs::create_dir_all(proc.join("self")).expect("mkdir");
        fs::write(proc.join("meminfo"), "MemAvailable: 1000 kB\n").expect("write");
        let stat = "anon 90000\nfile 370000\ninactive_file 200000\nactive_file 100000\n\
                    slab_reclaimable 40000\nslab 60000\ntotal_inactive_file 250000\n\
                    total_active_file 110000\nshmem 70000\n";
        let host = Host { sys: sys.clone(), proc: proc.clone() };
        for (line, group, limit, usage, available) in [
            ("0::/it", "it", "memory.max", "memory.current", 20_000 + 340_000),
            (
                "4:memory:/it",
                "memory/it",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                20_000 + 360_000,
            ),
        ] {
            let group = sys.join("fs/cgroup").join(group);
            fs::create_dir_all(&group).expect("mkdir");
            fs::write(proc.join("self/cgroup"), line).expect("write");
            fs::write(group.join(limit), "500000\n").expect("write");
            fs::write(group.join(usage), "480000\n").expect("write");
            assert_eq!(host.available_bytes(), 20_000, "{line}: it does not tell");
            fs::write(group.join("memory.stat"), stat).expect("write");
            assert_eq!(host.available_bytes(), available, "{line}");
            // The two files are not read at once.
            fs::write(group.join(usage), "1\n").expect("write");
            assert_eq!(host.available_bytes(), 500_000, "{line}");
        }
    }

    #[test]
    fn lines_of_a_memory_stat_add_up() {
        let stat = "inactive_file 5\nactive_file 7\nslab_reclaimable 11\nactive_file_x 100\n";
        assert_eq!(stat_bytes(stat, &GIVEN_UP), 23);
        assert_eq!(stat_bytes(stat, &GIVEN_UP_V1), 0);
        for odd in ["", "inactive_file", "inactive_file x\n", "inactive_file -1\n"] {
            assert_eq!(stat_bytes(odd, &GIVEN_UP), 0, "{odd}");
        }
    }

    #[test]
    fn this_host_tells() {
        let found = Host::here().available_bytes();
        println!("available: {found}");
        assert!(found > 0 && found < u64::MAX);
    }
}
