//! The bare ceiling: the same bytes over the same number of sockets into the same kind of memory,
//! received in large reads and not looked at: the loops that anybody would write first.
//!
//! Three loops, because which one is better depends on the host: blocking receives, a ring, and
//! receives that wait for as much as landfall's readers do. A comparison takes the better one.

#[allow(unsafe_code, reason = "the kernel writes raw memory: docs/unsafe.md#ceiling-memory")]
mod memory;
#[allow(unsafe_code, reason = "the kernel writes raw memory: docs/unsafe.md#ceiling-ring")]
mod ring;

pub use memory::Memory;
pub use ring::ring;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use landfall_receiver::{
    cpu_cache::Level2,
    low_water::{LowWater, PATIENCE_NS, hoped_bytes},
    receiver::allowed_cpus,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};

use self::memory::{Area, Wait};

/// What a loop did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CeilingReport {
    /// Bytes received over all sockets.
    pub bytes: u64,
    /// From before the first receive to after the last, in ns.
    pub wall_ns: u64,
    /// CPU time of the receiving threads in ns, kernel time included. Interrupts and the sender are
    /// not in it; on loopback the sender's thread does part of the receiver's work.
    pub cpu_ns: u64,
}

impl CeilingReport {
    /// CPU seconds per GiB; `None` when nothing was received.
    #[must_use]
    pub fn cpu_seconds_per_gib(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.cpu_ns as f64 / 1e9 / (self.bytes as f64 / GIB))
    }
}

/// Receives until every socket has ended, with blocking receives: one thread per socket, or fewer
/// threads that each poll their share of the sockets.
///
/// # Errors
/// What the system says of a receive other than that the peer closed or reset, or of `poll`.
///
/// # Panics
/// When there is no socket, no thread, or less memory than one read per socket.
pub fn blocking(sockets: &[OwnedFd], memory: Memory, threads: usize) -> io::Result<CeilingReport> {
    receive(sockets, memory, threads, |lanes| match lanes {
        [lane] => one_socket(lane),
        lanes => polled(lanes, PollTimeout::NONE, READ_BYTES),
    })
}

/// Receives until every socket has ended. Its threads sleep until as much has come as landfall waits
/// for at most, or as long as it waits.
///
/// # Errors
/// As [`blocking`].
///
/// # Panics
/// As [`blocking`].
pub fn patient(sockets: &[OwnedFd], memory: Memory, threads: usize) -> io::Result<CeilingReport> {
    let hoped = hoped_bytes(Level2::of(0).as_ref(), threads.div_ceil(allowed_cpus().len().max(1)));
    receive(sockets, memory, threads, |lanes| {
        let mark = hoped / lanes.len() as u64;
        for lane in &mut *lanes {
            LowWater::of(lane.socket).set(lane.socket, mark);
        }
        let patience = PollTimeout::try_from(Duration::from_nanos(PATIENCE_NS));
        polled(lanes, patience.expect("few milliseconds"), mark as usize)
    })
}

/// One socket and its part of the memory.
#[derive(Debug)]
struct Lane<'a> {
    socket: &'a OwnedFd,
    area: Area,
}

