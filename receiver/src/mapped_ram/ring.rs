//! A reader's ring for a file: reads at their offsets, straight into guest RAM.
//!
//! What the kernel may write belongs to the ring until the completion: guest
//! RAM and both descriptors are kept by an `Arc`, and dropping the ring cancels
//! and drains. So everything here is safe to call.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use landfall_pagepool::RamBlocks;
use memmap2::{MmapMut, MmapRaw};

use crate::error::RunError;
use crate::ring::{RingFeatures, completion};

/// A ring with up to so many reads at once.
///
/// Field order is drop order: the ring goes before what it may write.
pub struct FileRing {
    ring: IoUring,
    /// `None` once it was leaked.
    target: Option<Target>,
    busy: Box<[bool]>,
    in_flight: usize,
    /// Every descriptor that was read from; none is closed under a read.
    files: Vec<Arc<OwnedFd>>,
}

/// Where bytes go.
pub enum Target {
    /// Into the RAM blocks.
    Ram(Arc<RamBlocks>),
    /// Nowhere: all reads into the same memory, which nobody looks at.
    Scratch(MmapRaw),
}

/// One read: bytes of the file at `file_offset`, into `block` at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Index in the list of blocks.
    pub block: usize,
    /// In the block, bytes.
    pub offset: u64,
    /// At least 1.
    pub bytes: u32,
    /// In the file, bytes.
    pub file_offset: u64,
}

/// The end of a read.
#[derive(Debug)]
pub struct Done {
    /// The slot it was armed in.
    pub slot: usize,
    /// How many bytes came, fewer than asked for perhaps; 0 at the file's end.
    pub result: io::Result<usize>,
}

impl Target {
    /// Memory for reads of up to `bytes` that are dropped, aligned for
    /// `O_DIRECT`.
    ///
    /// # Errors
    /// Environment: no memory.
    pub fn scratch(bytes: usize) -> Result<Self, RunError> {
        let memory = MmapMut::map_anon(bytes).map_err(|error| RunError::host("mmap", error))?;
        Ok(Self::Scratch(memory.into()))
    }
}

impl FileRing {
    /// A ring for `depth` reads at once, for the calling thread.
    ///
    /// # Errors
    /// Environment, see [`RingFeatures::probe`].
    pub fn new(features: RingFeatures, depth: usize, target: Target) -> Result<Self, RunError> {
        Ok(Self {
            ring: features.build(entries(depth))?,
            target: Some(target),
            busy: vec![false; depth].into_boxed_slice(),
            in_flight: 0,
            files: Vec::new(),
        })
    }

    /// True if nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Queues a read of `file`.
    ///
    /// # Panics
    /// If the slot is busy, or the read is not inside its block: our own bug.
    pub fn arm(&mut self, slot: usize, file: &Arc<OwnedFd>, read: Read) {
        assert!(!self.busy[slot], "one read in a slot at a time");
        if !self.files.iter().any(|known| Arc::ptr_eq(known, file)) {
            self.files.push(Arc::clone(file));
        }
        let to = match self.target.as_ref().expect("it goes last") {
            Target::Ram(ram) => ram[read.block]
                .span(read.offset, read.bytes.into())
                .expect("reads were made from the block")
                .as_ptr(),
            Target::Scratch(memory) => {
                assert!(read.bytes as usize <= memory.len(), "scratch holds the longest read");
                memory.as_mut_ptr()
            }
        };
        let entry = opcode::Read::new(Fd(file.as_raw_fd()), to, read.bytes)
            .offset(read.file_offset)
            .build()
            .user_data(slot as u64);
        // SAFETY: push needs an operation whose buffers stay valid until its completion.
        // - in RAM: span() proved the range; the blocks are kept by self.target, and no reference
        //   into guest RAM exists that a write could invalidate.
        // - in scratch memory: `bytes` fit (asserted); nobody reads it or refers to it, so several
        //   reads into it at once harm nothing; it is kept by self.target.
        // - the descriptor is kept by self.files; self drains before either goes.
        unsafe { self.push(&entry) };
        self.busy[slot] = true;
    }

    /// Submits what is armed and waits for at least one completion.
    ///
    /// # Errors
    /// Environment: `io_uring_enter` failed for a reason that no retry mends.
    pub fn wait(&mut self) -> Result<(), RunError> {
        completion::wait(&mut self.ring)
    }

    /// The next read that has ended, if any.
    pub fn done(&mut self) -> Option<Done> {
        loop {
            let entry = self.ring.completion().next()?;
            self.in_flight -= 1;
            if entry.user_data() == CANCEL {
                continue;
            }
            let slot = entry.user_data() as usize;
            self.busy[slot] = false;
            let result = completion::result(&entry);
            return Some(Done { slot, result });
        }
    }

    /// Cancels everything and waits until the kernel has let go of it all. A
    /// read that a disk is at work on cannot be cancelled, only awaited.
    fn drain(&mut self) {
        for slot in 0..self.busy.len() {
            if self.busy[slot] {
                let entry = opcode::AsyncCancel::new(slot as u64).build().user_data(CANCEL);
                // SAFETY: push needs buffers that stay valid: a cancellation has none.
                unsafe { self.push(&entry) };
            }
        }
        while self.in_flight > 0 {
            if self.wait().is_err() {
                // Nothing is known of the kernel's writes any more: what they may hit must never
                // be freed.
                self.in_flight = 0;
                if let Some(target) = self.target.take() {
                    std::mem::forget(target);
                }
                std::mem::forget(std::mem::take(&mut self.files));
                return;
            }
            while self.done().is_some() {}
        }
    }

    /// Queues one operation.
    ///
    /// # Safety
    /// Everything that the operation reads or writes must stay valid until its
    /// completion has been taken.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise, which is what SubmissionQueue::push requires.
        let pushed = unsafe { self.ring.submission().push(entry) };
        // One read and one cancellation a slot, and never more: see entries().
        pushed.expect("there is room");
        self.in_flight += 1;
    }
}

impl Drop for FileRing {
    fn drop(&mut self) {
        self.drain();
    }
}

fn entries(depth: usize) -> u32 {
    let mut n = 0;
    n += depth; // a read each
    n += depth; // a cancellation of each, at the end
    u32::try_from(n.next_power_of_two()).expect("a queue depth is small")
}

const CANCEL: u64 = u64::MAX;
