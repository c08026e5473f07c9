//! The door: accepts connections, asks each what it is, and watches for stalls.
//!
//! One thread, poll(2) and epoll(7), nothing that blocks: a silent connection holds up
//! nobody. It tells channels apart by their magic only, under TLS after a
//! handshake of their own.

mod newcomer;
mod newcomers;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::arrivals::{Arrivals, Verdict};
use crate::clock::{NS_PER_MS, NS_PER_S, nanos, now_ns};
use crate::error::{Family, RunError};
use crate::hung_up::has_hung_up;
use crate::listen::{Accepted, ListenError, Listeners, Peer, is_socket};
use crate::run::Run;
use crate::tls::{TlsServer, TlsStream};
use crate::watchdog::Watchdog;
use crate::wire::INIT_BYTES;
use newcomer::{Look, Newcomer};
use newcomers::Newcomers;

/// A connection that has said what it is.
#[derive(Debug)]
pub struct Connection {
    /// The socket, or pipe, or file.
    pub fd: Arc<OwnedFd>,
    /// Who is at the other end.
    pub peer: String,
    /// The how manieth of the run's door it is.
    pub number: u64,
    /// What has been read of it already, in the clear: all of a main stream, of
    /// a channel what stands behind its Init.
    pub first: Vec<u8>,
    /// The connection is under TLS.
    pub tls: Option<Box<TlsStream>>,
}

/// Who may connect: none given means everybody. Asked with the peer.
pub type Allow = Box<dyn Fn(&Peer) -> bool + Send>;

/// The door of one run.
pub struct Door {
    run: Arc<Run>,
    listeners: Listeners,
    allow: Option<Allow>,
    tls: Option<Arc<TlsServer>>,
    newcomers: Newcomers,
    /// Who is the next to come.
    next: u64,
    /// The run's main stream.
    main: Option<u64>,
    watchdog: Watchdog,
    handshake: Duration,
    /// The host had no descriptor left: nobody is let in until then.
    full_until_ns: u64,
}

impl Door {
    /// A door for `run`, under TLS if `tls` is given; a newcomer that has not
    /// said what it is after `handshake` is refused.
    ///
    /// # Errors
    /// Environment: no more file descriptors.
    pub fn new(
        run: Arc<Run>,
        listeners: Listeners,
        allow: Option<Allow>,
        tls: Option<Arc<TlsServer>>,
        watchdog: Watchdog,
        handshake: Duration,
    ) -> Result<Self, RunError> {
        let newcomers =
            Newcomers::none().map_err(|error| RunError::host("epoll_create1", error))?;
        Ok(Self {
            run,
            listeners,
            allow,
            tls,
            newcomers,
            next: 0,
            main: None,
            watchdog,
            handshake,
            full_until_ns: 0,
        })
    }

    /// Runs until the run is told to stop. The listeners close with it.
    pub fn run(mut self) {
        // Descriptors that were handed over do not knock.
        if let Err(error) = self.accept(now_ns()) {
            self.run.fail(error);
        }
        while !self.run.is_stopping() {
            if let Err(error) = self.turn() {
                self.run.fail(error);
            }
        }
        for newcomer in self.newcomers.iter() {
            self.run.stray(&newcomer.peer, "had not said what it is when the run ended");
        }
    }

