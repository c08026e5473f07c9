//! Who is here: waiting for main, then for its channels, then giving each to a
//! reader.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};

use super::ciphertext;
use crate::channel::ChannelId;
use crate::clock::{NS_PER_MS, NS_PER_S, now_ns, seconds};
use crate::door::Connection;
use crate::error::{Family, RunError};
use crate::hung_up::has_hung_up;
use crate::reader::{Attach, Discard, Order, Reader};
use crate::run::{ChannelStats, Run};
use crate::stats::{ChannelCounters, ChannelPhase, Counter};
use crate::tcp_info::is_tcp;
use crate::wire::{INIT_BYTES, PageBytes};

/// How many channels there will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelCount {
    /// So many; 0 is a migration without multifd.
    Configured(u8),
    /// As many as have come when main's first sync point is there.
    Derived,
}

/// Waits until `run` is told to look again, at most `timeout_ms`.
///
/// # Errors
/// The run's own error, once it has one.
pub(super) fn wait(run: &Run, timeout_ms: u16) -> Result<(), RunError> {
    let wake = run.main_wake().fd();
    let mut fds = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    // EINTR is as good as a wake-up.
    let _ = poll(&mut fds, PollTimeout::from(timeout_ms));
    run.main_wake().clear();
    check(run)
}

/// The run's error, if it has one.
pub(super) fn check(run: &Run) -> Result<(), RunError> {
    match run.error() {
        Some(error) => Err(error.clone()),
        None if run.is_stopping() => Err(RunError::stopped()),
        None => Ok(()),
    }
}

/// Waits for the main stream.
///
/// # Errors
/// The run's own. Environment: it is under TLS, and there is no staging memory.
pub(super) fn main_stream(run: &Run) -> Result<Connection, RunError> {
    loop {
        if let Some(mut connection) = run.arrivals().take_main() {
            if let Some(stream) = &mut connection.tls {
                ciphertext::lend(stream, &run.terms.staging)?;
            }
            return Ok(connection);
        }
        wait(run, TICK_MS)?;
    }
}

/// The main stream while its channels are awaited: without it none will come.
pub(super) struct Beside<'a> {
    /// Its socket.
    pub(super) fd: BorrowedFd<'a>,
    /// The source waits for an answer, so it does not close before the end.
    pub(super) return_path_open: bool,
}

impl Beside<'_> {
    /// True if channels that are not here will not come any more. A source
    /// without a return path may have written all and closed before we got to
    /// its channels: those knock soon.
    fn has_given_up(&self, hung_up_ns: &mut Option<u64>) -> bool {
        if !has_hung_up(&self.fd) {
            return false;
        }
        let now = now_ns();
        self.return_path_open || now - *hung_up_ns.get_or_insert(now) >= LATE_NS
    }
}

/// Waits for `count` channels.
///
/// # Errors
/// Misbehaved: they do not come within `stall_ns` or before main has gone, or
/// ids that cannot be.
pub(super) fn configured(
    run: &Run,
    main: &Beside<'_>,
    count: u8,
    stall_ns: u64,
) -> Result<Vec<Connection>, RunError> {
    let since_ns = now_ns();
    let mut hung_up_ns = None;
    run.arrivals().await_channels(usize::from(count));
    loop {
        let decided = run.arrivals().decide(usize::from(count))?;
        if let Some(ours) = ours(run, decided) {
            return Ok(ours);
        }
        let here = run.arrivals().waiting().count();
        if main.has_given_up(&mut hung_up_ns) {
            let text = format!(
                "main stream: closed by the source when {here} of {count} multifd channels had \
                 connected"
            );
            return Err(RunError::new(Family::Misbehaved, text));
        }
        if now_ns() - since_ns > stall_ns {
            let text = format!(
                "{here} of {count} multifd channels connected after {} s: set multifd-channels to \
                 the source's value",
                seconds(stall_ns)
            );
            return Err(RunError::new(Family::Misbehaved, text));
        }
        wait(run, TICK_MS)?;
    }
}

/// Waits until the ids that have come are whole and nobody knocks any more.
///
/// `multifd` tells that there should be channels (main had a FLUSH). A source that has some
/// writes its FLUSH when all of them have sent Init and SYNC, so these are on their way; one of
/// 8.1.0 to 8.1.2 without multifd writes it too (`migration/ram.c`, `ram_save_setup`; mended in
/// 8.1.3). So where nobody has come after a while it counts no more, and at the end
/// [`super::rounds::Rounds::check_end`] looks once again.
///
/// # Errors
/// Misbehaved: an id is missing for `stall_ns`, or main has gone.
pub(super) fn derived(
    run: &Run,
    main: &Beside<'_>,
    multifd: bool,
    stall_ns: u64,
) -> Result<Vec<Connection>, RunError> {
    let since_ns = now_ns();
    let mut hung_up_ns = None;
    loop {
        if is_quiet(run, since_ns) {
            let awaited = multifd && now_ns() - since_ns < ALONE_NS;
            let decided = run.arrivals().derive(awaited)?;
            if let Some(ours) = ours(run, decided) {
                return Ok(ours);
            }
        }
        let (contiguous, here) = {
            let arrivals = run.arrivals();
            (arrivals.contiguous(), arrivals.waiting().count())
        };
        // Without a return path main may be whole although it is closed, if nobody belongs to it.
        let must_stay = here > 0 || (multifd && main.return_path_open);
        if must_stay && main.has_given_up(&mut hung_up_ns) {
            let text = format!(
                "main stream: closed by the source before multifd channel {contiguous} came, \
                 {here} channels connected"
            );
            return Err(RunError::new(Family::Misbehaved, text));
        }
        if now_ns() - since_ns > stall_ns {
            let text = format!(
                "multifd channel {contiguous} is missing after {} s, {here} channels connected",
                seconds(stall_ns)
            );
            return Err(RunError::new(Family::Misbehaved, text));
        }
        wait(run, QUIET_POLL_MS)?;
    }
}

