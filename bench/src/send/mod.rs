//! The source on sockets: main first, then the channels, every step in its order.
//!
//! The caller's thread goes through the script. It writes main itself and passes each channel's
//! steps to the thread that serves the channel. Steps are passed on in the order in which a source
//! issues them, and every thread keeps that order, so a destination that holds a channel back at a
//! sync point only ever waits for bytes that were written before: however few threads there are,
//! they cannot block each other for good.

mod channels;
mod fault;
mod main_stream;
mod opened;
mod pace;
mod progress;
mod queue;
mod return_path;
mod run;
mod socket;
mod stop;
mod target;
mod tls;
mod zero_copy;

pub use fault::{Cut, Fault};
pub use progress::Progress;
pub use stop::Stop;
pub use target::{NOT_MULTI_CHANNEL, Target, TargetError};
pub use tls::{ClientTls, TlsVersion};
pub use zero_copy::ZeroCopyUse;

use std::{
    fmt, io, thread,
    time::{Duration, Instant},
};

use self::{
    channels::Queues,
    main_stream::MainStream,
    opened::{Opened, Running},
    return_path::Asked,
    run::Run,
    socket::Socket,
};
use crate::{message::Message, plan::Plan, script::Stream};

/// How a plan is sent.
#[derive(Clone, Debug, Default)]
pub struct SendOptions {
    /// The most bytes per second over all streams, compressed pages counted before compression;
    /// `None` is as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// How many threads serve the channels; `None` is one for each up to 16. With faults it is one
    /// for each channel, so that none holds up another.
    pub threads: Option<usize>,
    /// How long the destination may take for SHUT or SWITCHOVER_ACK; `None` is for ever, as a
    /// source waits.
    pub reply_timeout: Option<Duration>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Ends the run from outside.
    pub stop: Stop,
    /// Every connection is under TLS.
    pub tls: Option<ClientTls>,
    /// Pages on channels are sent without a copy, as long as the kernel makes none either. Without
    /// effect under TLS, on compressed pages, and on images.
    pub zero_copy: bool,
}

/// How a run ended and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What the destination said.
    pub replies: Replies,
    /// From the first connection to the end.
    pub elapsed: Duration,
    /// Bytes that the kernel took, over all streams.
    pub bytes: u64,
    /// What became of sends without a copy.
    pub zero_copy: ZeroCopyUse,
}

/// How a run ended for the source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The guest has moved: SHUT 0, or everything written where there is no return path.
    Completed,
    /// The destination said that it failed; the guest goes on at the source.
    Failed {
        /// The value of SHUT.
        shut: u32,
    },
    /// The destination closed the return path without SHUT; the guest goes on at the source.
    Unanswered,
    /// The destination said what no destination may say here.
    BadReply {
        /// What it said.
        reason: String,
    },
    /// A reply did not come within [`SendOptions::reply_timeout`].
    TimedOut {
        /// What was waited for.
        awaited: &'static str,
    },
    /// A connection could not be made or broke.
    ConnectionLost {
        /// Which one.
        stream: Stream,
        /// What the system said.
        error: String,
    },
    /// A file that stands for the guest's RAM could not be read.
    ImageLost {
        /// Which file, and what the system said.
        error: String,
    },
    /// [`Stop::stop`] was called.
    Stopped,
    /// A [`Fault`] killed the source.
    Killed,
}

/// For people.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed { shut } => {
                let after = "it goes on at the source";
                write!(f, "the destination refused the guest (SHUT {shut}); {after}")
            }
            Self::Unanswered => f.write_str("the destination closed without an answer"),
            Self::BadReply { reason } => {
                write!(f, "the destination sent a wrong reply: {reason}")
            }
            Self::TimedOut { awaited } => write!(f, "no {awaited} in time"),
            Self::ConnectionLost { stream, error } => write!(f, "{stream}: {error}"),
            Self::ImageLost { error } => f.write_str(error),
            Self::Stopped => f.write_str("stopped"),
            Self::Killed => f.write_str("killed by a fault that was asked for"),
        }
    }
}

/// What the destination said on main's other direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// The values of all PONGs.
    pub pongs: Vec<u32>,
    /// How many SWITCHOVER_ACKs came.
    pub switchover_acks: u32,
    /// SHUT.
    pub shut: Option<Shut>,
    /// The first wrong reply.
    pub bad: Option<String>,
    /// Main's last bytes are being written or were.
    ending_sent: bool,
}

