//! A reader's ring: receives on many channels, straight into guest RAM.
//!
//! What the kernel may write belongs to the ring until the completion: the
//! header buffers, the iovecs and message headers stand in slots that live
//! as long as the ring, the guest RAM is kept by an `Arc`, and dropping the ring
//! cancels and drains. So everything here is safe to call.

pub(crate) mod completion;
mod features;
mod patience;
mod receives;
mod waiting;

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use landfall_pagepool::RamBlocks;

pub use features::RingFeatures;

use crate::channel::HEADER_BYTES_MAX;
use crate::clock::now_ns;
use crate::error::RunError;
pub use crate::low_water::Expected;
use crate::low_water::hoped_bytes;
use crate::wire::COMPRESSED_BYTES_MAX;
use patience::Patience;
use waiting::{Patient, Waiting};

/// A ring with its channels' sockets.
///
/// Field order is drop order: the ring goes before what it may write.
pub struct ReaderRing {
    ring: IoUring,
    features: RingFeatures,
    patience: Patience,
    /// What all slots together wait for at most.
    hoped_bytes: u64,
    slots: Vec<Slot>,
    ram: Option<Arc<RamBlocks>>,
    wake: Arc<OwnedFd>,
    wake_count: Box<u64>,
    wake_in_flight: bool,
    /// Cancellations included.
    in_flight: usize,
    cancels_in_flight: usize,
}

/// One channel's socket and what its operation may write.
struct Slot {
    socket: Arc<OwnedFd>,
    /// Headers, and what comes behind short ones.
    headers: Box<[u8]>,
    iovecs: Box<[libc::iovec]>,
    message: Box<libc::msghdr>,
    /// For bytes that do not go to guest RAM as they come; empty until given.
    staging: Box<[u8]>,
    /// One at a time: what comes is in the order of the stream.
    in_flight: Option<Operation>,
    waiting: Waiting,
}

/// Which operation a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Header bytes of the channel in this slot.
    Header(usize),
    /// Pages, or bytes of a payload or of TLS, of the channel in this slot, and behind
    /// them perhaps header bytes.
    Pages(usize),
    /// Somebody wrote to the wake-up eventfd.
    Wake,
    /// A cancellation that [`ReaderRing::drain`] asked for.
    Cancel,
}

/// One completion: the operation, and bytes or what went wrong.
#[derive(Debug)]
pub struct Completion {
    /// What ended.
    pub operation: Operation,
    /// How many bytes; 0 is the end of the channel.
    pub result: io::Result<usize>,
}

impl ReaderRing {
    /// A ring for up to `channels` channels, woken by `wake`, an eventfd.
    ///
    /// # Errors
    /// Environment, see [`RingFeatures::probe`].
    pub fn new(
        features: RingFeatures,
        channels: usize,
        wake: Arc<OwnedFd>,
    ) -> Result<Self, RunError> {
        let ring = features.build(entries(channels))?;
        Ok(Self {
            ring,
            features,
            patience: Patience::new(channels),
            hoped_bytes: hoped_bytes(None, 1),
            slots: Vec::with_capacity(channels),
            ram: None,
            wake,
            wake_count: Box::new(0),
            wake_in_flight: false,
            in_flight: 0,
            cancels_in_flight: 0,
        })
    }

    /// At most so many bytes are waited for from now on, in all its sockets, but one packet in each.
    pub fn hope_for(&mut self, bytes: u64) {
        self.hoped_bytes = bytes;
    }

    /// The RAM blocks that pages go to from now on. To say the same again is
    /// nothing, also while pages are on their way.
    ///
    /// # Panics
    /// If pages are on their way to other RAM blocks.
    pub fn set_ram(&mut self, ram: Arc<RamBlocks>) {
        if self.ram.as_ref().is_some_and(|now| Arc::ptr_eq(now, &ram)) {
            return;
        }
        assert!(!self.slots.iter().any(Slot::has_pages_in_flight), "RAM changed under pages");
        self.ram = Some(ram);
    }

    /// Takes a channel's socket; returns its slot. `packet_pages` bounds the
    /// runs of a packet.
    pub fn attach(&mut self, socket: Arc<OwnedFd>, packet_pages: usize) -> usize {
        let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        self.slots.push(Slot {
            waiting: Waiting::of(&socket),
            socket,
            headers: vec![0; HEADERS_BYTES].into_boxed_slice(),
            // Of every page at most, and of the header behind them.
            iovecs: vec![none; packet_pages + 1].into_boxed_slice(),
            message: Box::new(empty_message()),
            staging: Box::default(),
            in_flight: None,
        });
        self.slots.len() - 1
    }

