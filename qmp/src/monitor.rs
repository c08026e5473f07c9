//! One monitor at work: the thread that owns its connection, and its dispatcher.

use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    EventSender, connection::Connection, dialogue::Dialogue, inbox::Inbox, link::Link,
    listener::Listener, wake::Waker,
};

/// What the two threads of a monitor and the server share.
pub(crate) struct Monitor {
    pub(crate) dialogue: Dialogue,
    pub(crate) inbox: Inbox,
    pub(crate) events: EventSender,
    pub(crate) waker: Waker,
    stopping: AtomicBool,
    had_client: Mutex<bool>,
    client_came: Condvar,
}

/// Where a monitor's clients come from.
pub(crate) enum Source {
    /// One connection, and then none.
    Once(Link),
    /// One client at a time from any of these.
    Listeners(Vec<Listener>),
}

impl Monitor {
    pub(crate) fn new(dialogue: Dialogue, events: EventSender) -> io::Result<Self> {
        Ok(Self {
            dialogue,
            inbox: Inbox::default(),
            events,
            waker: Waker::new()?,
            stopping: AtomicBool::new(false),
            had_client: Mutex::new(false),
            client_came: Condvar::new(),
        })
    }

    /// The connection thread: serves one client after another until told to stop.
    pub(crate) fn serve(self: &Arc<Self>, source: Source) {
        let _end = StopOnDrop(self);
        match source {
            Source::Once(link) => self.talk(link),
            Source::Listeners(listeners) => {
                while let Some(link) = self.next_client(&listeners) {
                    self.talk(link);
                }
            }
        }
    }

    /// The dispatcher thread: answers one message after another until told to stop.
    pub(crate) fn dispatch(&self) {
        let _end = StopOnDrop(self);
        while let Some(job) = self.inbox.take() {
            if job.client.wait_for_room() {
                let answered = self.dialogue.answer(&job.client, job.message.value, job.passed);
                if !answered.is_empty() {
                    job.client.wait_until_sent(AFTER_REPLY_LIMIT);
                }
                for action in answered {
                    action();
                }
            }
            self.inbox.done();
            self.waker.wake();
        }
    }

    /// Tells both threads to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.inbox.stop();
        self.waker.wake();
        self.client_came.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the first client has connected, until `deadline` if there is one.
    pub(crate) fn wait_for_client(&self, deadline: Option<Instant>) -> bool {
        let lock = self.had_client.lock();
        let mut had_client = lock.unwrap_or_else(PoisonError::into_inner);
        while !*had_client && !self.is_stopping() {
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                break;
            }
            // Woken at intervals, so that a stop between the check and the wait is seen.
            let woken = self.client_came.wait_timeout(had_client, left.min(TICK));
            had_client = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *had_client
    }

    fn talk(self: &Arc<Self>, link: Link) {
        let connection = Connection::open(Arc::clone(self), link);
        let lock = self.had_client.lock();
        *lock.unwrap_or_else(PoisonError::into_inner) = true;
        self.client_came.notify_all();
        connection.run();
    }

    /// Waits for a client; `None` when stopping.
    fn next_client(&self, listeners: &[Listener]) -> Option<Link> {
        while !self.is_stopping() {
            self.waker.clear();
            for listener in listeners {
                match listener.accept() {
                    Ok(link) => return Some(link),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        tracing::warn!("{}: accept: {error}", listener.bound());
                        // Out of descriptors, say: try again, but not at once.
                        self.poll_waker(TICK);
                    }
                }
            }
            // Looked at again: clear() above may have swallowed the call to stop.
            if self.is_stopping() {
                return None;
            }
            let mut fds = vec![PollFd::from_borrowed_fd(self.waker.as_fd(), PollFlags::IN)];
            fds.extend(
                listeners
                    .iter()
                    .map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)),
            );
            // An interrupted wait is as good as a finished one.
            let _ = poll(&mut fds, None);
        }
        None
    }

    fn poll_waker(&self, limit: Duration) {
        let mut fds = [PollFd::from_borrowed_fd(self.waker.as_fd(), PollFlags::IN)];
        let limit = Timespec::try_from(limit).ok();
        let _ = poll(&mut fds, limit.as_ref());
    }
}

/// Whatever ends one thread ends the other, even a panic in the handler: better a connection that
/// breaks than one that never answers.
struct StopOnDrop<'a>(&'a Monitor);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// How long an action waits for the reply before it to be sent.
pub(crate) const AFTER_REPLY_LIMIT: Duration = Duration::from_secs(2);

/// How soon a wait that may have missed its wake-up looks again.
const TICK: Duration = Duration::from_millis(100);
