//! Which CPUs are near the network card that a listener stands on.
//!
//! A reader on the card's NUMA node takes its bytes from memory and caches that
//! are near. The node is told by sysfs (the kernel's
//! `Documentation/ABI/testing/sysfs-bus-pci`, `numa_node`, and
//! `sysfs-devices-node`, `cpulist`).

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nix::ifaddrs::getifaddrs;

use crate::cpu_list::CpuList;

/// The CPUs near a listener's network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearCpus {
    /// The card's interface, as `ip link` names it.
    pub interface: String,
    /// Its NUMA node.
    pub node: u32,
    /// The CPUs of that node that were allowed, in their order there.
    pub cpus: Vec<usize>,
}

/// The CPUs out of `allowed` on the NUMA node of the card that has one of
/// `addresses`: the first that leads to any.
///
/// `None` where nothing tells: a wildcard or loopback address, an interface
/// without a device or whose device is on no particular node, no NUMA, or none
/// of the node's CPUs allowed. Addresses on cards of several nodes count as
/// telling nothing too: any choice would be far from one of them.
pub fn cpus_near(addresses: &[SocketAddr], allowed: &[usize]) -> Option<NearCpus> {
    let interfaces: Vec<(String, IpAddr)> = getifaddrs()
        .ok()?
        .filter_map(|found| Some((found.interface_name, ip_of(found.address.as_ref()?)?)))
        .collect();
    near(Path::new("/sys"), &interfaces, addresses, allowed)
}

fn near(
    sysfs: &Path,
    interfaces: &[(String, IpAddr)],
    addresses: &[SocketAddr],
    allowed: &[usize],
) -> Option<NearCpus> {
    let mut found: Option<NearCpus> = None;
    for address in addresses {
        let ip = address.ip().to_canonical();
        if ip.is_unspecified() || ip.is_loopback() {
            return None;
        }
        let (interface, _) = interfaces.iter().find(|(_, of)| of.to_canonical() == ip)?;
        let one = near_interface(sysfs, interface, allowed)?;
        match &found {
            None => found = Some(one),
            Some(first) if first.node == one.node => {}
            Some(_) => return None,
        }
    }
    found
}

fn near_interface(sysfs: &Path, interface: &str, allowed: &[usize]) -> Option<NearCpus> {
    let device = sysfs.join("class/net").join(interface).join("device/numa_node");
    // -1: the firmware tells no node.
    let node: u32 = fs::read_to_string(device).ok()?.trim().parse().ok()?;
    let list = sysfs.join(format!("devices/system/node/node{node}/cpulist"));
    // A node of memory alone has none, which is no list.
    let of_node: CpuList = fs::read_to_string(list).ok()?.trim().parse().ok()?;
    let near = |cpu: &usize| of_node.cpus().contains(cpu);
    let cpus: Vec<usize> = allowed.iter().copied().filter(near).collect();
    (!cpus.is_empty()).then(|| NearCpus { interface: interface.to_owned(), node, cpus })
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
    v4().or_else(v6)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn readers_go_to_the_allowed_cpus_of_the_cards_node() {
        let sysfs = sysfs(&[("eth0", "1\n")], &[(0, "0-3\n"), (1, "4-5,8\n")]);
        let found = look(&sysfs, &["10.0.0.1:4444"], &[0, 1, 4, 8, 9]).unwrap();
        assert_eq!(found, NearCpus { interface: "eth0".to_owned(), node: 1, cpus: vec![4, 8] });
        assert_eq!(look(&sysfs, &["10.0.0.1:4444"], &[0, 1, 9]), None, "none of them is allowed");
    }

    #[test]
    fn several_addresses_must_agree_on_the_node() {
        let nodes = [(0, "0-1\n"), (1, "2-3\n")];
        let same = sysfs(&[("eth0", "1\n"), ("eth1", "1\n")], &nodes);
        let found = look(&same, &["10.0.0.1:1", "[fd00::1]:1"], &[0, 1, 2, 3]).unwrap();
        assert_eq!((found.interface.as_str(), found.cpus), ("eth0", vec![2, 3]));
        let apart = sysfs(&[("eth0", "0\n"), ("eth1", "1\n")], &nodes);
        assert_eq!(look(&apart, &["10.0.0.1:1", "[fd00::1]:1"], &[0, 1, 2, 3]), None);
    }

    #[test]
    fn a_wildcard_loopback_or_foreign_address_tells_nothing() {
        let sysfs = sysfs(&[("eth0", "0\n"), ("lo", "0\n")], &[(0, "0\n")]);
        for address in
            ["0.0.0.0:1", "[::]:1", "127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "10.9.9.9:1"]
        {
            assert_eq!(look(&sysfs, &[address], &[0]), None, "{address}");
        }
        assert_eq!(look(&sysfs, &[], &[0]), None, "no inet address at all");
        let mapped = look(&sysfs, &["[::ffff:10.0.0.1]:1"], &[0]);
        assert_eq!(mapped.unwrap().interface, "eth0");
    }

    #[test]
    fn what_sysfs_does_not_say_is_not_guessed() {
        let nodes = [(0, "0-3\n")];
        for (case, cards, nodes) in [
            ("no particular node", vec![("eth0", "-1\n")], &nodes[..]),
            ("no device", vec![], &nodes[..]),
            ("an odd node", vec![("eth0", "zero\n")], &nodes[..]),
            ("a node that is not there", vec![("eth0", "3\n")], &nodes[..]),
            ("no NUMA", vec![("eth0", "0\n")], &[][..]),
            ("a node without CPUs", vec![("eth0", "0\n")], &[(0, "\n")][..]),
            ("an odd list", vec![("eth0", "0\n")], &[(0, "0-\n")][..]),
        ] {
            assert_eq!(look(&sysfs(&cards, nodes), &["10.0.0.1:1"], &[0, 1]), None, "{case}");
        }
    }

    #[test]
    fn this_hosts_loopback_tells_nothing() {
        assert_eq!(cpus_near(&["127.0.0.1:1".parse().unwrap()], &[0]), None);
    }

    fn look(sysfs: &TempDir, addresses: &[&str], allowed: &[usize]) -> Option<NearCpus> {
        let interfaces =
            [("lo", "127.0.0.1"), ("lo", "::1"), ("eth0", "10.0.0.1"), ("eth1", "fd00::1")]
                .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()));
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|address| address.parse().unwrap()).collect();
        near(sysfs.path(), &interfaces, &addresses, allowed)
    }

    /// A sysfs with cards (interface, `numa_node`) and nodes (number, `cpulist`).
    fn sysfs(cards: &[(&str, &str)], nodes: &[(u32, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: String, file: &str, text: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
        };
        for (interface, node) in cards {
            write(format!("class/net/{interface}/device"), "numa_node", node);
        }
        for (node, list) in nodes {
            write(format!("devices/system/node/node{node}"), "cpulist", list);
        }
        root
    }
}
