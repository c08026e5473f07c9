//! Which memory nodes guest RAM goes to, and where it really is.

use nix::errno::Errno;

use crate::host::Host;
use crate::mapping::Mapping;
use crate::mempolicy::{self, Mode};
use crate::{Numa, PoolError};

/// A checked `--numa`.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    policy: Option<Mode>,
    nodes: Vec<u32>,
    wanted: Numa,
}

impl Placement {
    /// Checks the nodes against those that this process may have memory from.
    pub(crate) fn new(host: &Host, wanted: &Numa) -> Result<Self, PoolError> {
        let present = host.nodes_allowed();
        let (policy, nodes) = match wanted {
            Numa::Local => (None, Vec::new()),
            Numa::Interleave => (Some(Mode::Interleave), present),
            Numa::Bind(nodes) => {
                if let Some(node) = nodes.iter().find(|node| !present.contains(node)) {
                    let found = Numa::Bind(present).to_string();
                    return Err(PoolError::NoSuchNode { node: *node, found });
                }
                (Some(Mode::Bind), nodes.clone())
            }
        };
        Ok(Self { policy, nodes, wanted: wanted.clone() })
    }

    /// The nodes that memory must come from; `None` = any.
    pub(crate) fn bound_nodes(&self) -> Option<&[u32]> {
        (self.policy == Some(Mode::Bind)).then_some(&self.nodes)
    }

    /// What was asked for.
    pub(crate) fn wanted(&self) -> &Numa {
        &self.wanted
    }

    /// Whether the bound nodes have room for ordinary pages. A node that runs out of memory under
    /// `MPOL_BIND` brings the OOM killer, so it is asked before.
    pub(crate) fn check_room(&self, host: &Host, needed: u64) -> Result<(), PoolError> {
        let Some(nodes) = self.bound_nodes() else {
            return Ok(());
        };
        let known = nodes.iter().map(|node| host.node_available_bytes(*node));
        let Some(available) = known.sum::<Option<u64>>() else {
            return Ok(());
        };
        if needed <= available {
            return Ok(());
        }
        Err(PoolError::NodesShort { nodes: self.wanted.to_string(), needed, available })
    }

    /// Sets the policy of a mapping that has no pages yet, and reads it back.
    pub(crate) fn apply(&self, mapping: &Mapping) -> Result<(), PoolError> {
        let Some(mode) = self.policy else {
            return Ok(());
        };
        let failed = |call, source| PoolError::Policy {
            call,
            nodes: Numa::Bind(self.nodes.clone()).to_string(),
            source,
        };
        match mempolicy::set(mapping, mode, &self.nodes) {
            // A kernel without NUMA has one node, the one that was asked for (constructor).
            Err(Errno::ENOSYS) => return Ok(()),
            answer => answer.map_err(|source| failed("mbind", source))?,
        }
        match mempolicy::is_kept(mapping, mode, &self.nodes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed("get_mempolicy after mbind", Errno::EINVAL)),
            Err(source) => Err(failed("get_mempolicy", source)),
        }
    }
}

/// The nodes that pages of a populated mapping are on, ascending, by samples spread over it; empty
/// where the kernel does not tell.
pub(crate) fn nodes_of(mapping: &Mapping) -> Vec<u32> {
    let step = (mapping.bytes() / SAMPLES).max(1);
    let samples = (0..mapping.bytes()).step_by(step).take(SAMPLES);
    let mut nodes: Vec<u32> =
        samples.filter_map(|offset| mempolicy::node_at(mapping, offset).ok()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Enough to see every node of a round robin, few enough to cost nothing.
const SAMPLES: usize = 256;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Placement, nodes_of};
    use crate::host::Host;
    use crate::ladder::Rung;
    use crate::mapping::Mapping;
    use crate::requirement::skip;
    use crate::{Numa, PoolError};

    #[test]
    fn a_node_without_memory_is_an_error_that_names_the_others() {
        let host = Host::here();
        let error = Placement::new(&host, &Numa::Bind(vec![0, 900])).expect_err("no node 900");
        assert!(matches!(error, PoolError::NoSuchNode { node: 900, .. }));
        let present = Numa::Bind(host.nodes_allowed()).to_string();
        assert!(error.to_string().ends_with(&present), "{error}");
    }

    #[test]
    fn nodes_outside_the_cpuset_are_neither_interleaved_nor_bound() {
        let root = tempfile::tempdir().expect("tempdir");
        let nodes = root.path().join("devices/system/node");
        fs::create_dir_all(&nodes).expect("mkdir");
        fs::create_dir(root.path().join("self")).expect("mkdir");
        fs::write(nodes.join("has_memory"), "0-1\n").expect("write");
        fs::write(root.path().join("self/status"), "Mems_allowed_list:\t0\n").expect("write");
        let host = Host { sys: root.path().to_owned(), proc: root.path().to_owned() };
        let placement = Placement::new(&host, &Numa::Interleave).expect("one node is left");
        assert_eq!(placement.nodes, [0]);
        // What the kernel would keep of both is not what was set.
        let mapping = Mapping::anonymous(Rung::Base, 4096).expect("map");
        placement.apply(&mapping).expect("a policy that is kept");
        let error = Placement::new(&host, &Numa::Bind(vec![0, 1])).expect_err("not node 1");
        assert!(matches!(error, PoolError::NoSuchNode { node: 1, .. }), "{error}");
    }

    #[test]
    fn a_bound_node_without_room_is_an_error_before_anything_is_touched() {
        let host = Host::here();
        let placement = Placement::new(&host, &Numa::Bind(vec![0])).expect("node 0");
        placement.check_room(&host, 4096).expect("a page");
        let error = placement.check_room(&host, 1 << 60).expect_err("1 EiB");
        assert!(matches!(error, PoolError::NodesShort { .. }), "{error}");
    }

    #[test]
    fn interleaved_pages_are_on_every_node() {
        let host = Host::here();
        let nodes = host.nodes_allowed();
        let mapping = populated(&host, &Numa::Interleave);
        assert_eq!(nodes_of(&mapping), nodes);
        if nodes.len() < 2 {
            skip("second NUMA node", "this host has one node, interleaving is trivial");
        }
    }

    #[test]
    fn bound_pages_are_on_their_node() {
        let host = Host::here();
        for node in host.nodes_allowed() {
            let mapping = populated(&host, &Numa::Bind(vec![node]));
            assert_eq!(nodes_of(&mapping), [node]);
        }
    }

    fn populated(host: &Host, numa: &Numa) -> Mapping {
        let mapping = Mapping::anonymous(Rung::Base, 4 << 20).expect("map");
        let placement = Placement::new(host, numa).expect("nodes");
        placement.apply(&mapping).expect("policy");
        mapping.populate(0, 4 << 20).expect("populate");
        mapping
    }
}
