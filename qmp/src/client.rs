//! What goes out to one client: a bounded queue between those who answer and the thread that writes.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::wake::Waker;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Greeted; nothing but `qmp_capabilities` is understood, and no event is sent.
    Negotiating,
    /// Negotiated. One command at a time.
    Open {
        /// Was `oob` enabled? Then commands queue, and out-of-band ones overtake.
        oob: bool,
    },
}

/// One client from greeting to disconnect.
///
/// Lines are added by dispatcher, reader and event senders, never blocking, and taken by the one
/// thread that owns the connection. What bounds the queue: no command is begun while it is full
/// ([`OUTPUT_BYTES_MAX`]), so it exceeds that by at most the replies in flight and the events; and a
/// client that has so many events waiting that there is no room for the next
/// ([`EVENT_BYTES_MAX`]) is disconnected, because it could not tell that one is missing. Replies do
/// not count there: whoever asks for much may read it slowly.
#[derive(Debug)]
pub(crate) struct Client {
    output: Mutex<Output>,
    changed: Condvar,
    waker: Option<Waker>,
    passed: Mutex<Vec<OwnedFd>>,
}

#[derive(Debug)]
struct Output {
    mode: Mode,
    /// Lines nobody has taken yet.
    waiting: Vec<u8>,
    /// Bytes ever added, and bytes ever handed to the kernel.
    added_bytes: u64,
    sent_bytes: u64,
    /// Events that the kernel has not taken whole, in order.
    events: VecDeque<Event>,
    /// Their bytes together.
    event_bytes: u64,
    /// The client hears nothing any more, though it may have said something we have yet to read.
    deaf: bool,
    closed: bool,
}

/// A line in the queue that nobody asked for.
#[derive(Debug)]
struct Event {
    /// [`Output::added_bytes`] behind it.
    end: u64,
    bytes: u64,
}

impl Client {
    /// A client that has not been greeted. `waker` is told whenever there is something to send.
    pub(crate) fn new(waker: Option<Waker>) -> Self {
        Self {
            output: Mutex::new(Output {
                mode: Mode::Negotiating,
                waiting: Vec::new(),
                added_bytes: 0,
                sent_bytes: 0,
                events: VecDeque::new(),
                event_bytes: 0,
                deaf: false,
                closed: false,
            }),
            changed: Condvar::new(),
            waker,
            passed: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.lock().mode
    }

    /// Adds a greeting or a reply, and with it enters a new mode: an event comes after the reply that
    /// allows events.
    pub(crate) fn reply(&self, line: &[u8], enters: Option<Mode>) {
        let mut output = self.lock();
        output.add(line);
        if let Some(mode) = enters {
            output.mode = mode;
        }
        drop(output);
        self.wake();
    }

    /// Adds an event, unless the client has not negotiated yet.
    pub(crate) fn event(&self, line: &[u8]) {
        let mut output = self.lock();
        if output.mode == Mode::Negotiating || output.closed {
            return;
        }
        let full = output.event_bytes >= EVENT_BYTES_MAX;
        if full {
            output.close();
        } else {
            output.add_event(line);
        }
        drop(output);
        if full {
            self.changed.notify_all();
            tracing::warn!("QMP client disconnected: it does not read its events");
        }
        self.wake();
    }

    /// Takes all waiting lines into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<u8>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut self.lock().waiting, into);
    }

    /// Records that the kernel has taken `bytes`.
    pub(crate) fn sent(&self, bytes: usize) {
        let mut output = self.lock();
        output.sent_bytes += bytes as u64;
        assert!(output.sent_bytes <= output.added_bytes, "sent more than was said");
        output.forget_sent_events();
        drop(output);
        self.changed.notify_all();
    }

    /// Drops what is unsent and all that will be said, but goes on running what the client has sent.
    pub(crate) fn deafen(&self) {
        let mut output = self.lock();
        output.deaf = true;
        output.waiting = Vec::new();
        output.sent_bytes = output.added_bytes;
        output.forget_sent_events();
        drop(output);
        self.changed.notify_all();
    }

    /// Is there anything the kernel has not taken?
    pub(crate) fn has_unsent(&self) -> bool {
        self.lock().unsent() > 0
    }

    /// Does so much wait that no further command may be begun?
    pub(crate) fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends the session: nothing more is sent, nobody waits any longer.
    pub(crate) fn close(&self) {
        self.lock().close();
        self.passed().clear();
        self.changed.notify_all();
        self.wake();
    }

