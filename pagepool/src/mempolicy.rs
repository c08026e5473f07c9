//! Memory policies: `mbind(2)` and `get_mempolicy(2)`, by system call.

use std::ptr;

use nix::errno::Errno;

use crate::mapping::Mapping;
use crate::nodes::NODE_MAX;

/// How the kernel chooses the node of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Round robin over the nodes.
    Interleave,
    /// Only these nodes.
    Bind,
}

impl Mode {
    fn number(self) -> libc::c_int {
        match self {
            Self::Interleave => libc::MPOL_INTERLEAVE,
            Self::Bind => libc::MPOL_BIND,
        }
    }
}

/// Sets the policy of a whole mapping, before its pages exist.
pub(crate) fn set(mapping: &Mapping, mode: Mode, nodes: &[u32]) -> Result<(), Errno> {
    let mask = mask_of(nodes);
    // SAFETY: mbind(addr, len, mode, nodemask, maxnode, flags) needs a readable mask; it changes no
    // memory contents.
    // - addr..addr+len is our own mapping.
    // - the kernel reads maxnode - 1 bits: exactly those of `mask`.
    // - syscall(2) takes whole registers: numbers are c_ulong or usize, as wide as one.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            mapping.base(),
            mapping.bytes(),
            mode.number() as libc::c_ulong,
            mask.as_ptr(),
            MASK_BITS + 1,
            NO_FLAGS,
        )
    };
    Errno::result(answer).map(drop)
}

/// Whether the kernel keeps exactly this policy for the mapping.
pub(crate) fn is_kept(mapping: &Mapping, mode: Mode, nodes: &[u32]) -> Result<bool, Errno> {
    let mut found_mode: libc::c_int = -1;
    let mut found_mask: Mask = [0; MASK_WORDS];
    // SAFETY: get_mempolicy(mode, nodemask, maxnode, addr, flags) needs a writable int and mask.
    // - both are locals that outlive the call.
    // - the kernel writes at most maxnode bits: those of `found_mask`.
    // - addr is in our own mapping; with MPOL_F_ADDR alone it is looked up, not touched.
    // - numbers are as wide as a register, as for mbind.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut found_mode,
            found_mask.as_mut_ptr(),
            MASK_BITS,
            mapping.base(),
            MPOL_F_ADDR,
        )
    };
    Errno::result(answer)?;
    Ok(found_mode == mode.number() && found_mask == mask_of(nodes))
}

/// The node of the page at an offset; a page that does not exist yet would be made by asking.
pub(crate) fn node_at(mapping: &Mapping, offset: usize) -> Result<u32, Errno> {
    assert!(offset < mapping.bytes());
    let mut node: libc::c_int = -1;
    // SAFETY: get_mempolicy(mode, nodemask, maxnode, addr, flags) needs a writable int; with
    // MPOL_F_NODE | MPOL_F_ADDR it writes the node number there.
    // - `node` outlives the call; the mask is null with length 0, which is allowed.
    // - numbers are as wide as a register, as for mbind.
    // - addr is inside our own mapping (assert), which is readable.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut node,
            ptr::null_mut::<libc::c_ulong>(),
            0 as libc::c_ulong,
            mapping.base().wrapping_add(offset),
            MPOL_F_NODE | MPOL_F_ADDR,
        )
    };
    Errno::result(answer)?;
    u32::try_from(node).map_err(|_| Errno::EINVAL)
}

type Mask = [libc::c_ulong; MASK_WORDS];

/// The bit mask of a set of nodes, none above [`NODE_MAX`].
fn mask_of(nodes: &[u32]) -> Mask {
    let mut mask = [0; MASK_WORDS];
    for node in nodes {
        assert!(*node <= NODE_MAX, "node {node}");
        let bit = *node as usize;
        mask[bit / WORD_BITS] |= 1 << (bit % WORD_BITS);
    }
    mask
}

/// include/uapi/linux/mempolicy.h: answer with a node, not a policy.
const MPOL_F_NODE: libc::c_ulong = 1 << 0;
/// include/uapi/linux/mempolicy.h: ask about an address, not the thread.
const MPOL_F_ADDR: libc::c_ulong = 1 << 1;
/// mbind moves no pages that are there already: none are.
const NO_FLAGS: libc::c_ulong = 0;
const WORD_BITS: usize = libc::c_ulong::BITS as usize;
const MASK_BITS: usize = NODE_MAX as usize + 1;
const MASK_WORDS: usize = MASK_BITS / WORD_BITS;

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::{Mode, is_kept, node_at, set};
    use crate::ladder::Rung;
    use crate::mapping::Mapping;

    #[test]
    fn a_policy_set_is_read_back_and_pages_follow_it() {
        let mapping = Mapping::anonymous(Rung::Base, 1 << 20).expect("map");
        for mode in [Mode::Interleave, Mode::Bind] {
            match set(&mapping, mode, &[0]) {
                Err(Errno::ENOSYS) => return println!("kernel without NUMA: nothing to test"),
                answer => answer.expect("mbind"),
            }
            assert_eq!(is_kept(&mapping, mode, &[0]), Ok(true));
        }
        assert_eq!(is_kept(&mapping, Mode::Interleave, &[0]), Ok(false));
        mapping.populate(0, 1 << 20).expect("populate");
        assert_eq!(node_at(&mapping, 4096), Ok(0));
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused() {
        let mapping = Mapping::anonymous(Rung::Base, 4096).expect("map");
        assert!(set(&mapping, Mode::Bind, &[1000]).is_err());
    }
}
