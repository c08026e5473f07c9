//! Where the host describes itself.

use std::path::PathBuf;

/// The two trees that the kernel describes itself in. A test puts prepared ones in their place;
/// `hugepages`, `nodes` and `available` read them.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// `/sys`.
    pub(crate) sys: PathBuf,
    /// `/proc`.
    pub(crate) proc: PathBuf,
}

impl Host {
    /// The real one.
    pub(crate) fn here() -> Self {
        Self { sys: PathBuf::from("/sys"), proc: PathBuf::from("/proc") }
    }
}

/// Bytes of the host's base page.
pub(crate) fn base_page_bytes() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    let found = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    // POSIX requires PAGE_SIZE; 4096 is the smallest that Linux has.
    found.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}
