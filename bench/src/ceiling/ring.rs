//! The bare loop on io_uring: one ring per thread, one receive in flight per socket.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use io_uring::{IoUring, opcode, squeue, types};

use super::{CeilingReport, Lane, Memory, memory::after_error, receive};

/// Receives until every socket has ended, on one ring per thread.
///
/// # Errors
/// No ring to be had (sysctl `kernel.io_uring_disabled`, a seccomp filter), or what the system says
/// of a receive other than that the peer closed or reset.
///
/// # Panics
/// When there is no socket, no thread, or less memory than one read per socket.
pub fn ring(sockets: &[OwnedFd], memory: Memory, threads: usize) -> io::Result<CeilingReport> {
    receive(sockets, memory, threads, serve)
}

fn serve(lanes: &mut [Lane<'_>]) -> io::Result<u64> {
    let mut ring = open(lanes.len())?;
    let mut bytes = 0;
    let mut waiting: Vec<usize> = (0..lanes.len()).collect();
    let mut in_flight = 0;
    loop {
        for at in waiting.drain(..) {
            push(&mut ring, &lanes[at], at);
            in_flight += 1;
        }
        if in_flight == 0 {
            return Ok(bytes);
        }
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        for completion in ring.completion() {
            in_flight -= 1;
            let at = usize::try_from(completion.user_data()).expect("an index was pushed");
            let received = match completion.result() {
                0 => None,
                taken if taken > 0 => Some(taken.unsigned_abs() as usize),
                error => after_error(io::Error::from_raw_os_error(-error))?,
            };
            if let Some(taken) = received {
                lanes[at].area.advance(taken);
                bytes += taken as u64;
                waiting.push(at);
            }
        }
    }
}

/// A ring with what helps where the kernel has it, plainly where not.
fn open(lanes: usize) -> io::Result<IoUring> {
    let entries = u32::try_from(lanes).expect("few sockets").next_power_of_two();
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
        .or_else(|_| IoUring::new(entries))
}

fn push(ring: &mut IoUring, lane: &Lane<'_>, at: usize) {
    let (start, len) = lane.area.next_read();
    let len = u32::try_from(len).expect("reads are small");
    let entry: squeue::Entry =
        opcode::Recv::new(types::Fd(lane.socket.as_raw_fd()), start.as_ptr(), len)
            .flags(libc::MSG_WAITALL)
            .build()
            .user_data(at as u64);
    // SAFETY: push() needs that what the entry names stays valid until its completion.
    // - The socket is borrowed for longer than the ring lives.
    // - The range lies inside the memory (`next_read`); this lane has no other receive in flight,
    //   and `Memory::new`'s caller keeps the range mapped even when `serve` ends in an error.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.expect("the ring has an entry for every socket");
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn the_cpu_clock_of_a_process_holds_what_io_uring_workers_use() {
        const BYTES: usize = 64 << 20;
        let seconds = |id| {
            let time = clock_gettime(id).expect("a clock");
            time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
        };
        let now = || {
            let thread = seconds(ClockId::CLOCK_THREAD_CPUTIME_ID);
            (seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID), thread)
        };
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![1; BYTES]).expect("written");
        let mut buffer = vec![0u8; BYTES];
        let mut ring = IoUring::new(2).expect("a ring");
        let before = now();
        for _ in 0..4 {
            let (start, len) = (buffer.as_mut_ptr(), BYTES as u32);
            let read = opcode::Read::new(types::Fd(file.as_raw_fd()), start, len);
            // To a worker, also what could be done at once.
            let entry = read.build().flags(squeue::Flags::ASYNC);
            // SAFETY: push() needs that what the entry names stays valid until its completion.
            // - It is waited for below, before the file or the buffer can go.
            unsafe { ring.submission().push(&entry) }.expect("there is room");
            ring.submit_and_wait(1).expect("submitted");
            let completion = ring.completion().next().expect("a completion");
            assert!(completion.result() > 0, "{completion:?}");
        }
        let after = now();
        let (process, thread) = (after.0 - before.0, after.1 - before.1);
        // Copying took a worker tens of milliseconds; what other tests use only adds to it.
        assert!(process - thread > 0.005, "process {process} s, this thread {thread} s");
    }
}
