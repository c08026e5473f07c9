//! Receives on a channel: headers, pages into guest RAM, payloads into staging memory, and
//! bytes that nobody wants.

use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::opcode;
use io_uring::types::Fd;

use super::{Expected, HEADERS_BYTES, Operation, ReaderRing, encode};
use crate::place::Run;

impl ReaderRing {
    /// Receives at most `most` bytes into the slot's header memory, which has [`HEADERS_BYTES`].
    pub fn arm_header(&mut self, slot: usize, most: usize, expected: Expected) {
        let poll_first = self.wait_for(slot, expected);
        let place = &mut self.slots[slot];
        place.begin(Operation::Header(slot));
        let bytes = u32::try_from(most.min(HEADERS_BYTES)).expect("headers are small");
        let entry =
            opcode::Recv::new(Fd(place.socket.as_raw_fd()), place.headers.as_mut_ptr(), bytes)
                .ioprio(poll_first)
                .build()
                .user_data(encode(Operation::Header(slot)));
        // SAFETY: push needs an operation whose buffers stay valid until its completion.
        // - it writes at most HEADERS_BYTES bytes of the slot's own headers, which nobody else
        //   touches while it is in flight; socket and slot are kept by self, which drains before
        //   it drops them.
        unsafe { self.push(&entry) };
    }

    /// Receives `runs` of `block`, or the first bytes of them, and right behind them, if
    /// wanted, as much as has come of what follows, at most `then_headers` bytes, into the slot's
    /// header memory. `packet` is that of [`Expected`].
    ///
    /// What the completion says beyond the runs is in the header memory.
    pub fn arm_pages(
        &mut self,
        slot: usize,
        block: usize,
        runs: &[Run],
        then_headers: Option<usize>,
        packet: u64,
    ) {
        let ram = self.ram.as_ref().expect("RAM is set before pages are armed");
        let block = &ram[block];
        let place = &mut self.slots[slot];
        // A run left out would be read as the next header.
        assert!(runs.len() < place.iovecs.len(), "more runs than the packet has pages");
        let mut bytes = 0;
        for (iovec, run) in place.iovecs.iter_mut().zip(runs) {
            let span =
                block.span(run.offset, run.bytes).expect("runs were checked against the block");
            *iovec = libc::iovec { iov_base: span.as_ptr().cast(), iov_len: span.len() };
            bytes += run.bytes;
        }
        let expected = Expected { surely: bytes, packet };
        // SAFETY: see arm_message: spans of guest RAM kept by self.ram.
        unsafe { self.arm_message(slot, runs.len(), expected, then_headers) };
    }

    /// Receives `bytes` of a payload into the slot's staging memory, or the first of
    /// them, and behind them, if they all fit there and it is wanted, header bytes as
    /// [`ReaderRing::arm_pages`] does.
    pub fn arm_payload(
        &mut self,
        slot: usize,
        bytes: u64,
        then_headers: Option<usize>,
        packet: u64,
    ) {
        let place = &mut self.slots[slot];
        assert!(!place.staging.is_empty(), "staging memory is given before it is used");
        let most = bytes.min(place.staging.len() as u64);
        let iov_base = place.staging.as_mut_ptr().cast();
        place.iovecs[0] = libc::iovec { iov_base, iov_len: most as usize };
        let then_headers = then_headers.filter(|_| most == bytes);
        let expected = Expected { surely: bytes, packet };
        // SAFETY: see arm_message: no more bytes than the slot's own staging memory has.
        unsafe { self.arm_message(slot, 1, expected, then_headers) };
    }

    /// Receives what there is, any number of bytes, into the slot's staging memory
    /// from `from` on. What surely comes may be more than there is room for.
    pub fn arm_staging(&mut self, slot: usize, from: usize, expected: Expected) {
        let place = &mut self.slots[slot];
        let room = &mut place.staging[from..];
        assert!(!room.is_empty(), "a receive of nothing would look like the end");
        let (buffer, bytes) = (room.as_mut_ptr(), room.len() as u64);
        // SAFETY: see arm_buffer: no more bytes than the slot's own staging memory has there.
        unsafe { self.arm_buffer(slot, buffer, bytes, 0, expected) };
    }

    /// Drops at most `bytes` of pages or payload without a copy, which only TCP can
    /// (tcp(7), `MSG_TRUNC`). Fewer bytes may come.
    pub fn arm_truncate(&mut self, slot: usize, bytes: u64, packet: u64) {
        let bytes = bytes.min(u64::from(u32::MAX));
        let expected = Expected { surely: bytes, packet };
        // SAFETY: see arm_buffer: with MSG_TRUNC TCP writes nothing.
        unsafe { self.arm_buffer(slot, ptr::null_mut(), bytes, libc::MSG_TRUNC, expected) };
    }

    /// Receives into the slot's first `places` iovecs, and behind them into the headers;
    /// what surely comes may be more than there is room for.
    ///
    /// Never with `MSG_WAITALL`: it would wait for headers behind the pages too, which
    /// may not come; the low-water mark waits no longer than it should.
    ///
    /// # Safety
    /// What the iovecs point at must stay valid, and be nobody else's to write, until the
    /// completion: guest RAM kept by `self.ram`, or memory of the slot; `self` drains
    /// before either goes.
    unsafe fn arm_message(
        &mut self,
        slot: usize,
        places: usize,
        expected: Expected,
        then_headers: Option<usize>,
    ) {
        let poll_first = self.wait_for(slot, expected);
        let place = &mut self.slots[slot];
        place.begin(Operation::Pages(slot));
        let mut count = places;
        if let Some(most) = then_headers {
            let iov_base = place.headers.as_mut_ptr().cast();
            let iov_len = most.min(HEADERS_BYTES);
            place.iovecs[places] = libc::iovec { iov_base, iov_len };
            count += 1;
        }
        place.message.msg_iov = place.iovecs.as_mut_ptr();
        place.message.msg_iovlen = count;
        let entry = opcode::RecvMsg::new(Fd(place.socket.as_raw_fd()), &raw mut *place.message)
            .ioprio(poll_first)
            .build()
            .user_data(encode(Operation::Pages(slot)));
        // SAFETY: the caller's promise, which is push's requirement; the headers are the slot's own.
        unsafe { self.push(&entry) };
    }

    /// Receives up to `bytes` into `buffer`.
    ///
    /// # Safety
    /// As [`ReaderRing::arm_message`], for `buffer`.
    unsafe fn arm_buffer(
        &mut self,
        slot: usize,
        buffer: *mut u8,
        bytes: u64,
        flags: i32,
        expected: Expected,
    ) {
        let poll_first = self.wait_for(slot, expected);
        let place = &mut self.slots[slot];
        place.begin(Operation::Pages(slot));
        let bytes = u32::try_from(bytes).expect("no more than u32::MAX");
        let entry = opcode::Recv::new(Fd(place.socket.as_raw_fd()), buffer, bytes)
            .flags(flags)
            .ioprio(poll_first)
            .build()
            .user_data(encode(Operation::Pages(slot)));
        // SAFETY: the caller's promise, which is push's requirement.
        unsafe { self.push(&entry) };
    }
}