/// True if none of the run's channels has come for a while, and nobody is at
/// the door who could be one. Strangers may go on knocking: after a while that
/// counts no more.
fn is_quiet(run: &Run, since_ns: u64) -> bool {
    let now = now_ns();
    let younger = |since_ns: u64, than_ns: u64| now.saturating_sub(since_ns) < than_ns;
    if younger(run.arrivals().last_ns(), QUIET_NS) {
        return false;
    }
    let at_the_door = younger(run.door_busy_ns.load(Relaxed), QUIET_NS)
        || younger(run.door_unknown_ns.load(Relaxed), LATE_NS);
    !at_the_door || !younger(since_ns, CROWD_NS)
}

/// The run's own connections; the others are refused.
fn ours(run: &Run, decided: Option<(Vec<Connection>, Vec<Connection>)>) -> Option<Vec<Connection>> {
    let (ours, strays) = decided?;
    for stray in strays {
        run.stray(&stray.peer, "its Init has another UUID than this run");
    }
    Some(ours)
}

/// The source's UUID is known from the configuration section.
///
/// # Errors
/// Misbehaved: it is not the one that this run was given.
pub(super) fn uuid(run: &Run, uuid: uuid::Uuid) -> Result<(), RunError> {
    let mut arrivals = run.arrivals();
    if let Some(local) = arrivals.uuid().filter(|&local| local != uuid) {
        // migration/savevm.c, vmstate_uuid_post_load.
        let text = format!(
            "main stream, configuration: UUID received is {uuid} and local is {local}: --uuid \
             names another guest"
        );
        return Err(RunError::new(Family::Misbehaved, text));
    }
    let strays = arrivals.set_uuid(uuid);
    drop(arrivals);
    for stray in strays {
        run.stray(&stray.peer, "its Init has another UUID than the configuration section");
    }
    Ok(())
}

/// Gives channel i to reader i mod R.
pub(super) fn attach(
    run: &Run,
    readers: &[Reader],
    connections: Vec<Connection>,
    page: PageBytes,
    keep: bool,
) {
    let now = now_ns();
    let stats = connections.iter().enumerate().map(|(id, connection)| {
        let counters = ChannelCounters::default();
        counters.wire_bytes.set(INIT_BYTES as u64);
        counters.last_activity_ns.set(now);
        counters.phase.set(ChannelPhase::Boundary.to_number());
        ChannelStats {
            counters,
            reader: id % readers.len(),
            peer: connection.peer.clone(),
            socket: Arc::downgrade(&connection.fd),
            tcp: Mutex::new(Vec::new()),
            moved_ns: Counter::default(),
        }
    });
    run.set_channels(stats.collect());
    for (id, connection) in connections.into_iter().enumerate() {
        let discard = match (keep, is_tcp(&connection.fd)) {
            (true, _) => None,
            (false, true) => Some(Discard::Truncate),
            (false, false) => Some(Discard::Scratch),
        };
        let id8 = u8::try_from(id).expect("at most 255 channels");
        let Connection { fd: socket, tls, first, .. } = connection;
        let attach = Attach { id: ChannelId(id8), socket, page, discard, tls, first };
        readers[id % readers.len()].queue(Order::Attach(attach));
    }
    // Once for all: a reader on this CPU would run, and sleep again, for each.
    run.wake_readers();
}

/// How often a wait looks around, milliseconds.
const TICK_MS: u16 = 100;
const QUIET_POLL_MS: u16 = 20;
/// Nobody has knocked for this long: everybody is here.
const QUIET_NS: u64 = 200 * NS_PER_MS;
/// A channel's Init that was lost on its way is sent again within this time
/// (TCP's first two retransmissions).
const LATE_NS: u64 = NS_PER_S;
/// However many strangers come and go: those who belong here are here by then.
const CROWD_NS: u64 = 2 * NS_PER_S;
/// A FLUSH speaks for channels, and nobody is here: more than TCP's first four retransmissions take.
const ALONE_NS: u64 = 4 * NS_PER_S;
