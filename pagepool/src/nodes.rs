//! The host's memory nodes.
//!
//! Source: Documentation/ABI/stable/sysfs-devices-node of the kernel.

use std::fs;

use crate::available::field_bytes;
use crate::host::Host;

impl Host {
    /// The nodes that have memory, ascending. A kernel without NUMA is one node, 0.
    pub(crate) fn nodes_with_memory(&self) -> Vec<u32> {
        let path = self.sys.join("devices/system/node/has_memory");
        let listed = fs::read_to_string(path).ok().and_then(|text| parse_list(text.trim()));
        listed.filter(|nodes| !nodes.is_empty()).unwrap_or_else(|| vec![0])
    }

    /// Those of them that this process's cpuset lets it have memory from (cpuset(7)): the kernel
    /// takes the others out of every policy.
    pub(crate) fn nodes_allowed(&self) -> Vec<u32> {
        let status = fs::read_to_string(self.proc.join("self/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"));
        let allowed = line.and_then(|list| parse_list(list.trim()));
        let mut nodes = self.nodes_with_memory();
        // A kernel that does not tell allows them all.
        nodes.retain(|node| allowed.as_ref().is_none_or(|allowed| allowed.contains(node)));
        nodes
    }

    /// Bytes of a node that can be had without swapping: its free memory and its file cache.
    /// `None` where the kernel does not tell.
    pub(crate) fn node_available_bytes(&self, node: u32) -> Option<u64> {
        let path = self.sys.join(format!("devices/system/node/node{node}/meminfo"));
        let text = fs::read_to_string(path).ok()?;
        let field = |name: &str| field_bytes(&text, name).unwrap_or(0);
        let free = field_bytes(&text, "MemFree")?;
        Some(free + field("Active(file)") + field("Inactive(file)") + field("SReclaimable"))
    }
}

/// A kernel list such as `0-3,5`; `None` if it is something else.
fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last > NODE_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// The highest node a Linux kernel can be built for (`CONFIG_NODES_SHIFT` is at most 10).
pub(crate) const NODE_MAX: u32 = 1023;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::parse_list;
    use crate::host::Host;

    #[test]
    fn kernel_lists_parse() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse_list(""), Some(vec![]));
        for wrong in ["x", "1-", "0-4294967295", "0;1"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_nodes_file_cache_counts_as_available() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = Host { sys: root.path().to_owned(), proc: root.path().to_owned() };
        assert_eq!(host.nodes_with_memory(), [0], "a kernel without NUMA");
        let node = root.path().join("devices/system/node/node1");
        fs::create_dir_all(&node).expect("mkdir");
        let text = "Node 1 MemTotal: 8000 kB\nNode 1 MemFree:  1000 kB\n\
                    Node 1 Active(file): 10 kB\nNode 1 Inactive(file): 200 kB\n";
        fs::write(node.join("meminfo"), text).expect("write");
        assert_eq!(host.node_available_bytes(1), Some(1210 * 1024));
        assert_eq!(host.node_available_bytes(2), None);
    }

    #[test]
    fn a_cpuset_takes_nodes_away() {
        let root = tempfile::tempdir().expect("tempdir");
        let host = Host { sys: root.path().to_owned(), proc: root.path().to_owned() };
        let nodes = root.path().join("devices/system/node");
        fs::create_dir_all(&nodes).expect("mkdir");
        fs::write(nodes.join("has_memory"), "0-3\n").expect("write");
        assert_eq!(host.nodes_allowed(), [0, 1, 2, 3], "nobody tells of a cpuset");
        fs::create_dir(root.path().join("self")).expect("mkdir");
        let status = "Cpus_allowed_list:\t0-1\nMems_allowed:\t6\nMems_allowed_list:\t1-2,7\n";
        fs::write(root.path().join("self/status"), status).expect("write");
        assert_eq!(host.nodes_allowed(), [1, 2], "7 has no memory");
    }

    #[test]
    fn this_host_has_a_node() {
        let host = Host::here();
        let nodes = host.nodes_with_memory();
        assert!(!nodes.is_empty());
        println!("nodes {nodes:?}: {:?}", nodes.iter().map(|n| host.node_available_bytes(*n)));
    }
}
