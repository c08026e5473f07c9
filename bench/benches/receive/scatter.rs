//! The message header and iovecs of one receive.

use std::ptr;

use landfall_pagepool::RamBlock;

use crate::place::{RUNS_MAX, Run};
use crate::stream::HEADER_BYTES;

/// Where one receive goes: runs of guest RAM, and maybe a header behind them. Boxed parts, so that
/// the kernel may keep their addresses while this is moved.
pub(crate) struct Scatter {
    message: Box<libc::msghdr>,
    iovecs: Box<[libc::iovec]>,
    header: Box<[u8; HEADER_BYTES]>,
    first: usize,
    end: usize,
    missing: usize,
}

impl Scatter {
    /// One that goes nowhere.
    pub(crate) fn new() -> Self {
        let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: zeroed needs a type for which all-zero bytes are a value: msghdr is integers and
        // nullable pointers (recvmsg(2)).
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        Self {
            message: Box::new(message),
            iovecs: vec![none; RUNS_MAX + 1].into_boxed_slice(),
            header: Box::new([0; HEADER_BYTES]),
            first: 0,
            end: 0,
            missing: 0,
        }
    }

    /// Aims at `runs` of `ram`, and the header behind them if wanted.
    pub(crate) fn aim(&mut self, ram: &RamBlock, runs: &[Run], with_header: bool) {
        assert!(self.missing == 0, "aimed at two things at once");
        for (iovec, run) in self.iovecs.iter_mut().zip(runs) {
            let span = ram.span(run.offset, run.bytes).expect("inside the block");
            *iovec = libc::iovec { iov_base: span.as_ptr().cast(), iov_len: span.len() };
            self.missing += span.len();
        }
        (self.first, self.end) = (0, runs.len());
        if with_header {
            let iov_base = self.header.as_mut_ptr().cast();
            self.iovecs[self.end] = libc::iovec { iov_base, iov_len: HEADER_BYTES };
            self.end += 1;
            self.missing += HEADER_BYTES;
        }
    }

    /// What is still to come, for recvmsg.
    pub(crate) fn message(&mut self) -> *mut libc::msghdr {
        self.message.msg_iov = self.iovecs[self.first..self.end].as_mut_ptr();
        self.message.msg_iovlen = (self.end - self.first) as _;
        &raw mut *self.message
    }

    /// How many bytes are still to come.
    pub(crate) fn missing(&self) -> usize {
        self.missing
    }

    /// So many have come.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.missing -= bytes;
        while bytes > 0 {
            let iovec = &mut self.iovecs[self.first];
            let part = bytes.min(iovec.iov_len);
            iovec.iov_base = iovec.iov_base.wrapping_byte_add(part);
            iovec.iov_len -= part;
            bytes -= part;
            if iovec.iov_len == 0 {
                self.first += 1;
            }
        }
    }

    /// The header, as received.
    pub(crate) fn header(&self) -> &[u8] {
        assert!(self.missing == 0, "the kernel may write the header now");
        &self.header[..]
    }
}