    fn turn(&mut self) -> Result<(), RunError> {
        let wake = self.run.door_wake().fd();
        let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        let listening = self.listeners.poll_fds().len();
        let full = now_ns() < self.full_until_ns;
        let knocks = if full { PollFlags::empty() } else { PollFlags::POLLIN };
        fds.extend(self.listeners.poll_fds().iter().map(|fd| PollFd::new(*fd, knocks)));
        fds.push(PollFd::new(self.newcomers.poll_fd(), PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::from(TICK_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(RunError::host("poll", error)),
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let woken = is_ready(&fds[0]);
        let knocked = fds[1..=listening].iter().any(is_ready);
        let spoken = is_ready(&fds[1 + listening]);
        drop(fds);
        if woken {
            self.run.door_wake().clear();
        }
        let now = now_ns();
        if spoken {
            self.greet(now);
        }
        self.refuse_late(now);
        if knocked {
            self.accept(now)?;
        }
        let youngest_ns = self.newcomers.youngest().map_or(0, |newcomer| newcomer.since_ns);
        self.run.door_unknown_ns.store(youngest_ns, Relaxed);
        self.drop_left_behind(&mut self.run.arrivals());
        self.watchdog.look(&self.run, now)
    }

    fn accept(&mut self, now: u64) -> Result<(), RunError> {
        for _ in 0..ACCEPTS_PER_TURN {
            let Accepted { descriptor: fd, peer } = match self.listeners.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => break,
                Err(error) if error.is_exhaustion() => {
                    self.make_room(&error, now);
                    break;
                }
                Err(error) => return Err(RunError::host("accept", error)),
            };
            set_nonblocking(&fd)?;
            self.run.door_busy_ns.store(now, Relaxed);
            let name = peer.to_string();
            if self.allow.as_ref().is_some_and(|allow| !allow(&peer)) {
                self.turn_away(&name, "is not in --allow");
                continue;
            }
            if self.tls.is_some() && !is_socket(&fd) {
                let text = format!(
                    "{name} is no socket, and TLS needs answers: unset tls-creds on both sides"
                );
                return Err(RunError::new(Family::Unsupported, text));
            }
            let mut newcomer = Newcomer::new(fd, name, self.next, now, self.tls.as_ref())
                .map_err(|error| RunError::new(Family::Environment, error.to_string()))?;
            self.next += 1;
            // Files that were handed over cannot be waited for: they have all that comes.
            match newcomer.look() {
                Look::Wait => self.wait_for(newcomer)?,
                look => self.admit(newcomer, look, now),
            }
        }
        Ok(())
    }

    fn wait_for(&mut self, newcomer: Newcomer) -> Result<(), RunError> {
        if self.newcomers.len() >= NEWCOMERS_MAX
            && let Some(oldest) = self.newcomers.take_oldest()
        {
            self.run.stray(&oldest.peer, "is silent while others wait");
        }
        self.newcomers.add(newcomer).map_err(|error| RunError::host("epoll_ctl", error))
    }

    /// The host has no descriptor left. Strangers must not end a run that way:
    /// those who stay silent go, and for a moment nobody else comes in.
    fn make_room(&mut self, error: &ListenError, now: u64) {
        if now >= self.full_until_ns + NS_PER_S {
            tracing::warn!("{error}");
        }
        let tick_ns = u64::from(TICK_MS) * NS_PER_MS;
        while let Some(newcomer) = self.newcomers.take_older_than(now.saturating_sub(tick_ns)) {
            self.run.stray(&newcomer.peer, "is silent while the host has no descriptor left");
        }
        self.full_until_ns = now + tick_ns;
    }

    /// Looks at the newcomers that have sent something.
    fn greet(&mut self, now: u64) {
        for number in self.newcomers.ready() {
            match self.newcomers.look(number) {
                Look::Wait if self.newcomers.is_in_handshake(number) => {
                    self.run.door_busy_ns.store(now_ns(), Relaxed);
                }
                Look::Wait => {}
                look => {
                    let newcomer = self.newcomers.take(number);
                    self.admit(newcomer, look, now);
                }
            }
        }
    }

    /// Those who have waited too long go.
    fn refuse_late(&mut self, now: u64) {
        if !self.listeners.multi_channel() {
            // Its source may be started whenever it likes, as if it had to connect first.
            self.newcomers.let_wait(now);
        }
        let then_ns = now.saturating_sub(nanos(self.handshake));
        while let Some(newcomer) = self.newcomers.take_older_than(then_ns) {
            let seconds = (now - newcomer.since_ns) / NS_PER_S;
            let why = format!("{} in {seconds} s", newcomer.progress());
            self.turn_away(&newcomer.peer, &why);
        }
    }

    /// Refuses who cannot be ours. Where nobody listens nobody else can come, and the run is over.
    fn turn_away(&self, peer: &str, why: &str) {
        if self.listeners.multi_channel() {
            return self.run.stray(peer, why);
        }
        let text = format!("{peer}: {why}, and nobody else can come");
        self.run.fail(RunError::new(Family::Misbehaved, text));
    }

    /// Lets in, or not, who has said by this `look` what it is.
    fn admit(&mut self, newcomer: Newcomer, look: Look, now: u64) {
        match look {
            Look::Wait => unreachable!("it has said nothing"),
            // What was handed over: nobody else can come.
            Look::Gone(why) if !self.listeners.multi_channel() => {
                let text = format!("{} is no migration: {why}", newcomer.peer);
                self.run.fail(RunError::new(Family::Malformed, text));
            }
            Look::Gone(why) => self.run.stray(&newcomer.peer, &why),
            Look::Main => {
                tracing::info!("main stream from {}", newcomer.peer);
                let peer = newcomer.peer.clone();
                let connection = newcomer.into_connection(0);
                let number = connection.number;
                let mut arrivals = self.run.arrivals();
                let verdict = arrivals.add_main(connection, now);
                if verdict == Verdict::Ours {
                    self.main = Some(number);
                }
                self.drop_left_behind(&mut arrivals);
                drop(arrivals);
                self.judge(&peer, verdict, true);
            }
            Look::Channel(_) if !self.listeners.multi_channel() => {
                self.turn_away(&newcomer.peer, "is a multifd channel, without a main stream");
            }
            Look::Channel(init) => {
                tracing::info!("channel {} from {}", init.channel_id, newcomer.peer);
                let peer = newcomer.peer.clone();
                let connection = newcomer.into_connection(INIT_BYTES);
                if self.is_left_behind(&connection) {
                    return self.run.stray(&peer, LEFT_BEHIND);
                }
                let mut arrivals = self.run.arrivals();
                let verdict = arrivals.add_channel(init, connection, now);
                let may_be_all = arrivals.may_be_all();
                drop(arrivals);
                self.judge(&peer, verdict, may_be_all);
            }
        }
    }

    fn judge(&self, peer: &str, verdict: Verdict, concerns_main: bool) {
        match verdict {
            Verdict::Ours => {
                self.run.door_busy_ns.store(now_ns(), Relaxed);
                if concerns_main {
                    self.run.wake_main();
                }
            }
            Verdict::Stray(why) => self.run.stray(peer, &why),
            Verdict::Fatal(error) => self.run.fail(error),
        }
    }

    /// Lets go of channels that wait for their run and were left behind.
    fn drop_left_behind(&self, arrivals: &mut Arrivals<Connection>) {
        for _ in 0..arrivals.drop_channels(|connection| self.is_left_behind(connection)) {
            self.run.stray("a channel's peer", LEFT_BEHIND);
        }
    }

    /// Whether a channel is of an earlier source, and its peer has gone. A source connects main
    /// first, and a short migration may be over before main's first byte is looked at: only channels
    /// that came before main, or before all who are silent and may be main, are of no use to anybody.
    fn is_left_behind(&self, channel: &Connection) -> bool {
        let oldest = self.newcomers.oldest().map_or(u64::MAX, |newcomer| newcomer.number);
        channel.number < self.main.unwrap_or(oldest) && has_hung_up(&channel.fd)
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), RunError> {
    let host = |error| RunError::host("fcntl", error);
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(host)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).map_err(host)
}

/// Why a channel goes that was left behind.
const LEFT_BEHIND: &str = "hung up before its main stream came";
/// How often the watchdog looks, milliseconds.
const TICK_MS: u16 = 100;
/// Connections taken before others are looked at again.
const ACCEPTS_PER_TURN: usize = 256;
/// Newcomers that may be silent at once; then the oldest goes.
const NEWCOMERS_MAX: usize = 512;
