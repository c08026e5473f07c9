//! Multishot receives into provided buffers, and a copy to the places.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{process, ptr};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};
use memmap2::MmapMut;

use crate::contender::{Counts, RingSetup};
use crate::copy::{Copy, Placer};
use crate::place::Lane;

/// Receives all lanes to their ends, through `count` buffers of `bytes` each.
pub(crate) fn receive(
    lanes: &mut [Lane<'_>],
    (count, bytes): (u16, usize),
    copy: Copy,
    setup: RingSetup,
) -> Counts {
    let entries = lanes.len().next_power_of_two();
    // Buffers go before the ring that may write them only when nothing is in flight.
    let mut buffers = Buffers::new(count, bytes);
    let mut ring = setup.build(u32::try_from(entries).expect("few channels"));
    let mut counts = Counts::default();
    buffers.register(&ring);
    let mut placers: Vec<Placer> = lanes.iter().map(|_| Placer::new(copy)).collect();
    let mut armed = InFlight(0);
    for (at, lane) in lanes.iter().enumerate() {
        arm(&mut ring, lane, at);
        armed.0 += 1;
    }
    let mut open = lanes.len();
    while open > 0 {
        ring.submit_and_wait(1).expect("io_uring_enter");
        counts.calls += 1;
        let entries: Vec<cqueue::Entry> = ring.completion().collect();
        for entry in entries {
            counts.completions += 1;
            let at = usize::try_from(entry.user_data()).expect("an index was pushed");
            if let Some(id) = cqueue::buffer_select(entry.flags()) {
                let taken = usize::try_from(entry.result()).expect("bytes");
                placers[at].take(&mut lanes[at], buffers.filled(id, taken));
                buffers.give(id);
                open -= usize::from(placers[at].has_ended());
            } else {
                let ended = entry.result() == 0 && placers[at].has_ended();
                assert!(ended || entry.result() == -libc::ENOBUFS, "receive: {}", entry.result());
                counts.short += u64::from(!ended);
            }
            if !cqueue::more(entry.flags()) {
                armed.0 -= 1;
                if !placers[at].has_ended() {
                    arm(&mut ring, &lanes[at], at);
                    armed.0 += 1;
                }
            }
        }
    }
    // Those that still wait have nothing left to receive but the end of the connection.
    for at in 0..lanes.len() {
        let entry = opcode::AsyncCancel::new(at as u64).build().user_data(CANCEL);
        push(&mut ring, &entry);
        armed.0 += 1;
        ring.submit().expect("io_uring_enter");
        drain(&mut ring, &mut armed);
    }
    while armed.0 > 0 {
        ring.submit_and_wait(1).expect("io_uring_enter");
        drain(&mut ring, &mut armed);
    }
    counts
}

fn drain(ring: &mut IoUring, armed: &mut InFlight) {
    for entry in ring.completion() {
        armed.0 -= usize::from(!cqueue::more(entry.flags()));
    }
}

fn arm(ring: &mut IoUring, lane: &Lane<'_>, at: usize) {
    let entry = opcode::RecvMulti::new(Fd(lane.socket.as_raw_fd()), GROUP).build();
    push(ring, &entry.user_data(at as u64));
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: push needs an operation whose buffers stay valid until its last completion.
    // - a multishot receive writes provided buffers only, which outlive the ring; a cancellation
    //   has none.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.expect("room for every channel");
}

/// Multishot receives and cancellations under way.
struct InFlight(usize);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0 > 0 {
            process::abort();
        }
    }
}

/// Provided buffers: the kernel's ring of them, and their memory.
struct Buffers {
    ring: MmapMut,
    memory: MmapMut,
    count: u16,
    bytes: usize,
    tail: u16,
}

impl Buffers {
    fn new(count: u16, bytes: usize) -> Self {
        assert!(count.is_power_of_two());
        let ring = MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>()).expect("map");
        let memory = MmapMut::map_anon(usize::from(count) * bytes).expect("map");
        let mut buffers = Self { ring, memory, count, bytes, tail: 0 };
        for id in 0..count {
            buffers.give(id);
        }
        buffers
    }

    fn register(&mut self, ring: &IoUring) {
        let at = self.ring.as_mut_ptr() as u64;
        // SAFETY: register_buf_ring_with_flags needs a ring of `count` entries that is valid until
        // the io_uring is gone.
        // - it is a mapping of that size, and dropped after the io_uring or never (InFlight).
        let done =
            unsafe { ring.submitter().register_buf_ring_with_flags(at, self.count, GROUP, 0) };
        done.expect("provided buffers can be registered");
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, id: u16) {
        let first = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        let entry = first.wrapping_add(usize::from(self.tail & (self.count - 1)));
        let buffer = self.memory.as_mut_ptr().wrapping_add(usize::from(id) * self.bytes);
        // SAFETY: a reference needs a valid, aligned entry that nobody else uses.
        // - inside the mapping, page-aligned at its start; the kernel reads only entries in front of
        //   the tail, and the tail's own field is none of the three that are set.
        let entry = unsafe { &mut *entry };
        entry.set_addr(buffer as u64);
        entry.set_len(u32::try_from(self.bytes).expect("small buffers"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: tail needs a pointer to the first entry of the ring.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: from_ptr needs an aligned u16 that is only accessed atomically meanwhile.
        // - it is a field of the mapping; the kernel reads it with acquire order.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// What the kernel has put into a buffer that it gave back.
    fn filled(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(id < self.count && bytes <= self.bytes);
        let at = self.memory.as_ptr().wrapping_add(usize::from(id) * self.bytes);
        // SAFETY: a slice needs `bytes` initialised bytes that nobody writes meanwhile.
        // - inside the mapping (assert); the kernel let go of this buffer with its completion and
        //   gets it again by `give`, which needs &mut self.
        unsafe { &*ptr::slice_from_raw_parts(at, bytes) }
    }
}

const GROUP: u16 = 1;
const CANCEL: u64 = u64::MAX;
