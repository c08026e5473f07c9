//! What is compared: a way to receive, with everything that it depends on.

use std::time::Duration;

use io_uring::IoUring;

use crate::copy::Copy;
use crate::stream::Order;

/// One way to receive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    /// In tables.
    pub(crate) name: &'static str,
    /// How.
    pub(crate) design: Design,
    /// How pages lie.
    pub(crate) order: Order,
    /// The ring, if any.
    pub(crate) ring: RingSetup,
    /// The sockets.
    pub(crate) socket: SocketSetup,
    /// Sockets.
    pub(crate) channels: usize,
    /// Threads that receive.
    pub(crate) threads: usize,
    /// Guest RAM in 4 KiB pages in place of 2 MiB.
    pub(crate) base_pages: bool,
    /// How it is sent.
    pub(crate) source: Source,
}

impl Contender {
    /// Whether it puts the pages where they belong.
    pub(crate) fn places(&self) -> bool {
        !matches!(self.design, Design::Bare | Design::Copied(_, Copy::Left))
    }
}

/// The code that receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Design {
    /// Blocking reads of 512 KiB that look at nothing.
    Bare,
    /// `recvmsg` that waits; the next header in the same call or not. A thread for each channel.
    Blocking {
        /// Whether it is.
        fused: bool,
    },
    /// `recvmsg` that does not wait, over and over. A thread for each channel.
    Spinning,
    /// A ring.
    Ring(Join),
    /// A ring with low-water marks: of the pages that are missing, and with patience of more.
    LowWater(Option<Patience>),
    /// A blocking read of at most so many bytes, and a copy.
    Copied(usize, Copy),
    /// Multishot receives into so many buffers of so many bytes, and a copy.
    Multishot(u16, usize, Copy),
}

/// A wait for more than is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Whole packets: 1 only where a header is waited for.
    pub(crate) packets: usize,
    /// Not longer.
    pub(crate) most: Duration,
}

/// How the receive of the next header joins that of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Linked behind them.
    Linked,
    /// Linked behind them, without a completion for the pages.
    Quiet,
    /// Submitted when they are there.
    Separate,
    /// The last iovec of the same receive.
    Fused,
}

/// How a ring is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingSetup {
    /// `IORING_SETUP_SINGLE_ISSUER`.
    pub(crate) single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN`.
    pub(crate) defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN`.
    pub(crate) coop_taskrun: bool,
    /// `IORING_SETUP_SQPOLL`, on this CPU.
    pub(crate) sqpoll: Option<u32>,
    /// Sockets are registered.
    pub(crate) fixed_files: bool,
    /// The ring's own descriptor is.
    pub(crate) ring_fd: bool,
    /// `IORING_RECVSEND_POLL_FIRST`.
    pub(crate) poll_first: bool,
}

/// As the receiver's rings are.
pub(crate) const RING: RingSetup = RingSetup {
    single_issuer: true,
    defer_taskrun: true,
    coop_taskrun: false,
    sqpoll: None,
    fixed_files: false,
    ring_fd: false,
    poll_first: false,
};

impl RingSetup {
    /// A ring.
    pub(crate) fn build(self, entries: u32) -> IoUring {
        let mut builder = IoUring::builder();
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if self.coop_taskrun {
            builder.setup_coop_taskrun();
        }
        if let Some(cpu) = self.sqpoll {
            builder.setup_sqpoll(SQPOLL_IDLE_MS).setup_sqpoll_cpu(cpu);
        }
        builder.setup_submit_all().build(entries).expect("this kernel has such rings")
    }
}

/// Options of the receiving sockets; `None` is the system's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketSetup {
    /// `SO_RCVBUFFORCE`, as the option counts.
    pub(crate) receive_buffer: Option<usize>,
    /// `SO_BUSY_POLL`, µs.
    pub(crate) busy_poll: Option<i32>,
    /// `TCP_CONGESTION` of the sender: `cubic`, which does not pace, in place of the system's own.
    pub(crate) cubic: bool,
}

/// Nothing set.
pub(crate) const SOCKET: SocketSetup =
    SocketSetup { receive_buffer: None, busy_poll: None, cubic: false };

/// How bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `write`: the kernel copies them.
    Written,
    /// `sendfile`: the kernel refers to them, which takes the sender a third of the CPU time.
    Referred,
    /// `write` of a packet at a time, with so much work of the sender's CPU before each, as looking
    /// for zero pages is.
    Worked(Duration),
}

/// What a receiving thread counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// System calls that wait for bytes.
    pub(crate) calls: u64,
    /// Completions.
    pub(crate) completions: u64,
    /// Receives that brought less than was asked for; multishot: buffers that ran out.
    pub(crate) short: u64,
}

/// Long enough that the kernel's thread never sleeps while bytes come.
const SQPOLL_IDLE_MS: u32 = 100;