/// The destination's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shut {
    /// 0 is success.
    pub value: u32,
    /// It came before main's last bytes were sent. With 0 that is how guests get lost: a newer source then
    /// completes without waiting.
    pub early: bool,
}

/// Sends a whole migration and waits for its outcome.
///
/// Blocks until the end; [`Stop`] ends it from another thread, and `progress` can be read
/// meanwhile.
#[must_use]
pub fn send(plan: &Plan, target: &Target, options: &SendOptions, progress: &Progress) -> Outcome {
    let start = Instant::now();
    let run = Run::new(options, progress);
    let page = plan.config().page_bytes as usize;
    let config = plan.config();
    let impossible = match target {
        _ if config.channels > 0 && !target.multi_channel() => Some(NOT_MULTI_CHANNEL),
        _ if (config.return_path || options.tls.is_some()) && !target.answers() => Some(NO_ANSWER),
        _ => None,
    };
    let main = match impossible {
        Some(why) => Err(io::Error::new(io::ErrorKind::Unsupported, why)),
        None => target.open().and_then(|Opened { fd, is_socket, command }| {
            Ok((Socket::new(Stream::Main, fd, is_socket, page, &run)?, command))
        }),
    };
    let zero_copy = match main {
        Ok((main, command)) => drive(plan, target, options, &run, main, command),
        Err(error) => {
            run.lost(Stream::Main, &error);
            ZeroCopyUse::default()
        }
    };
    let (end, replies) = run.into_end();
    let end = match end {
        _ if options.stop.is_stopped() && end != Some(End::Completed) => End::Stopped,
        Some(end) => end,
        None => unreachable!("a run that was driven has an end"),
    };
    Outcome { end, replies, elapsed: start.elapsed(), bytes: progress.bytes(), zero_copy }
}

fn drive(
    plan: &Plan,
    target: &Target,
    options: &SendOptions,
    run: &Run<'_>,
    main: Socket,
    command: Option<Running>,
) -> ZeroCopyUse {
    let channels = usize::from(plan.config().channels);
    let threads = match options.threads {
        _ if !options.faults.is_empty() => channels,
        Some(threads) => threads.clamp(1, channels.max(1)),
        None => channels.min(THREADS),
    };
    thread::scope(|scope| {
        let (queues, receivers) = Queues::new(if channels == 0 { 0 } else { threads });
        let serving: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(index, steps)| {
                thread::Builder::new()
                    .name(format!("send-{index}"))
                    .spawn_scoped(scope, move || channels::serve(&steps, plan, target, run))
                    .expect("a thread for the channels")
            })
            .collect();
        let config = plan.config();
        let asked =
            Asked { return_path: config.return_path, switchover_ack: config.switchover_ack };
        if let Some(reader) = main.reader() {
            thread::Builder::new()
                .name("send-replies".to_owned())
                .spawn_scoped(scope, move || {
                    return_path::read(&reader, &config.form, asked, run);
                })
                .expect("a thread for the return path");
        }
        let mut main_stream = MainStream {
            plan,
            encoder: plan.encoder(),
            options,
            run,
            target,
            main,
            command,
            message: Message::new(),
        };
        main_stream.send_all(queues);
        // The queues are closed: every thread ends once its last step is written.
        let mut sockets: Vec<Socket> = serving
            .into_iter()
            .flat_map(|thread| thread.join().expect("a channel's thread panicked"))
            .collect();
        main_stream.conclude();
        if config.form.tls_goodbye {
            sockets.iter_mut().for_each(Socket::say_goodbye);
        }
        // Only now may the connections close, as a source closes them: at its end. Shutting them
        // down also wakes the reader of replies.
        options.stop.shut_down_all();
        sockets
            .iter_mut()
            .map(Socket::zero_copy_use)
            .fold(ZeroCopyUse::default(), ZeroCopyUse::plus)
    })
}

/// Threads for the channels unless told otherwise: more do not send faster, and each has a buffer
/// of one packet.
const THREADS: usize = 16;
/// Why neither can be where nobody answers.
pub const NO_ANSWER: &str =
    "return path and TLS need an answer, which a file, a pipe or a command cannot give";