/// Deals sockets and memory out to threads and sums up what they did.
fn receive(
    sockets: &[OwnedFd],
    memory: Memory,
    threads: usize,
    work: impl Fn(&mut [Lane<'_>]) -> io::Result<u64> + Sync,
) -> io::Result<CeilingReport> {
    assert!(threads > 0, "somebody has to receive");
    let areas = memory.split(sockets.len(), READ_BYTES);
    let mut lanes: Vec<Lane<'_>> =
        sockets.iter().zip(areas).map(|(socket, area)| Lane { socket, area }).collect();
    let per_thread = lanes.len().div_ceil(threads.min(lanes.len()));
    let start = Instant::now();
    let results: Vec<io::Result<(u64, u64)>> = thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .chunks_mut(per_thread)
            .map(|lanes| {
                scope.spawn(|| {
                    let bytes = work(lanes)?;
                    Ok((bytes, thread_cpu_ns()?))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a receiving thread")).collect()
    });
    let mut report = CeilingReport {
        wall_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        ..CeilingReport::default()
    };
    for result in results {
        let (bytes, cpu_ns) = result?;
        report.bytes += bytes;
        report.cpu_ns += cpu_ns;
    }
    Ok(report)
}

fn one_socket(lane: &mut Lane<'_>) -> io::Result<u64> {
    let mut bytes = 0;
    while let Some(taken) = lane.area.receive(lane.socket, Wait::ForAll)? {
        bytes += taken as u64;
    }
    Ok(bytes)
}

/// Receives about `most` bytes at a time from each socket that has some, or, if none says so in
/// time, from whichever has any.
fn polled(lanes: &mut [Lane<'_>], patience: PollTimeout, most: usize) -> io::Result<u64> {
    let mut open: Vec<usize> = (0..lanes.len()).collect();
    let mut bytes = 0;
    while !open.is_empty() {
        let mut waits: Vec<PollFd<'_>> = open
            .iter()
            .map(|&at| PollFd::new(lanes[at].socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let in_time = match poll(&mut waits, patience) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let is_ready = |wait: &PollFd<'_>| !in_time || wait.any().unwrap_or(true);
        let ready: Vec<bool> = waits.iter().map(is_ready).collect();
        let mut ended = Vec::new();
        for (&at, _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
            let Lane { socket, area } = &mut lanes[at];
            let mut turn = 0;
            while turn < most {
                match area.receive(socket, Wait::No)? {
                    Some(0) => break,
                    Some(taken) => turn += taken,
                    None => {
                        ended.push(at);
                        break;
                    }
                }
            }
            bytes += turn as u64;
        }
        open.retain(|at| !ended.contains(at));
    }
    Ok(bytes)
}

/// CPU time of the calling thread, which was started for the one job.
fn thread_cpu_ns() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// What is received at once: as much as a full packet holds.
const READ_BYTES: usize = 512 * 1024;
const GIB: f64 = (1u64 << 30) as f64;

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    use super::*;

    fn check(run: impl Fn(&[OwnedFd], Memory) -> io::Result<CeilingReport>) {
        const SENT: usize = 3_000_001;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let pair = |_| {
            let theirs = TcpStream::connect(listener.local_addr().expect("it")).expect("connected");
            (theirs, OwnedFd::from(listener.accept().expect("accepted").0))
        };
        let (theirs, ours): (Vec<TcpStream>, Vec<OwnedFd>) = (0..5).map(pair).unzip();
        let report = thread::scope(|scope| {
            for mut socket in theirs {
                scope.spawn(move || socket.write_all(&vec![7; SENT]).expect("written"));
            }
            run(&ours, Memory::leak(vec![0; 5 << 20])).expect("received")
        });
        assert_eq!(report.bytes, 5 * SENT as u64);
        assert!(report.cpu_ns > 0 && report.wall_ns > 0);
    }

    #[test]
    fn blocking_threads_receive_every_byte() {
        for threads in [1, 2, 5, 9] {
            check(|sockets, memory| blocking(sockets, memory, threads));
        }
    }

    #[test]
    fn patient_threads_receive_every_byte() {
        for threads in [1, 2, 5] {
            check(|sockets, memory| patient(sockets, memory, threads));
        }
    }

    #[test]
    fn rings_receive_every_byte() {
        for threads in [1, 2, 5] {
            check(|sockets, memory| ring(sockets, memory, threads));
        }
    }

    #[test]
    #[should_panic(expected = "memory")]
    fn too_little_memory_is_our_own_mistake() {
        let (_theirs, ours) = UnixStream::pair().expect("a pair");
        let _ = blocking(&[ours.into()], Memory::leak(vec![0; 1000]), 1);
    }
}
