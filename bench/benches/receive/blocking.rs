//! Blocking calls, and calls that are made until something has come; one thread for each channel.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::contender::Counts;
use crate::place::{Lane, Next};
use crate::scatter::Scatter;

/// Header, then pages; or with `fused` the next header in the same call as the pages.
pub(crate) fn receive(lane: &mut Lane<'_>, fused: bool) -> Counts {
    packets(lane, fused, libc::MSG_WAITALL)
}

/// Header, then pages, and the CPU never let go.
pub(crate) fn spin(lane: &mut Lane<'_>) -> Counts {
    packets(lane, false, libc::MSG_DONTWAIT)
}

fn packets(lane: &mut Lane<'_>, fused: bool, flags: i32) -> Counts {
    let mut counts = Counts::default();
    let mut scatter = Scatter::new();
    scatter.aim(lane.ram, &[], true);
    fill(lane, &mut scatter, flags, &mut counts);
    while let Next::Pages(_) = lane.take_header(scatter.header()) {
        scatter.aim(lane.ram, &lane.runs, fused);
        fill(lane, &mut scatter, flags, &mut counts);
        if !fused {
            scatter.aim(lane.ram, &[], true);
            fill(lane, &mut scatter, flags, &mut counts);
        }
    }
    counts
}

/// Reads of 512 KiB that look at nothing: what a receive costs at least.
pub(crate) fn bare(lane: &mut Lane<'_>, page_bytes: u64, wire_bytes: u64) -> Counts {
    let mut counts = Counts::default();
    let mut scatter = Scatter::new();
    let (mut left, mut at) = (wire_bytes, 0);
    while left > 0 {
        let bytes = left.min(READ_BYTES).min(page_bytes - at);
        scatter.aim(lane.ram, &[lane.run_at(at, bytes)], false);
        fill(lane, &mut scatter, libc::MSG_WAITALL, &mut counts);
        left -= bytes;
        at = (at + bytes) % page_bytes;
    }
    counts
}

fn fill(lane: &Lane<'_>, scatter: &mut Scatter, flags: i32, counts: &mut Counts) {
    while scatter.missing() > 0 {
        let message = scatter.message();
        // SAFETY: recvmsg() needs an open socket, a valid message header, and iovecs that it may
        // write.
        // - the socket is borrowed by the lane.
        // - the scatter's iovecs lead into its own header and into guest RAM, which the lane
        //   borrows; nothing has a reference to either.
        let taken = unsafe { libc::recvmsg(lane.socket.as_raw_fd(), message, flags) };
        counts.calls += 1;
        if taken < 0 && Errno::last() == Errno::EAGAIN {
            std::hint::spin_loop();
            continue;
        }
        assert!(taken > 0, "receive: {taken}, {}", io::Error::last_os_error());
        scatter.advance(taken.cast_unsigned());
        counts.short += u64::from(scatter.missing() > 0);
    }
}

const READ_BYTES: u64 = 512 * 1024;
