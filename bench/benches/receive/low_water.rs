//! A ring with low-water marks, as the receiver has it: TCP wakes for all pages that are missing,
//! and with patience for whole packets behind a full one.

use std::os::fd::AsRawFd;
use std::process;
use std::time::Instant;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use crate::contender::{Counts, Patience, RingSetup};
use crate::place::{Lane, Next};
use crate::scatter::Scatter;
use crate::socket::set_low_water;
use crate::stream::HEADER_BYTES;

/// Receives all lanes to their ends. With `patience` more is waited for than what is needed, as
/// long as the packet before was a full one.
pub(crate) fn receive(
    lanes: &mut [Lane<'_>],
    patience: Option<Patience>,
    setup: RingSetup,
) -> Counts {
    let entries = u32::try_from(lanes.len().next_power_of_two()).expect("few channels");
    // Dropped before what it may write.
    let mut ring = setup.build(entries);
    let slots = lanes.iter().map(|_| Slot::new()).collect();
    let mut work = Work { slots, patience, in_flight: 0, counts: Counts::default() };
    for (slot, lane) in lanes.iter().enumerate() {
        work.slots[slot].scatter.aim(lane.ram, &[], true);
        work.arm(&mut ring, lane, slot);
    }
    while work.in_flight > 0 {
        work.wait(&mut ring, lanes);
        loop {
            let entry = ring.completion().next();
            let Some(entry) = entry else { break };
            let slot = usize::try_from(entry.user_data()).expect("an index was pushed");
            work.in_flight -= 1;
            work.counts.completions += 1;
            work.complete(&mut ring, &mut lanes[slot], slot, entry.result());
        }
    }
    work.counts
}

struct Work {
    slots: Vec<Slot>,
    patience: Option<Patience>,
    in_flight: usize,
    counts: Counts,
}

/// What a channel's receive may write, and what it waits for.
struct Slot {
    /// Pages, and behind them the next header.
    scatter: Scatter,
    /// As set last.
    mark: usize,
    /// Bytes of pages of the packet before, if there are enough to hope for another one like it.
    hoped: usize,
    /// When a wait for more than is needed ends.
    until: Option<Instant>,
    /// Without which it is for nothing.
    needed: usize,
    /// So many bytes are known to be there.
    there: usize,
}

impl Slot {
    fn new() -> Self {
        Self { scatter: Scatter::new(), mark: 1, hoped: 0, until: None, needed: 1, there: 0 }
    }

    fn set_mark(&mut self, lane: &Lane<'_>, bytes: usize) {
        if self.mark != bytes {
            set_low_water(lane.socket, i32::try_from(bytes).expect("a packet"));
            self.mark = bytes;
        }
    }
}

impl Work {
    fn complete(&mut self, ring: &mut IoUring, lane: &mut Lane<'_>, at: usize, result: i32) {
        let slot = &mut self.slots[at];
        assert!(result > 0, "receive: {result}");
        let bytes = result.unsigned_abs() as usize;
        if slot.until.take().is_some() {
            slot.there = slot.mark;
        }
        slot.there = slot.there.saturating_sub(bytes);
        slot.scatter.advance(bytes);
        if slot.scatter.missing() == 0 {
            let Next::Pages(bytes) = lane.take_header(slot.scatter.header()) else { return };
            slot.scatter.aim(lane.ram, &lane.runs, true);
            slot.hoped = if bytes >= HOPED_BYTES_MIN { bytes } else { 0 };
        } else if slot.scatter.missing() > HEADER_BYTES {
            self.counts.short += 1;
        }
        self.arm(ring, lane, at);
    }

    /// Pages that a header has announced are waited for together. A header that nobody announced
    /// is not, but with patience, and not once its first bytes are there.
    fn arm(&mut self, ring: &mut IoUring, lane: &Lane<'_>, at: usize) {
        let slot = &mut self.slots[at];
        let missing = slot.scatter.missing();
        let pages = missing.saturating_sub(HEADER_BYTES);
        slot.needed = pages.max(1);
        let mut mark = slot.needed;
        let is_there = slot.there >= slot.needed;
        if let Some(Patience { packets, most }) = self.patience
            && !is_there
            && slot.hoped > 0
            && (pages > 0 || missing == HEADER_BYTES)
        {
            let more = packets - usize::from(pages > 0);
            if more > 0 {
                slot.until = Some(Instant::now() + most);
                mark = pages + more * (HEADER_BYTES + slot.hoped);
            }
        }
        slot.set_mark(lane, mark);
        let entry = opcode::RecvMsg::new(Fd(lane.socket.as_raw_fd()), slot.scatter.message())
            .ioprio(if mark > 1 && !is_there { POLL_FIRST } else { 0 })
            .build()
            .user_data(at as u64);
        // SAFETY: push needs an operation whose buffers stay valid until its completion.
        // - the message, iovecs and header are boxes of the slot, guest RAM is borrowed by the
        //   lane; `Work` ends the process rather than drop them with something in flight.
        // - a slot is touched again only when its one receive is complete.
        let pushed = unsafe { ring.submission().push(&entry) };
        pushed.expect("room for a receive of every channel");
        self.in_flight += 1;
    }

    fn wait(&mut self, ring: &mut IoUring, lanes: &[Lane<'_>]) {
        self.counts.calls += 1;
        let Some(until) = self.slots.iter().filter_map(|slot| slot.until).min() else {
            ring.submit_and_wait(1).expect("io_uring_enter");
            return;
        };
        let now = Instant::now();
        let most = Timespec::from(until.saturating_duration_since(now));
        let waited = ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&most));
        if let Err(error) = waited {
            assert_eq!(error.raw_os_error(), Some(libc::ETIME), "io_uring_enter: {error}");
        }
        for (slot, lane) in self.slots.iter_mut().zip(lanes) {
            if slot.until.is_some_and(|until| until <= now) {
                slot.until = None;
                slot.set_mark(lane, slot.needed);
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            process::abort();
        }
    }
}

/// `IORING_RECVSEND_POLL_FIRST`.
const POLL_FIRST: u16 = 1;
/// As the receiver's: behind fewer bytes of pages nothing is hoped for.
const HOPED_BYTES_MIN: usize = 64 << 10;
