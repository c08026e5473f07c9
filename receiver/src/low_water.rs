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

use crate::cpu_cache::Level2;

/// A socket's low-water mark as it was set last.
pub struct LowWater {
    /// `None`: no TCP socket; others wake for each piece whatever the mark is.
    bytes: Option<i32>,
}

impl LowWater {
    /// The mark of a socket that nobody has set one for.
    pub fn of(socket: &OwnedFd) -> Self {
        // Only TCP knows it.
        let is_tcp = nix::sys::socket::getsockopt(socket, sockopt::TcpMaxSeg).is_ok();
        Self { bytes: is_tcp.then_some(1) }
    }

    /// True if the kernel minds the mark.
    pub fn is_minded(&self) -> bool {
        self.bytes.is_some()
    }

    /// From now on `bytes` must be there. They must all be on their way: nobody is
    /// woken for fewer.
    pub fn set(&mut self, socket: &OwnedFd, bytes: u64) {
        let wanted = i32::try_from(bytes).unwrap_or(i32::MAX).max(1);
        if self.bytes.is_some_and(|now| now != wanted) {
            // A socket that refuses it wakes too often, which is no error.
            let set = setsockopt(socket, ReceiveLowWater, &wanted);
            self.bytes = set.is_ok().then_some(wanted);
        }
    }
}

/// What a wait is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Bytes that must come before anything can go on: a source that is alive sends them.
    pub surely: u64,
    /// Bytes of a packet that probably comes behind them, and of one behind that, and so on;
    /// 0 if that is not likely.
    pub packet: u64,
}

/// How long a mark stays above what surely comes: in this time two MiB come at 6 Gbit/s. Main
/// wakes whoever it waits for, so no sync point waits so long.
pub const PATIENCE_NS: u64 = 3_000_000;

/// For how many packets at once to wait: twice as many after a wait that brought them, half as many
/// after one that was vain. Whoever waits in vain for a single one does not repeat it at
/// once, and less and less often while all are vain: behind a source that compresses, every packet
/// may take longer than anybody should wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hope {
    packets: u64,
    /// So many times there is none.
    left: u32,
    /// Vain waits for a single packet since one was met.
    vain: u32,
}

impl Hope {
    /// For one packet.
    pub(crate) const ONE: Self = Self { packets: 1, left: 0, vain: 0 };

    /// For how many packets of `bytes` each to wait this time, of `bytes_max` in all unless
    /// one has more; 0 if for none.
    pub(crate) fn packets(&mut self, bytes: u64, bytes_max: u64) -> u64 {
        if self.left > 0 {
            self.left -= 1;
            return 0;
        }
        self.packets.min((bytes_max / bytes.max(1)).max(1))
    }

    /// That many came.
    pub(crate) fn met(&mut self, packets: u64) {
        self.packets = (packets * 2).min(PACKETS_MAX);
        self.vain = 0;
    }

    /// Fewer came.
    pub(crate) fn vain(&mut self, packets: u64) {
        self.packets = (packets / 2).max(1);
        if packets == 1 {
            self.left = 1 << self.vain;
            self.vain = (self.vain + 1).min(VAIN_MAX);
        }
    }
}

/// How far apart a channel's packets come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    last_ns: u64,
    gap_ns: u64,
}

impl Pace {
    /// Of a channel that nothing is known of at `now_ns`.
    pub(crate) fn new(now_ns: u64) -> Self {
        Self { last_ns: now_ns, gap_ns: 0 }
    }

    /// A packet's header has come.
    pub(crate) fn packet(&mut self, now_ns: u64) {
        self.gap_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
    }

    /// True if the next one may come while somebody is patient. Of many channels each has a
    /// packet rarely, and a wait for one would be vain.
    pub(crate) fn is_quick(&self) -> bool {
        self.gap_ns < PATIENCE_NS
    }
}

/// At most 64 times without hope.
const VAIN_MAX: u32 = 6;

/// Headers alone are short; more of them in one go save little.
const PACKETS_MAX: u64 = 16;

/// What a thread waits for at most, in all its sockets, where so many in all, itself among them, are
/// on CPUs with this level 2 cache. It lies in kernel memory meanwhile: what is more than the cache
/// and an eighth has left that when it is copied, whoever of the threads waited for it.
pub fn hoped_bytes(cache: Option<&Level2>, threads: usize) -> u64 {
    let of_cache =
        cache.map_or(HOPED_BYTES_MAX, |cache| cache.bytes.saturating_add(cache.bytes / 8));
    of_cache.min(HOPED_BYTES_MAX) / threads.max(1) as u64
}

/// More was no gain with any cache.
const HOPED_BYTES_MAX: u64 = 9 << 18;

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
    fn threads_of_a_cache_share_it_and_an_eighth_up_to_a_limit() {
        let cache = |kib: u64| Level2 { bytes: kib << 10, cpus: "0".parse().unwrap() };
        for (of, threads, kib) in [
            (Some(cache(1024)), 1, 1152),
            (Some(cache(1024)), 4, 288),
            (Some(cache(2048)), 1, 2304),
            (Some(cache(2048)), 0, 2304),
            (Some(cache(65536)), 3, 768),
            (None, 1, 2304),
            (None, 2, 1152),
        ] {
            let label = format!("{threads} of {of:?}");
            assert_eq!(hoped_bytes(of.as_ref(), threads), kib << 10, "{label}");
        }
    }

    #[test]
    fn vain_hopes_become_rare_and_one_that_is_met_brings_them_back() {
        let mut hope = Hope::ONE;
        let gap = |hope: &mut Hope| {
            hope.vain(1);
            (0..).take_while(|_| hope.packets(1000, 1000) == 0).count()
        };
        let gaps: Vec<usize> = (0..9).map(|_| gap(&mut hope)).collect();
        assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        hope.met(1);
        assert_eq!(gap(&mut hope), 1);
    }

    #[test]
    fn packets_that_come_later_than_anybody_waits_are_not_hoped_for() {
        let mut pace = Pace::new(1000);
        assert!(pace.is_quick(), "nothing is known yet");
        pace.packet(1000 + PATIENCE_NS);
        assert!(!pace.is_quick());
        pace.packet(999 + 2 * PATIENCE_NS);
        assert!(pace.is_quick(), "the last gap counts, not the average");
    }

    #[test]
    fn hopes_that_are_met_grow_to_what_is_allowed_and_vain_ones_shrink() {
        let mut hope = Hope::ONE;
        let met: Vec<u64> = (0..6)
            .map(|_| {
                let packets = hope.packets(100, 900);
                hope.met(packets);
                packets
            })
            .collect();
        assert_eq!(met, [1, 2, 4, 8, 9, 9]);
        assert_eq!(hope.packets(1, 900), PACKETS_MAX);
        assert_eq!(hope.packets(1000, 900), 1, "one packet in any case");
        hope.vain(9);
        assert_eq!(hope.packets(100, 900), 4);
    }
}
