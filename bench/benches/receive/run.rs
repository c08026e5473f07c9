//! One run: connections, senders, receivers, and what the receivers used.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use landfall_pagepool::RamBlock;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::contender::{Contender, Counts, Design, Source};
use crate::place::Lane;
use crate::stream::Stream;
use crate::{blocking, copy, low_water, multishot, ring, socket};

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// GiB of pages.
    pub(crate) gib: f64,
    /// CPU seconds of the receiving threads.
    pub(crate) cpu_s: f64,
    /// CPU seconds of the kernel's threads that work for a ring: io-wq, SQPOLL.
    pub(crate) ring_threads_s: f64,
    /// CPU seconds of the sending threads.
    pub(crate) source_s: f64,
    /// From the first byte to the last.
    pub(crate) wall_s: f64,
    /// Of all threads.
    pub(crate) counts: Counts,
    /// How often a receiving thread slept.
    pub(crate) sleeps: u64,
    /// Packets that were sent.
    pub(crate) packets: u64,
}

/// Receives `ram` full of pages; `turn` counts the runs that placed pages in this RAM, `first` is the
/// contender's first, of which every byte is checked.
pub(crate) fn run(contender: &Contender, ram: &RamBlock, turn: usize, first: bool) -> Cost {
    let Contender { channels, threads, source, .. } = *contender;
    let region = ram.bytes() / channels as u64 / REGION_STEP * REGION_STEP;
    let stream = Stream::new(contender.order, usize::try_from(region).expect("a region"));
    let file = lap_file(&stream);
    let (theirs, ours) = connect(contender);
    let before = Before::now();
    let start = Barrier::new(channels + threads + 1);
    let mut cost = Cost::default();
    let (mut source_ns, mut receiver_ns, mut headers) = (0, 0, 0);
    thread::scope(|scope| {
        let senders: Vec<_> = theirs
            .iter()
            .map(|socket| {
                scope.spawn(|| {
                    pin(if threads > 1 { None } else { Some(1) });
                    start.wait();
                    send(socket, &stream, &file, source).expect("sent");
                    cpu_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
                })
            })
            .collect();
        let per_thread = channels.div_ceil(threads);
        let receivers: Vec<_> = ours
            .chunks(per_thread)
            .enumerate()
            .map(|(index, sockets)| {
                let (start, stream) = (&start, &stream);
                let receive = move || {
                    pin(Some(index));
                    let first = index * per_thread;
                    let mut lanes: Vec<Lane<'_>> = sockets
                        .iter()
                        .enumerate()
                        .map(|(at, socket)| {
                            Lane::new(socket, ram, (first + at) as u64 * region, stream)
                        })
                        .collect();
                    start.wait();
                    let slept = sleeps();
                    let before = cpu_ns(ClockId::CLOCK_THREAD_CPUTIME_ID);
                    let counts = receive(contender, &mut lanes, stream);
                    let used = cpu_ns(ClockId::CLOCK_THREAD_CPUTIME_ID) - before;
                    let all = cpu_ns(ClockId::CLOCK_THREAD_CPUTIME_ID);
                    let packets: usize = lanes.iter().map(Lane::packets).sum();
                    (counts, used, all, packets, sleeps() - slept)
                };
                thread::Builder::new()
                    .name("receiving".to_owned())
                    .spawn_scoped(scope, receive)
                    .expect("a thread")
            })
            .collect();
        assert_eq!(receivers.len(), threads, "threads without channels");
        start.wait();
        let began = Instant::now();
        for receiver in receivers {
            let (counts, used, all, packets, sleeps) = receiver.join().expect("received");
            cost.cpu_s += used as f64 / 1e9;
            receiver_ns += all;
            headers += packets;
            cost.sleeps += sleeps;
            cost.counts.calls += counts.calls;
            cost.counts.completions += counts.completions;
            cost.counts.short += counts.short;
        }
        cost.wall_s = began.elapsed().as_secs_f64();
        source_ns = senders.into_iter().map(|sender| sender.join().expect("sent")).sum();
    });
    cost.source_s = source_ns as f64 / 1e9;
    cost.ring_threads_s = before.rest_s(source_ns + receiver_ns);
    cost.gib = (stream.page_bytes() * channels as u64) as f64 / GIB;
    let packets = channels * stream.packets() * stream.laps();
    cost.packets = packets as u64;
    let bases = (0..channels as u64).map(|channel| channel * region);
    match contender.design {
        Design::Bare => bases.for_each(|base| stream.check_unplaced(ram, base, first)),
        _ => {
            assert_eq!(headers, packets, "headers where they should be");
            if contender.places() {
                bases.for_each(|base| stream.check(ram, base, turn, first));
            }
        }
    }
    cost
}

