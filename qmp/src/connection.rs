//! One client's connection, driven by one thread: read, cut into messages, queue or answer, write.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    client::{Client, Mode},
    handler::AfterReply,
    inbox::Job,
    json::Stream,
    link::Link,
    monitor::{AFTER_REPLY_LIMIT, Monitor},
    request::looks_oob,
};

/// A client from accept to disconnect.
pub(crate) struct Connection {
    monitor: Arc<Monitor>,
    link: Link,
    client: Arc<Client>,
    stream: Stream,
    /// Received but not yet looked at, from `looked_at` on: nothing is read ahead of a command that
    /// may change the rules.
    input: Vec<u8>,
    looked_at: usize,
    /// Taken from the client's queue but not yet sent, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// Descriptors that came with a message that has not ended yet.
    passed: Vec<OwnedFd>,
    end_of_input: bool,
    /// The client hung up while it was not being read.
    hung_up: bool,
    /// What out-of-band commands left for after their replies, and when to wait no longer.
    after_reply: Vec<(Instant, AfterReply)>,
    /// When to give up on what is left to do after the client has gone.
    give_up: Option<Instant>,
}

impl Connection {
    /// Greets a client, which from now on gets events once it has negotiated.
    pub(crate) fn open(monitor: Arc<Monitor>, link: Link) -> Self {
        let client = Arc::new(Client::new(Some(monitor.waker.clone())));
        monitor.dialogue.greet(&client);
        monitor.events.register(&client);
        Self {
            monitor,
            link,
            client,
            stream: Stream::default(),
            input: Vec::new(),
            looked_at: 0,
            output: Vec::new(),
            sent: 0,
            passed: Vec::new(),
            end_of_input: false,
            hung_up: false,
            after_reply: Vec::new(),
            give_up: None,
        }
    }

