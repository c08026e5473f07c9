//! A reader: one pinned thread, one ring, one or more channels.

mod event_loop;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::channel::ChannelId;
use crate::error::RunError;
use crate::mapped_ram::Load;
use crate::panicked::caught;
use crate::ring::RingFeatures;
use crate::run::Run;
use crate::stats::{CpuUse, Latencies};
use crate::tls::TlsStream;
use crate::wake::Wake;
use crate::wire::PageBytes;
use event_loop::Loop;

/// What a reader is told.
pub enum Order {
    /// Receive this channel.
    Attach(Attach),
    /// Read a part of a file's pages.
    Load(Arc<Load>),
    /// Let go of everything and report.
    Stop,
}

/// A channel to receive.
pub struct Attach {
    /// Its id.
    pub id: ChannelId,
    /// Its socket; Init has been read.
    pub socket: Arc<OwnedFd>,
    /// The target page size.
    pub page: PageBytes,
    /// How pages and payloads are dropped; `None` keeps them.
    pub discard: Option<Discard>,
    /// Its TLS.
    pub tls: Option<Box<TlsStream>>,
    /// What has come behind the Init, in the clear; only under TLS.
    pub first: Vec<u8>,
}

/// How pages and payloads are dropped with `--sink discard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// The kernel drops them without a copy (TCP).
    Truncate,
    /// Through staging memory.
    Scratch,
}

/// What a reader knew when it ended.
#[derive(Clone, Debug, Default)]
pub struct ReaderReport {
    /// Its histograms.
    pub latencies: Latencies,
    /// CPU time of the thread.
    pub cpu: CpuUse,
}

/// A running reader.
pub struct Reader {
    orders: Sender<Order>,
    wake: Wake,
    thread: JoinHandle<ReaderReport>,
}

impl Reader {
    /// Starts reader `index` of `run`, pinned to `cpu` if given.
    pub fn start(
        run: Arc<Run>,
        index: usize,
        cpu: Option<usize>,
        features: RingFeatures,
    ) -> Result<Self, RunError> {
        let wake = run.reader_wake(index).clone();
        let (orders, inbox) = crossbeam_channel::unbounded();
        let thread = thread::Builder::new()
            .name(format!("reader-{index}"))
            .spawn(move || {
                if let Some(id) = cpu
                    && !core_affinity::set_for_current(core_affinity::CoreId { id })
                {
                    // A CPU can go while landfall runs: what was asked for was there at the start.
                    run.readers[index].unpinned.store(true, Relaxed);
                    tracing::warn!("reader {index} could not be pinned to CPU {id}");
                }
                run.readers[index].enter_thread();
                let mut report = ReaderReport::default();
                let done =
                    caught(|| Loop::new(&run, index, features, inbox)?.run(&mut report.latencies));
                if let Err(error) = done {
                    run.fail(error);
                }
                report.cpu = cpu_use();
                run.readers[index].leave_thread();
                report
            })
            .map_err(|error| RunError::host("starting a reader thread", error))?;
        Ok(Self { orders, wake, thread })
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        self.queue(order);
        self.wake.wake();
    }

    /// Gives an order that is carried out when somebody wakes the reader.
    pub fn queue(&self, order: Order) {
        // A reader that has gone has failed the run already.
        let _ = self.orders.send(order);
    }

    /// Stops the reader and waits until the kernel has let go of all memory.
    pub fn stop(self) -> ReaderReport {
        self.order(Order::Stop);
        self.thread.join().expect("a reader's panic is caught")
    }
}

/// CPU time that the calling thread has used (getrusage(2)).
pub fn cpu_use() -> CpuUse {
    cpu_use_of(UsageWho::RUSAGE_THREAD)
}

/// CPU time that all threads of this process have used, ended ones included.
pub fn process_cpu_use() -> CpuUse {
    cpu_use_of(UsageWho::RUSAGE_SELF)
}

fn cpu_use_of(who: UsageWho) -> CpuUse {
    getrusage(who).map_or_else(
        |_| CpuUse::default(),
        |usage| CpuUse {
            user_ns: usage.user_time().num_nanoseconds().cast_unsigned(),
            system_ns: usage.system_time().num_nanoseconds().cast_unsigned(),
        },
    )
}

/// Multifd channels that QEMU allows (`multifd-channels`, 1 to 255).
pub const CHANNELS_MAX: usize = 255;
