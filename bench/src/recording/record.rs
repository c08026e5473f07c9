//! The recorder: a proxy between a source and a destination that keeps what passes through.
//!
//! Bytes from the source are received straight into the mapping of their file and sent on from
//! there. An entry of the order is made when bytes have come, before they are sent on: what the
//! destination answers to them stands behind them.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use landfall_receiver::{clock::nanos, listen::Listeners, run::lock};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, Shutdown, recv, send, shutdown},
};

use super::{
    ChannelKind, DESCRIPTION, ORDER, RecordedChannel, RecordingError, data_name, description,
    order::{Entry, Event},
    replies_name,
    store::Store,
};
use crate::send::{Stop, Target};

/// How a recording is made.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// Bytes that one connection may send.
    pub max_bytes: u64,
    /// Ends the recording from outside.
    pub stop: Stop,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The connections in the order in which they were made.
    pub channels: Vec<RecordedChannel>,
    /// From the first connection to the end of the last.
    pub duration: Duration,
    /// Both ends closed every connection, and the destination took all that the source had sent.
    /// Whether it was content with it only the two know.
    pub complete: bool,
    /// What cut the migration off first, if it was not stopped from outside.
    pub cut: Option<Cut>,
}

/// An end that left before the other was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The source reset a connection: what it had not sent yet is lost.
    #[error("the source reset connection {channel}")]
    Source {
        /// Counted from 0 in the order in which they were made.
        channel: usize,
    },
    /// The destination closed or reset a connection, and did not take all.
    #[error("the destination closed connection {channel} before it had taken all")]
    Destination {
        /// Counted from 0 in the order in which they were made.
        channel: usize,
    },
}