    /// Gives a slot `bytes` of staging memory, of which only what is used gets
    /// pages of the host.
    pub fn give_staging(&mut self, slot: usize, bytes: usize) {
        let place = &mut self.slots[slot];
        assert!(!place.has_pages_in_flight(), "the kernel may write the staging memory now");
        place.staging = vec![0; bytes].into_boxed_slice();
    }

    /// True once the slot has been given staging memory.
    pub fn has_staging(&self, slot: usize) -> bool {
        !self.slots[slot].staging.is_empty()
    }

    /// Waits for somebody to write to the eventfd.
    pub fn arm_wake(&mut self) {
        assert!(!self.wake_in_flight, "one wait for a wake-up at a time");
        let buffer: *mut u64 = &raw mut *self.wake_count;
        let entry = opcode::Read::new(Fd(self.wake.as_raw_fd()), buffer.cast(), 8)
            .build()
            .user_data(encode(Operation::Wake));
        // SAFETY: push needs an operation whose buffers stay valid until its completion.
        // - the eventfd and the boxed count are kept by self, which drains before it drops them.
        unsafe { self.push(&entry) };
        self.wake_in_flight = true;
    }

    /// Submits what is armed and waits for at least one completion.
    ///
    /// # Errors
    /// Environment: `io_uring_enter` failed for a reason that no retry mends.
    pub fn wait(&mut self) -> Result<(), RunError> {
        let slots = &self.slots;
        let is_on = |slot: usize, number| slots[slot].waiting.is_patient(number);
        let Some(end_ns) = self.patience.next_end_ns(is_on) else {
            return completion::wait(&mut self.ring);
        };
        let now = now_ns();
        completion::wait_for(&mut self.ring, end_ns.saturating_sub(now))?;
        // What is there now has come in time.
        let nothing = self.ring.completion().is_empty();
        self.lose_patience(if nothing { now_ns() } else { now });
        Ok(())
    }

    /// Slots that have waited long enough by `now` for more than they need are woken by what
    /// they need from now on.
    fn lose_patience(&mut self, now: u64) {
        while let Some((slot, number)) = self.patience.ended(now) {
            let Slot { waiting, socket, .. } = &mut self.slots[slot];
            if waiting.is_patient(number) {
                waiting.lose_patience(socket);
            }
        }
    }

    /// Nobody waits for more than is needed any more: somebody waits for the channels.
    pub fn hurry(&mut self) {
        for Slot { waiting, socket, .. } in &mut self.slots {
            waiting.be_content(socket);
        }
    }

    /// Sets the slot's low-water mark; returns the flags with which it is minded.
    fn wait_for(&mut self, slot: usize, expected: Expected) -> u16 {
        let bytes_max = self.hoped_bytes / self.slots.len() as u64;
        let hoped = self.slots[slot].waiting.hoped(expected, bytes_max);
        let patient = hoped.map(|(packets, mark)| {
            let slots = &self.slots;
            let is_on = |slot: usize, number| slots[slot].waiting.is_patient(number);
            Patient { number: self.patience.begin(slot, now_ns(), is_on), packets, mark }
        });
        let Slot { waiting, socket, .. } = &mut self.slots[slot];
        let polls_first = waiting.begin(socket, patient);
        if polls_first && self.features.poll_first { IORING_RECVSEND_POLL_FIRST } else { 0 }
    }

    /// The next completion that is there, if any.
    pub fn completion(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let operation = decode(entry.user_data());
        self.in_flight -= 1;
        match operation {
            Operation::Header(slot) | Operation::Pages(slot) => {
                let place = &mut self.slots[slot];
                place.in_flight = None;
                place.waiting.ended(u64::try_from(entry.result()).unwrap_or(0));
            }
            Operation::Wake => self.wake_in_flight = false,
            Operation::Cancel => self.cancels_in_flight -= 1,
        }
        let result = completion::result(&entry);
        Some(Completion { operation, result })
    }

    /// A part of a slot's header memory, as the last receive left it.
    pub fn headers(&self, slot: usize, bytes: Range<usize>) -> &[u8] {
        let slot = &self.slots[slot];
        assert!(slot.in_flight.is_none(), "the kernel may write these headers now");
        &slot.headers[bytes]
    }

    /// The first `bytes` of a slot's staging memory, as the last receive left them.
    pub fn staging(&self, slot: usize, bytes: usize) -> &[u8] {
        let slot = &self.slots[slot];
        assert!(!slot.has_pages_in_flight(), "the kernel may write the staging memory now");
        &slot.staging[..bytes]
    }

    /// All of a slot's staging memory.
    pub fn staging_mut(&mut self, slot: usize) -> &mut [u8] {
        let slot = &mut self.slots[slot];
        assert!(!slot.has_pages_in_flight(), "the kernel may write the staging memory now");
        &mut slot.staging
    }

