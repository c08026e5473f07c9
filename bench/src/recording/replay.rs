//! The replayer: a recording as a source, to any destination.
//!
//! One thread for each connection that sends, one that reads. Bytes go to the socket from the
//! file's mapping, in large pieces, and this process looks at none of them. (sendfile(2) costs more
//! here: docs/performance.md.) Nothing goes out before the replies that had come before it when it
//! was recorded: so the return path is answered to as the source did, and main's connection stays
//! open until the destination has said what it said then.
//!
//! A destination that closes one connection early has said why, or will, by its own means: the
//! others go on as far as it takes them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use landfall_receiver::{clock::nanos, reader::process_cpu_use, run::lock};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, Shutdown, recv, send, shutdown},
};

use super::{
    Recording, RecordingError, data_name,
    lag::{Lag, Late},
    order::Event,
    pieces::{Piece, Pieces},
    replies_name,
    throttle::Throttle,
};
use crate::send::{Stop, Target};

/// How a recording is sent.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// With the times of the recording, and in its order across connections. Else as fast as the
    /// destination takes it.
    pub paced: bool,
    /// How long the destination may take for replies that the recorded one had given.
    pub reply_timeout: Duration,
    /// Ends the replay from outside.
    pub stop: Stop,
}

/// How a replay went.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Bytes sent.
    pub bytes: u64,
    /// From the first connection until the last byte was sent.
    pub elapsed: Duration,
    /// CPU time of this process, user and system.
    pub cpu: Duration,
    /// The share of the sending time in which the destination took nothing, 0 to 1.
    pub held_share: f64,
    /// How late it was, if it was paced.
    pub late: Option<Late>,
    /// The destination's replies were those of the recording, byte for byte.
    pub same_replies: bool,
    /// The connection that the destination closed before all was sent on it, if there is one.
    pub cut: Option<usize>,
}

impl Replayed {
    /// True if the replay was slower than it should have been, by its own doing: the destination
    /// hardly ever kept it waiting, so it could have taken more than was sent, and its figures are
    /// not its limit; or, if paced, it was late and nobody had kept it.
    #[must_use]
    pub fn was_the_bottleneck(&self) -> bool {
        self.late.map_or(self.held_share < HELD_SHARE_MIN, |late| late.own_max > OWN_LAG_MAX)
    }
}

/// Reads the whole recording once, so that the disk is not what is measured.
///
/// # Errors
/// A file that cannot be read.
pub fn warm(recording: &Recording) -> Result<(), RecordingError> {
    for (index, data) in recording.data.iter().enumerate() {
        let path = recording.directory.join(data_name(index));
        data.read().map_err(|error| RecordingError::File { path, error })?;
    }
    Ok(())
}

/// Sends `recording` to `target`.
///
/// # Errors
/// A destination that cannot be reached or does not answer as the recorded one did, or a file that
/// cannot be read.
pub fn replay(
    recording: &Recording,
    target: &Target,
    options: &ReplayOptions,
) -> Result<Replayed, RecordingError> {
    let cpu_before = process_cpu_use();
    let stage = Stage::new(recording, options);
    let stage = &stage;
    thread::scope(|scope| {
        let opened = recording.order().iter().enumerate();
        let mut opening = true;
        for (index, entry) in opened.filter(|(_, entry)| entry.event == Event::Opened) {
            let channel = entry.channel as usize;
            opening = opening && stage.may_open(channel, index, entry.at_ns);
            if !opening {
                stage.leave(channel);
                continue;
            }
            match Channel::open(channel, target, stage) {
                Ok(one) => {
                    let one = Arc::new(one);
                    let reader = Arc::clone(&one);
                    scope.spawn(move || reader.read_replies(stage));
                    scope.spawn(move || one.run(stage));
                }
                Err(error) => stage.fail(error),
            }
        }
    });
    if let Some(error) = lock(&stage.error).take() {
        return Err(error);
    }
    let (sending, held) = (stage.sending_ns.load(Relaxed), stage.held_ns.load(Relaxed));
    Ok(Replayed {
        bytes: stage.bytes.load(Relaxed),
        elapsed: stage.sent_after(),
        cpu: Duration::from_nanos(process_cpu_use().since(cpu_before).total_ns()),
        held_share: if sending == 0 { 0.0 } else { held as f64 / sending as f64 },
        late: options.paced.then(|| stage.late()),
        same_replies: !stage.replies_differ.load(Relaxed) && stage.all_replies_came(),
        cut: lock(&stage.cut).map(|(channel, _)| channel),
    })
}