/// Records one migration that comes to `listeners` and goes on to `target`; ends when all its
/// connections have.
///
/// # Errors
/// `directory` exists and is not empty, TLS, a full disk, a destination that cannot be reached.
/// What was recorded until then stays there, without a description.
pub fn record(
    mut listeners: Listeners,
    target: &Target,
    directory: &Path,
    options: &RecordOptions,
) -> Result<Recorded, RecordingError> {
    let tape = Tape::create(directory, options)?;
    let tape = &tape;
    let stores = thread::scope(|scope| {
        let mut carriers: Vec<[ScopedJoinHandle<'_, Store>; 2]> = Vec::new();
        let is_over = |carriers: &[[ScopedJoinHandle<'_, Store>; 2]]| {
            tape.main_seen.load(Relaxed)
                && carriers.iter().flatten().all(ScopedJoinHandle::is_finished)
        };
        while !tape.failed() && !options.stop.is_stopped() && !is_over(&carriers) {
            let begun = next(&mut listeners)
                .map_err(|error| connection_error(carriers.len(), error))
                .and_then(|source| {
                    source.map(|source| begin(carriers.len(), source, target, tape)).transpose()
                });
            match begun {
                Ok(Some(ways)) => {
                    carriers.push(ways.map(|way| scope.spawn(move || way.carry(tape))));
                }
                Ok(None) => {}
                Err(error) => tape.fail(error),
            }
        }
        if tape.failed() || options.stop.is_stopped() {
            options.stop.shut_down_all();
        }
        let join = |carrier: ScopedJoinHandle<'_, Store>| carrier.join().expect("no way panics");
        carriers.into_iter().map(|ways| ways.map(join)).collect()
    });
    tape.finish(stores)
}

/// The next connection, if one comes soon.
fn next(listeners: &mut Listeners) -> io::Result<Option<OwnedFd>> {
    let fds = listeners.poll_fds();
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, PollTimeout::from(TICK_MS)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    drop(fds);
    let accepted = listeners.accept().map_err(io::Error::other)?;
    Ok(accepted.map(|accepted| accepted.descriptor))
}

/// What all threads write to.
struct Tape<'a> {
    directory: &'a Path,
    options: &'a RecordOptions,
    order: Mutex<BufWriter<File>>,
    begin: Mutex<Option<Instant>>,
    error: Mutex<Option<RecordingError>>,
    cut: Mutex<Option<Cut>>,
    main_seen: AtomicBool,
}

impl<'a> Tape<'a> {
    fn create(directory: &'a Path, options: &'a RecordOptions) -> Result<Self, RecordingError> {
        let failed = |error| RecordingError::File { path: directory.to_owned(), error };
        fs::create_dir_all(directory).map_err(failed)?;
        if fs::read_dir(directory).map_err(failed)?.next().is_some() {
            let directory = directory.to_owned();
            let reason = "is not empty; a recording takes a directory of its own".to_owned();
            return Err(RecordingError::Broken { directory, reason });
        }
        let path = directory.join(ORDER);
        let order = File::create(&path).map_err(|error| RecordingError::File { path, error })?;
        Ok(Self {
            directory,
            options,
            order: Mutex::new(BufWriter::new(order)),
            begin: Mutex::new(None),
            error: Mutex::new(None),
            cut: Mutex::new(None),
            main_seen: AtomicBool::new(false),
        })
    }

    fn note(&self, index: usize, event: Event) {
        // The clock is read under the lock: entries stand in the order of their times.
        let mut order = lock(&self.order);
        let begin = *lock(&self.begin).get_or_insert_with(Instant::now);
        let at_ns = nanos(begin.elapsed());
        let channel = u32::try_from(index).expect("fewer connections than descriptors");
        if let Err(error) = order.write_all(&Entry { at_ns, channel, event }.encode()) {
            drop(order);
            self.fail(RecordingError::File { path: self.directory.join(ORDER), error });
        }
    }

    /// The first error ends the recording.
    fn fail(&self, error: RecordingError) {
        lock(&self.error).get_or_insert(error);
        self.options.stop.shut_down_all();
    }

    fn failed(&self) -> bool {
        lock(&self.error).is_some()
    }

    fn cut(&self, cut: Cut) {
        lock(&self.cut).get_or_insert(cut);
    }

    fn finish(&self, stores: Vec<[Store; 2]>) -> Result<Recorded, RecordingError> {
        if let Some(error) = lock(&self.error).take() {
            return Err(error);
        }
        let stopped = self.options.stop.is_stopped();
        // A stop shuts down what was still open: that is no doing of either end.
        let cut = if stopped { None } else { *lock(&self.cut) };
        let complete = !stopped && cut.is_none();
        let begin = *lock(&self.begin);
        let duration = begin.map_or(Duration::ZERO, |begin| begin.elapsed());
        let failed = |name: &str, error| {
            let path = self.directory.join(name);
            RecordingError::File { path, error }
        };
        lock(&self.order).flush().map_err(|error| failed(ORDER, error))?;
        let mut channels = Vec::new();
        for (index, [data, replies]) in stores.into_iter().enumerate() {
            channels.push(RecordedChannel {
                kind: ChannelKind::of(data.first(4)),
                bytes: data.len(),
                reply_bytes: replies.len(),
            });
            data.finish().map_err(|error| failed(&data_name(index), error))?;
            replies.finish().map_err(|error| failed(&replies_name(index), error))?;
        }
        let duration_ns = nanos(duration);
        let text = format!("{:#}\n", description(&channels, duration_ns, complete));
        let path = self.directory.join(DESCRIPTION);
        fs::write(path, text).map_err(|error| failed(DESCRIPTION, error))?;
        Ok(Recorded { channels, duration, complete, cut })
    }
}

/// How one direction of a connection ended.
enum End {
    /// By the end that sends, which closed it.
    Closed,
    /// By the end that sends: it was killed, or had not read what came to it.
    Reset,
    /// By the other end, which takes no more.
    Refused,
}

/// One direction of one connection.
struct Way {
    index: usize,
    forward: bool,
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    store: Store,
    /// The destination has closed this connection; both its ways look here.
    left: Arc<AtomicBool>,
}

/// Both directions of a connection that `source` made.
fn begin(
    index: usize,
    source: OwnedFd,
    target: &Target,
    tape: &Tape<'_>,
) -> Result<[Way; 2], RecordingError> {
    let store = |name: String, limit| {
        let path = tape.directory.join(name);
        Store::create(&path, limit).map_err(|error| RecordingError::File { path, error })
    };
    let data = store(data_name(index), tape.options.max_bytes)?;
    let replies = store(replies_name(index), REPLIES_MAX)?;
    tape.note(index, Event::Opened);
    let destination = target.connect().map_err(|error| connection_error(index, error))?;
    let (source, destination) = (Arc::new(source), Arc::new(destination));
    tape.options.stop.watch(&source);
    tape.options.stop.watch(&destination);
    let (from, to) = (Arc::clone(&source), Arc::clone(&destination));
    let left = Arc::new(AtomicBool::new(false));
    let back = Arc::clone(&left);
    Ok([
        Way { index, forward: true, from, to, store: data, left },
        Way { index, forward: false, from: destination, to: source, store: replies, left: back },
    ])
}

impl Way {
    /// Carries bytes until no more come.
    fn carry(mut self, tape: &Tape<'_>) -> Store {
        let channel = self.index;
        match (self.forward, self.carry_all(tape)) {
            (true, Ok(End::Reset)) => tape.cut(Cut::Source { channel }),
            (true, Ok(End::Refused)) | (false, Ok(End::Reset)) => {
                tape.cut(Cut::Destination { channel });
            }
            (false, Ok(End::Closed)) => self.left.store(true, Relaxed),
            // A source that is gone may have been done without these replies.
            (true, Ok(End::Closed)) | (false, Ok(End::Refused)) => {}
            (_, Err(error)) => tape.fail(error),
        }
        let closed = if self.forward { Event::SourceClosed } else { Event::DestinationClosed };
        tape.note(self.index, closed);
        let _ = shutdown(self.to.as_raw_fd(), Shutdown::Write);
        self.store
    }

    fn carry_all(&mut self, tape: &Tape<'_>) -> Result<End, RecordingError> {
        let channel = self.index;
        let name = if self.forward { data_name } else { replies_name };
        let limit = self.store.limit();
        loop {
            let space = self.store.space(CHUNK).map_err(|error| {
                let path = tape.directory.join(name(channel));
                RecordingError::File { path, error }
            })?;
            if space.is_empty() {
                return Err(RecordingError::Full { channel, limit });
            }
            let bytes = match recv(self.from.as_raw_fd(), space, MsgFlags::empty()) {
                Ok(0) => return Ok(End::Closed),
                Err(Errno::ECONNRESET | Errno::ENOTCONN) => return Ok(End::Reset),
                Ok(bytes) => bytes,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(connection_error(channel, error.into())),
            };
            self.store.took(bytes);
            let count = bytes as u64;
            if self.forward {
                tape.note(channel, Event::Data { bytes: count });
                self.look(tape)?;
                if self.left.load(Relaxed) {
                    // The system may take these bytes still, but nobody will read them.
                    tape.cut(Cut::Destination { channel });
                }
            } else {
                tape.note(channel, Event::Reply { bytes: count });
            }
            if !send_all(&self.to, self.store.last(bytes)) {
                return Ok(End::Refused);
            }
        }
    }

    /// What the connection says it is, as soon as that can be seen.
    fn look(&self, tape: &Tape<'_>) -> Result<(), RecordingError> {
        let first = self.store.first(4);
        if first.starts_with(&TLS_HANDSHAKE) {
            return Err(RecordingError::Tls { channel: self.index });
        }
        if ChannelKind::of(first) == ChannelKind::Main {
            tape.main_seen.store(true, Relaxed);
        }
        Ok(())
    }
}

/// Sends all; false if the other end is gone.
fn send_all(to: &OwnedFd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match send(to.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn connection_error(channel: usize, error: io::Error) -> RecordingError {
    RecordingError::Connection { channel, error }
}

/// Most bytes taken at once.
const CHUNK: usize = 1 << 20;
/// A destination says a few bytes, or bitmaps.
const REPLIES_MAX: u64 = 1 << 30;
/// A TLS record of kind handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];
/// How often the recorder looks whether it is over.
const TICK_MS: u16 = 50;