    /// Serves the client until it goes, is thrown out, or the monitor stops.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.serve() {
            tracing::debug!("QMP client gone: {error}");
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            // Cleared before anything is looked at: whatever happens later rings again.
            self.monitor.waker.clear();
            self.process();
            self.flush();
            self.act();
            if self.monitor.is_stopping() || self.client.is_closed() || self.is_over() {
                return Ok(());
            }
            self.wait_and_read()?;
        }
    }

    /// Takes messages from the input as long as they may be begun.
    fn process(&mut self) {
        while self.may_begin() {
            let mut rest = self.input.split_at(self.looked_at).1;
            let found = self.stream.next(&mut rest);
            self.looked_at = self.input.len() - rest.len();
            let Some(message) = found else {
                return;
            };
            let passed = std::mem::take(&mut self.passed);
            if !looks_oob(&message.value) {
                self.monitor.inbox.push(Job { client: Arc::clone(&self.client), message, passed });
                continue;
            }
            let answered = self.monitor.dialogue.answer(&self.client, message.value, passed);
            let limit = Instant::now() + AFTER_REPLY_LIMIT;
            let answered = answered.into_iter().map(|action| (limit, action));
            self.after_reply.extend(answered);
        }
    }

    fn may_begin(&self) -> bool {
        let oob = self.client.mode() == Mode::Open { oob: true };
        self.monitor.inbox.accepts(oob) && !self.client.is_full()
    }

    /// Sends as much as the kernel takes.
    fn flush(&mut self) {
        loop {
            if self.sent == self.output.len() {
                if self.output.capacity() > IDLE_BYTES_MAX {
                    self.output = Vec::new();
                }
                self.output.clear();
                self.sent = 0;
                self.client.take(&mut self.output);
            }
            if self.output.is_empty() {
                return;
            }
            match self.link.send(self.output.split_at(self.sent).1) {
                Ok(bytes) => {
                    self.sent += bytes;
                    self.client.sent(bytes);
                }
                Err(error) if is_passing(&error) => return,
                Err(_) => {
                    // As QEMU does: what was sent before the hang-up is still read and run.
                    self.client.deafen();
                    self.output.clear();
                    self.sent = 0;
                    self.leave();
                    return;
                }
            }
        }
    }

    /// Runs what was left for after the replies of out-of-band commands.
    fn act(&mut self) {
        let all_sent = !self.client.has_unsent();
        let now = Instant::now();
        let due = |limit: &Instant| all_sent || *limit <= now;
        for (_, action) in self.after_reply.extract_if(.., |(limit, _)| due(limit)) {
            action();
        }
    }

    /// Has the client gone and all that it asked for been done, as far as we wait for that?
    fn is_over(&self) -> bool {
        let all_done = self.end_of_input
            && self.input_is_empty()
            && self.monitor.inbox.is_idle()
            && !self.client.has_unsent();
        all_done || self.give_up.is_some_and(|limit| limit <= Instant::now())
    }

    fn wait_and_read(&mut self) -> io::Result<()> {
        let reading = !self.end_of_input && self.input_is_empty() && self.may_begin();
        let writing = self.client.has_unsent();
        let (input, output) = self.poll(reading, writing)?;
        if reading && !input.is_empty() {
            return self.read();
        }
        let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        if (input | output).intersects(gone) {
            self.hung_up = true;
            self.leave();
        }
        Ok(())
    }

    /// Waits for the client, the dispatcher, an event or a stop; says what is up at input and output.
    fn poll(&self, reading: bool, writing: bool) -> io::Result<(PollFlags, PollFlags)> {
        let wanted = |want: bool, flags| if want { flags } else { PollFlags::empty() };
        let mut fds = vec![PollFd::from_borrowed_fd(self.monitor.waker.as_fd(), PollFlags::IN)];
        // A hang-up is reported whether asked for or not: once known it must not end every wait.
        let watching = self.link.is_one_piece() && !(self.end_of_input || self.hung_up);
        let input = (reading || watching).then_some(fds.len());
        if input.is_some() {
            let flags = wanted(reading, PollFlags::IN);
            fds.push(PollFd::from_borrowed_fd(self.link.input(), flags));
        }
        let output = writing.then_some(fds.len());
        if output.is_some() {
            fds.push(PollFd::from_borrowed_fd(self.link.output(), PollFlags::OUT));
        }
        let limits = self.after_reply.iter().map(|(limit, _)| *limit);
        let limit = limits.chain(self.give_up).min().map(|limit| {
            let left = limit.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 })
        });
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {
                return Ok((PollFlags::empty(), PollFlags::empty()));
            }
            Err(error) => return Err(error.into()),
        }
        let flags = |index: Option<usize>| {
            let found = index.and_then(|index| fds.get(index));
            found.map_or(PollFlags::empty(), PollFd::revents)
        };
        Ok((flags(input), flags(output)))
    }

    fn read(&mut self) -> io::Result<()> {
        self.input.resize(READ_BYTES, 0);
        self.looked_at = 0;
        match self.link.receive(&mut self.input, &mut self.passed) {
            Ok(0) => {
                self.input.clear();
                self.end_of_input = true;
                self.leave();
            }
            Ok(bytes) => self.input.truncate(bytes),
            Err(error) => {
                self.input.clear();
                if !is_passing(&error) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The client is going; commands it has sent get a moment to be run and answered.
    fn leave(&mut self) {
        self.give_up.get_or_insert_with(|| Instant::now() + LEAVING_LIMIT);
    }

    fn input_is_empty(&self) -> bool {
        self.looked_at == self.input.len()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.client.close();
        self.monitor.inbox.clear();
        for (_, action) in self.after_reply.drain(..) {
            action();
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// An output buffer larger than this is not kept.
const IDLE_BYTES_MAX: usize = 64 * 1024;

/// How long a client that has hung up keeps the monitor busy with what it left behind.
const LEAVING_LIMIT: Duration = Duration::from_secs(1);
