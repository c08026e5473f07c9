//! How many bytes must be there before TCP wakes whoever waits for them
//! (socket(7), `SO_RCVLOWAT`).
//!
//! Without it a reader is woken for whatever the network has brought by then, copies that,
//! and waits again, perhaps several times for a packet's pages. TCP wakes
//! earlier all the same when its buffers are full, when the peer closes, and on
//! errors.

use std::os::fd::OwnedFd;

use nix::sys::socket::{setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};

/// A socket's low-water mark as it was set last.
pub(crate) struct LowWater {
    /// `None`: no TCP socket; others wake for each piece whatever the mark is.
    bytes: Option<i32>,
}

impl LowWater {
    /// The mark of a socket that nobody has set one for.
    pub(crate) fn of(socket: &OwnedFd) -> Self {
        // Only TCP knows it.
        let is_tcp = nix::sys::socket::getsockopt(socket, sockopt::TcpMaxSeg).is_ok();
        Self { bytes: is_tcp.then_some(1) }
    }

    /// True if the kernel minds the mark.
    pub(crate) fn is_minded(&self) -> bool {
        self.bytes.is_some()
    }

    /// From now on `bytes` must be there. They must all be on their way: nobody is
    /// woken for fewer.
    pub(crate) fn set(&mut self, socket: &OwnedFd, bytes: u64) {
        let wanted = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
        if self.bytes.is_some_and(|now| now != wanted) {
            // A socket that refuses it wakes too often, which is no error.
            let set = setsockopt(socket, ReceiveLowWater, &wanted);
            self.bytes = set.is_ok().then_some(wanted);
        }
    }
}

/// How long a mark stays above what surely comes: a packet of 512 KiB takes this long at
/// 8 Gbit/s. A source's sync point may be seen so much later.
pub(crate) const PATIENCE_NS: u64 = 500_000;

/// Whether to hope for more than what surely comes. A hope that was vain is not repeated at
/// once, and less and less often while all are: behind a source that compresses, every packet
/// takes longer than anybody should wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doubts {
    /// So many times there is no hope.
    left: u32,
    /// Vain hopes since one was met.
    vain: u32,
}

impl Doubts {
    /// Whether to hope this time.
    pub(crate) fn may_hope(&mut self) -> bool {
        let may = self.left == 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// A hope was met.
    pub(crate) fn met(&mut self) {
        self.vain = 0;
    }

    /// A hope was vain.
    pub(crate) fn vain(&mut self) {
        self.left = 1 << self.vain;
        self.vain = (self.vain + 1).min(VAIN_MAX);
    }
}

/// At most 64 times without hope.
const VAIN_MAX: u32 = 6;

sockopt_impl!(
    /// `SO_RCVLOWAT`, which nix has no name for.
    ReceiveLowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vain_hopes_become_rare_and_one_that_is_met_brings_them_back() {
        let mut doubts = Doubts::default();
        let gap = |doubts: &mut Doubts| {
            doubts.vain();
            (0..).take_while(|_| !doubts.may_hope()).count()
        };
        let gaps: Vec<usize> = (0..9).map(|_| gap(&mut doubts)).collect();
        assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        doubts.met();
        assert_eq!(gap(&mut doubts), 1);
    }
}