    /// The socket of the channel in this slot.
    pub fn socket(&self, slot: usize) -> &OwnedFd {
        &self.slots[slot].socket
    }

    /// True while an operation of this slot is under way.
    pub fn is_busy(&self, slot: usize) -> bool {
        self.slots[slot].in_flight.is_some()
    }

    /// Cancels everything and waits until the kernel has let go of it all.
    pub fn drain(&mut self) {
        // A cancellation does not find what is between two states when it looks. So as often as
        // it takes.
        while self.in_flight > 0 {
            self.cancel_all();
            while self.cancels_in_flight > 0 {
                if self.wait().is_err() {
                    // Nothing is known of the kernel's writes any more: what they may hit must
                    // never be freed.
                    self.leak();
                    return;
                }
                while self.completion().is_some() {}
            }
        }
    }

    fn cancel_all(&mut self) {
        let mut pending = Vec::new();
        pending.extend(self.wake_in_flight.then_some(Operation::Wake));
        pending.extend(self.slots.iter().filter_map(|slot| slot.in_flight));
        self.cancels_in_flight += pending.len();
        for operation in pending {
            let entry = opcode::AsyncCancel::new(encode(operation))
                .build()
                .user_data(encode(Operation::Cancel));
            // SAFETY: push needs buffers that stay valid: a cancellation has none.
            unsafe { self.push(&entry) };
        }
    }

    fn leak(&mut self) {
        self.in_flight = 0;
        self.cancels_in_flight = 0;
        std::mem::forget(std::mem::take(&mut self.slots));
        std::mem::forget(self.ram.take());
        std::mem::forget(std::mem::replace(&mut self.wake_count, Box::new(0)));
    }

    fn make_room(&mut self, entries: usize) {
        let queue = self.ring.submission();
        let room = queue.capacity() - queue.len();
        drop(queue);
        if room < entries {
            // The kernel takes all that is queued; nothing waits.
            self.ring.submit().expect("the ring takes what it has room for");
        }
    }

    /// Queues one operation.
    ///
    /// # Safety
    /// Everything that the operation reads or writes must stay valid until its
    /// completion has been taken by [`ReaderRing::completion`].
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        self.make_room(1);
        // SAFETY: the caller's promise, which is what SubmissionQueue::push requires.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("there is room");
        self.in_flight += 1;
    }
}

impl Slot {
    /// Notes what is about to be under way.
    fn begin(&mut self, operation: Operation) {
        assert!(self.in_flight.is_none(), "one operation of a channel at a time");
        self.in_flight = Some(operation);
    }

    fn has_pages_in_flight(&self) -> bool {
        matches!(self.in_flight, Some(Operation::Pages(_)))
    }
}

impl Drop for ReaderRing {
    fn drop(&mut self) {
        self.drain();
    }
}

// SAFETY: the raw pointers inside are iovecs and message headers into memory that the struct
// itself keeps; nothing in it belongs to a thread. (A ring with SINGLE_ISSUER answers EEXIST to
// another thread's submissions, which is an error, not a fault.)
unsafe impl Send for ReaderRing {}

fn encode(operation: Operation) -> u64 {
    match operation {
        Operation::Header(slot) => (slot as u64) << 2,
        Operation::Pages(slot) => (slot as u64) << 2 | 1,
        Operation::Wake => 2,
        Operation::Cancel => 3,
    }
}

fn decode(user_data: u64) -> Operation {
    match (user_data & 3, (user_data >> 2) as usize) {
        (0, slot) => Operation::Header(slot),
        (1, slot) => Operation::Pages(slot),
        (2, _) => Operation::Wake,
        _ => Operation::Cancel,
    }
}

fn entries(channels: usize) -> u32 {
    let mut n = 0;
    n += channels; // a header or pages
    n += channels; // a cancellation of each, at the end
    n += 2; // the wake-up and its cancellation
    u32::try_from(n.next_power_of_two()).expect("at most 255 channels")
}

fn empty_message() -> libc::msghdr {
    // SAFETY: zeroed needs a type for which all-zero bytes are a value: msghdr is integers and
    // nullable pointers (recvmsg(2)), and musl's has private padding that no literal can name.
    unsafe { std::mem::zeroed() }
}

/// A slot's header memory: for so many headers at once where no payload comes between them.
pub const HEADERS_BYTES: usize = 16 * HEADER_BYTES_MAX;

/// A slot's staging memory: the largest compressed payload. Device state may be
/// longer and comes in pieces, as do pages that are dropped.
pub const STAGING_BYTES: usize = COMPRESSED_BYTES_MAX as usize;

/// io_uring_prep_recv(3): wait first, then receive.
const IORING_RECVSEND_POLL_FIRST: u16 = 1;
