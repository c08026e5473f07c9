//! A session without a socket.

use std::{os::fd::OwnedFd, sync::Arc};

use crate::{EventSender, Handler, client::Client, dialogue::Dialogue, json::Stream};

/// One client's session held in memory, each command run where [`Conversation::send`] is called: for
/// testing a handler.
pub struct Conversation {
    dialogue: Dialogue,
    client: Arc<Client>,
    stream: Stream,
}

impl Conversation {
    /// Connects: the greeting waits in [`Conversation::receive`].
    ///
    /// # Panics
    /// If the handler's table names one of the library's own commands.
    pub fn new(handler: Arc<dyn Handler>, events: &EventSender) -> Self {
        let dialogue = Dialogue::new(handler);
        let client = Arc::new(Client::new(None));
        dialogue.greet(&client);
        events.register(&client);
        Self { dialogue, client, stream: Stream::default() }
    }

    /// Sends bytes, runs every command that ends in them, and returns all there is to read.
    ///
    /// Actions that a command left for after its reply are run after it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.send_with_fds(bytes, Vec::new())
    }

    /// The same, with descriptors as SCM_RIGHTS would bring them.
    pub fn send_with_fds(&mut self, bytes: impl AsRef<[u8]>, mut fds: Vec<OwnedFd>) -> String {
        let mut input = bytes.as_ref();
        while let Some(message) = self.stream.next(&mut input) {
            let passed = std::mem::take(&mut fds);
            for action in self.dialogue.answer(&self.client, message.value, passed) {
                action();
            }
        }
        self.receive()
    }

    /// What has been said since last asked: greeting, replies and events.
    pub fn receive(&mut self) -> String {
        let mut bytes = Vec::new();
        self.client.take(&mut bytes);
        self.client.sent(bytes.len());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Has an unread backlog cost this client its connection?
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}