    /// Waits until a command may be begun; `false` if the client is gone.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut output = self.lock();
        while output.is_full() && !output.closed {
            let woken = self.changed.wait(output);
            output = woken.unwrap_or_else(PoisonError::into_inner);
        }
        !output.closed
    }

    /// Waits until everything said so far has been sent, the client is gone or `limit` has passed.
    pub(crate) fn wait_until_sent(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut output = self.lock();
        let target = output.added_bytes;
        while output.sent_bytes < target && !output.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(output, left);
            output = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The descriptors that came last and that nobody has claimed.
    pub(crate) fn passed(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn add(&mut self, line: &[u8]) {
        if !self.closed && !self.deaf {
            self.waiting.extend_from_slice(line);
            self.added_bytes += line.len() as u64;
        }
    }

    fn add_event(&mut self, line: &[u8]) {
        let before = self.added_bytes;
        self.add(line);
        let bytes = self.added_bytes - before;
        if bytes > 0 {
            self.events.push_back(Event { end: self.added_bytes, bytes });
            self.event_bytes += bytes;
        }
    }

    fn forget_sent_events(&mut self) {
        while let Some(event) = self.events.front().filter(|event| event.end <= self.sent_bytes) {
            self.event_bytes -= event.bytes;
            self.events.pop_front();
        }
    }

    fn unsent(&self) -> u64 {
        self.added_bytes - self.sent_bytes
    }

    fn is_full(&self) -> bool {
        self.unsent() >= OUTPUT_BYTES_MAX
    }

    fn close(&mut self) {
        self.closed = true;
        self.waiting = Vec::new();
    }
}

/// Bytes waiting for a client, replies and events, beyond which it is not served.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// Bytes of events waiting for a client beyond which it is disconnected: some 2000 events, while a
/// migration makes a handful.
const EVENT_BYTES_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(client: &Client) -> String {
        let mut bytes = Vec::new();
        client.take(&mut bytes);
        client.sent(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn events_wait_for_the_negotiation_and_come_after_its_reply() {
        let client = Client::new(None);
        client.event(b"lost ");
        client.reply(b"reply ", Some(Mode::Open { oob: false }));
        client.event(b"event");
        assert_eq!(taken(&client), "reply event");
    }

    #[test]
    fn a_client_that_reads_nothing_is_closed_by_the_event_that_finds_no_room() {
        let client = Client::new(None);
        client.reply(b"", Some(Mode::Open { oob: false }));
        let line = vec![b'x'; 1000];
        let mut events = 0;
        while !client.is_closed() {
            client.event(&line);
            events += 1;
        }
        assert_eq!(events, EVENT_BYTES_MAX.div_ceil(1000) + 1);
        assert_eq!(taken(&client), "");
        assert!(!client.wait_for_room());
        client.wait_until_sent(Duration::from_secs(60));
    }

    #[test]
    fn a_reply_that_is_read_slowly_leaves_events_all_their_room() {
        let client = Client::new(None);
        client.reply(&vec![b'x'; 4 * OUTPUT_BYTES_MAX as usize], Some(Mode::Open { oob: false }));
        assert!(client.is_full(), "for commands");
        let line = vec![b'x'; EVENT_BYTES_MAX as usize / 4];
        for _ in 0..4 {
            client.event(&line);
        }
        assert!(!client.is_closed());
        // All but the end of the last event: the first three make room, the last does not yet.
        let mut bytes = Vec::new();
        client.take(&mut bytes);
        client.sent(bytes.len() - 1);
        client.event(&line);
        client.event(&line);
        client.event(&line);
        assert!(!client.is_closed());
        client.event(&line);
        assert!(client.is_closed());
    }

    #[test]
    fn a_deaf_client_is_served_but_not_answered() {
        let client = Client::new(None);
        client.reply(&vec![b'x'; OUTPUT_BYTES_MAX as usize], None);
        client.deafen();
        assert!(client.wait_for_room());
        client.reply(b"unheard", None);
        assert!(!client.has_unsent());
        assert_eq!(taken(&client), "");
    }

    #[test]
    fn sending_makes_room() {
        let client = Client::new(None);
        client.reply(&vec![b'x'; OUTPUT_BYTES_MAX as usize], None);
        assert!(client.is_full());
        assert!(client.has_unsent());
        taken(&client);
        assert!(client.wait_for_room());
        assert!(!client.has_unsent());
    }
}
