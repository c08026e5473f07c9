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
    let (root, limit, usage) = match controllers {
        "" => (root.to_owned(), "memory.max", "memory.current"),
        "memory" => (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
        _ => return None,
    };
    let group = root.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(&root));
    let left = |group: &Path| {
        let number = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(PathBuf::from(group).join(name)).ok()?;
            text.trim().parse().ok() // "max" is no number and no limit
        };
        Some(number(limit)?.saturating_sub(number(usage)?))
    };
    groups.filter_map(left).min()
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

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn this_host_tells() {
        let found = Host::here().available_bytes();
        println!("available: {found}");
        assert!(found > 0 && found < u64::MAX);
    }
}