/// What the threads of one replay share.
struct Stage<'a> {
    recording: &'a Recording,
    options: &'a ReplayOptions,
    pieces: Pieces,
    throttle: Option<Throttle>,
    /// Bytes of replies by connection, and whether more can come.
    replies: Mutex<Vec<(u64, bool)>>,
    more_replies: Condvar,
    replies_differ: AtomicBool,
    begin: Instant,
    bytes: AtomicU64,
    /// When the last of them went out.
    sent_after_ns: AtomicU64,
    sending_ns: AtomicU64,
    held_ns: AtomicU64,
    late: Mutex<Late>,
    /// The first connection that the destination closed early, and when.
    cut: Mutex<Option<(usize, Instant)>>,
    error: Mutex<Option<RecordingError>>,
}

impl<'a> Stage<'a> {
    fn new(recording: &'a Recording, options: &'a ReplayOptions) -> Self {
        let channels = recording.channels().len();
        let pieces = Pieces::new(recording.order(), channels, !options.paced);
        let first = pieces.data.iter().map(|pieces| pieces.first().map(|piece| piece.index));
        Self {
            recording,
            options,
            throttle: options.paced.then(|| Throttle::new(first)),
            pieces,
            replies: Mutex::new(vec![(0, true); channels]),
            more_replies: Condvar::new(),
            replies_differ: AtomicBool::new(false),
            begin: Instant::now(),
            bytes: AtomicU64::new(0),
            sent_after_ns: AtomicU64::new(0),
            sending_ns: AtomicU64::new(0),
            held_ns: AtomicU64::new(0),
            late: Mutex::new(Late::default()),
            cut: Mutex::new(None),
            error: Mutex::new(None),
        }
    }

    fn is_over(&self) -> bool {
        self.options.stop.is_stopped() || lock(&self.error).is_some()
    }

    fn fail(&self, error: RecordingError) {
        lock(&self.error).get_or_insert(error);
        self.options.stop.shut_down_all();
        self.more_replies.notify_all();
    }

    /// Waits until connection `channel`, opened with entry `index`, may be; false if it never will.
    fn may_open(&self, channel: usize, index: usize, at_ns: u64) -> bool {
        if let Some(throttle) = &self.throttle {
            throttle.wait(channel, index, at_ns, || self.is_over());
        }
        self.replies_before(index)
    }

    /// Nothing more is sent on connection `channel`: no other waits for it.
    fn leave(&self, channel: usize) {
        if let Some(throttle) = &self.throttle {
            throttle.passed(channel, None);
        }
    }

    fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.sent_after_ns.fetch_max(nanos(self.begin.elapsed()), Relaxed);
    }

    fn sent_after(&self) -> Duration {
        Duration::from_nanos(self.sent_after_ns.load(Relaxed))
    }

    fn late(&self) -> Late {
        let mut entries = self.recording.order().iter().rev();
        let last = entries.find(|entry| matches!(entry.event, Event::Data { .. }));
        let recorded = Duration::from_nanos(last.map_or(0, |entry| entry.at_ns));
        Late { end: self.sent_after().saturating_sub(recorded), ..*lock(&self.late) }
    }

    /// Whether a destination that has closed another connection has taken nothing since `since`
    /// for so long that it never will.
    fn is_given_up(&self, since: Instant) -> bool {
        lock(&self.cut).is_some_and(|(_, cut)| cut.max(since).elapsed() > CLOSE_MAX)
    }

    /// Waits for the replies that had come before entry `index`; false if the replay is over.
    fn replies_before(&self, index: usize) -> bool {
        let before = self.pieces.replies.partition_point(|reply| reply.index < index);
        let mut replies = self.pieces.replies[..before].iter();
        replies.all(|reply| self.wait_for_replies(reply.channel, reply.sum))
    }

    fn wait_for_replies(&self, channel: usize, wanted: u64) -> bool {
        let begin = Instant::now();
        let mut replies = lock(&self.replies);
        loop {
            let (came, more) = replies[channel];
            if came >= wanted {
                return true;
            }
            if self.is_over() {
                return false;
            }
            let waited = begin.elapsed();
            if !more || waited > self.options.reply_timeout {
                drop(replies);
                // A destination that has closed main has said why, or will, by its own means.
                if lock(&self.cut).is_none() {
                    let seconds = waited.as_secs();
                    self.fail(RecordingError::NoReply { channel, came, wanted, seconds });
                }
                return false;
            }
            let wait = self.more_replies.wait_timeout(replies, TICK);
            replies = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn all_replies_came(&self) -> bool {
        let replies = lock(&self.replies);
        let wanted = self.recording.channels().iter().map(|channel| channel.reply_bytes);
        replies.iter().map(|&(came, _)| came).eq(wanted)
    }
}

/// One connection.
struct Channel {
    index: usize,
    socket: Arc<OwnedFd>,
    replies: Vec<u8>,
    /// Since when nothing more is sent here.
    done: OnceLock<Instant>,
}

impl Channel {
    fn open(index: usize, target: &Target, stage: &Stage<'_>) -> Result<Self, RecordingError> {
        let failed = |error| RecordingError::Connection { channel: index, error };
        let socket = Arc::new(target.connect().map_err(failed)?);
        stage.options.stop.watch(&socket);
        let flags = fcntl(&socket, FcntlArg::F_GETFL).map_err(|error| failed(error.into()))?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&socket, FcntlArg::F_SETFL(flags)).map_err(|error| failed(error.into()))?;
        let path = stage.recording.directory.join(replies_name(index));
        let replies = std::fs::read(&path).map_err(|error| RecordingError::File { path, error })?;
        Ok(Self { index, socket, replies, done: OnceLock::new() })
    }

    /// Sends what can be sent. However that ends, no other connection waits for this one
    /// afterwards, and the destination has only so long to close it.
    fn run(&self, stage: &Stage<'_>) {
        if let Err(error) = self.send(stage) {
            stage.fail(error);
        }
        stage.leave(self.index);
        let _ = self.done.set(Instant::now());
    }

    /// Sends what the source sent, and closes when it did.
    fn send(&self, stage: &Stage<'_>) -> Result<(), RecordingError> {
        if !self.send_pieces(stage)? {
            return Ok(());
        }
        let order = stage.recording.order();
        let closed = order.iter().position(|entry| {
            entry.channel as usize == self.index && entry.event == Event::SourceClosed
        });
        if stage.replies_before(closed.unwrap_or(order.len())) {
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        }
        Ok(())
    }

    /// Sends all pieces; false if the destination does not take or not answer them all.
    fn send_pieces(&self, stage: &Stage<'_>) -> Result<bool, RecordingError> {
        let pieces = &stage.pieces.data[self.index];
        let mut lag = Lag::default();
        let mut at = 0;
        for (place, &Piece { index, at_ns, bytes }) in pieces.iter().enumerate() {
            let asked = Instant::now();
            if !stage.replies_before(index) {
                return Ok(false);
            }
            if let Some(throttle) = &stage.throttle {
                // Before its time it would have waited anyway.
                lag.waited(asked.elapsed().min(throttle.late(at_ns)));
                lag.waited(throttle.wait(self.index, index, at_ns, || stage.is_over()));
                lag.starts(throttle.late(at_ns));
                lag.add_to(&mut lock(&stage.late));
            }
            let (begin, mut held) = (Instant::now(), Duration::ZERO);
            let taken = self.send_bytes(&mut at, bytes, &mut held, stage);
            stage.sending_ns.fetch_add(nanos(begin.elapsed()), Relaxed);
            stage.held_ns.fetch_add(nanos(held), Relaxed);
            lag.waited(held);
            if !taken? {
                return Ok(false);
            }
            if let Some(throttle) = &stage.throttle {
                throttle.passed(self.index, pieces.get(place + 1).map(|piece| piece.index));
            }
        }
        Ok(true)
    }

    /// Sends `bytes` from `at` on; false if the destination takes no more. `held` grows by the time
    /// in which it took nothing.
    fn send_bytes(
        &self,
        at: &mut usize,
        bytes: u64,
        held: &mut Duration,
        stage: &Stage<'_>,
    ) -> Result<bool, RecordingError> {
        let mut taken = Instant::now();
        let mut left = bytes;
        let data = stage.recording.data[self.index].bytes();
        while left > 0 && !stage.is_over() {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(SEND_MAX);
            // Shorter than the order says: somebody has changed the file.
            let shortened = || {
                let path = stage.recording.directory.join(data_name(self.index));
                RecordingError::File { path, error: io::ErrorKind::UnexpectedEof.into() }
            };
            let piece = data.get(*at..).and_then(|data| data.get(..most)).ok_or_else(shortened)?;
            match send(self.socket.as_raw_fd(), piece, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EFAULT) => return Err(shortened()),
                Ok(sent) => {
                    left -= sent as u64;
                    *at += sent;
                    stage.sent(sent);
                    taken = Instant::now();
                }
                Err(Errno::EAGAIN) if stage.is_given_up(taken) => {
                    let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
                    return Ok(false);
                }
                Err(Errno::EAGAIN) => {
                    if let Some(throttle) = &stage.throttle {
                        throttle.held(self.index);
                    }
                    let wait = Instant::now();
                    let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::from(TICK_MS));
                    *held += wait.elapsed();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {
                    lock(&stage.cut).get_or_insert((self.index, Instant::now()));
                    stage.more_replies.notify_all();
                    return Ok(false);
                }
                Err(error) => {
                    let channel = self.index;
                    return Err(RecordingError::Connection { channel, error: error.into() });
                }
            }
        }
        Ok(left == 0)
    }

    /// Reads what the destination says until it says no more.
    fn read_replies(&self, stage: &Stage<'_>) {
        let mut piece = [0; 4096];
        let mut came = 0usize;
        let is_late = || self.done.get().is_some_and(|since| since.elapsed() > CLOSE_MAX);
        while !stage.is_over() && !is_late() {
            match recv(self.socket.as_raw_fd(), &mut piece, MsgFlags::empty()) {
                Ok(0) => break,
                Ok(bytes) => {
                    let recorded = self.replies.get(came..came + bytes);
                    if recorded != Some(&piece[..bytes]) {
                        stage.replies_differ.store(true, Relaxed);
                    }
                    came += bytes;
                    lock(&stage.replies)[self.index].0 = came as u64;
                    stage.more_replies.notify_all();
                }
                Err(Errno::EAGAIN) => {
                    let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut fds, PollTimeout::from(TICK_MS));
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        lock(&stage.replies)[self.index].1 = false;
        stage.more_replies.notify_all();
    }
}

/// Under this share of waiting the replay was what limited the run.
const HELD_SHARE_MIN: f64 = 0.1;
/// Over this delay of its own a paced replay was: a scheduler with other work makes less.
const OWN_LAG_MAX: Duration = Duration::from_millis(100);
/// Bytes for one send(2): small enough for the counters to be of the present.
const SEND_MAX: usize = 4 << 20;
/// How long a destination may leave a connection open on which nothing more is sent, or, when it
/// has closed another one, take nothing.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How often a wait looks around.
const TICK: Duration = Duration::from_millis(TICK_MS as u64);
const TICK_MS: u16 = 20;