fn receive(contender: &Contender, lanes: &mut [Lane<'_>], stream: &Stream) -> Counts {
    match contender.design {
        Design::Ring(join) => return ring::receive(lanes, join, contender.ring),
        Design::LowWater(patience) => return low_water::receive(lanes, patience, contender.ring),
        Design::Multishot(count, bytes, how) => {
            return multishot::receive(lanes, (count, bytes), how, contender.ring);
        }
        _ => {}
    }
    let [lane] = lanes else { panic!("blocking calls need a thread for each channel") };
    match contender.design {
        Design::Bare => blocking::bare(lane, stream.page_bytes(), stream.wire_bytes()),
        Design::Blocking { fused } => blocking::receive(lane, fused),
        Design::Spinning => blocking::spin(lane),
        Design::Copied(bytes, how) => copy::receive(lane, bytes, how),
        Design::Ring(_) | Design::LowWater(_) | Design::Multishot(..) => {
            unreachable!("returned above")
        }
    }
}

fn connect(contender: &Contender) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket::prepare(&listener, contender.socket);
    let address = listener.local_addr().expect("bound");
    (0..contender.channels)
        .map(|_| {
            let theirs = TcpStream::connect(address).expect("connected");
            if contender.socket.cubic {
                setsockopt(&theirs, TcpCongestion, &"cubic".into()).expect("cubic");
            }
            let ours = listener.accept().expect("accepted").0;
            (theirs, ours)
        })
        .unzip()
}

fn lap_file(stream: &Stream) -> OwnedFd {
    let file = memfd_create(c"lap", MFdFlags::MFD_CLOEXEC).expect("memory");
    let mut file = File::from(file);
    file.write_all(stream.lap()).expect("memory");
    file.into()
}

fn send(mut socket: &TcpStream, stream: &Stream, file: &OwnedFd, source: Source) -> io::Result<()> {
    for _ in 0..stream.laps() {
        match source {
            Source::Written => socket.write_all(stream.lap())?,
            Source::Worked(work) => {
                for packet in stream.packet_bytes() {
                    let until = Instant::now() + work;
                    while Instant::now() < until {
                        std::hint::spin_loop();
                    }
                    socket.write_all(packet)?;
                }
            }
            Source::Referred => {
                let mut at = 0;
                while at < stream.lap().len() as i64 {
                    let left = stream.lap().len() - usize::try_from(at).expect("inside");
                    sendfile(socket.as_fd(), file, Some(&mut at), left)?;
                }
            }
        }
    }
    socket.write_all(&Stream::end())?;
    // The end of the connection wakes whoever waits for more.
    socket.shutdown(Shutdown::Write)
}

/// The clocks before a run.
struct Before {
    process_ns: u64,
    thread_ns: u64,
}

impl Before {
    fn now() -> Self {
        Self {
            process_ns: cpu_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID),
            thread_ns: cpu_ns(ClockId::CLOCK_THREAD_CPUTIME_ID),
        }
    }

    /// What the process used since, but for this thread and the `known` time of others.
    fn rest_s(&self, known_ns: u64) -> f64 {
        let process = cpu_ns(ClockId::CLOCK_PROCESS_CPUTIME_ID) - self.process_ns;
        let own = cpu_ns(ClockId::CLOCK_THREAD_CPUTIME_ID) - self.thread_ns;
        process.saturating_sub(own + known_ns) as f64 / 1e9
    }
}

/// How often this thread gave up its CPU to wait.
fn sleeps() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread");
    usage.voluntary_context_switches().cast_unsigned()
}

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("a clock");
    time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
}

/// Pins to a CPU, or to none. A machine with fewer CPUs is asked for nothing.
fn pin(cpu: Option<usize>) {
    let mut set = CpuSet::new();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    for one in (0..cpus).filter(|&one| cpu.is_none_or(|cpu| cpu % cpus == one)) {
        set.set(one).expect("few CPUs");
    }
    // Unpinned it measures all the same.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

const GIB: f64 = (1u64 << 30) as f64;
/// Regions hold whole packets, at least one.
pub(crate) const REGION_STEP: u64 = 512 * 1024;
