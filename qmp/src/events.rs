//! Events to every client of every monitor.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{client::Client, json};

/// Sends events. Clones reach the same clients.
///
/// It is made before the server, so that a handler can own one.
#[derive(Clone, Debug, Default)]
pub struct EventSender {
    clients: Arc<Mutex<Vec<Weak<Client>>>>,
}

impl EventSender {
    /// A sender with no clients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends an event to every client that has negotiated, stamped with the time of day.
    ///
    /// It never blocks. All clients see events in the same order, and an event emitted before a
    /// command returns comes before that command's reply. A client that has left 256 KiB of events
    /// unread is disconnected. Without `data` the event has no such member.
    pub fn emit(&self, name: &str, data: Option<Value>) {
        // Held while sending, which is what makes the order the same everywhere.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let line = event_line(name, data.as_ref(), SystemTime::now());
        clients.retain(|client| {
            let Some(client) = client.upgrade() else {
                return false;
            };
            client.event(&line);
            !client.is_closed()
        });
    }

    pub(crate) fn register(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|known| known.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }
}

fn event_line(name: &str, data: Option<&Value>, now: SystemTime) -> Vec<u8> {
    // A clock before 1970 is QEMU's -1, which here is not worth a signed number.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = format!(
        "{{\"timestamp\": {{\"seconds\": {}, \"microseconds\": {}}}, \"event\": ",
        now.as_secs(),
        now.subsec_micros()
    )
    .into_bytes();
    json::write_string(name, &mut line);
    if let Some(data) = data {
        line.extend_from_slice(b", \"data\": ");
        json::write(data, &mut line);
    }
    line.extend_from_slice(b"}\r\n");
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_spelled_as_qemu_spells_it() {
        let now = UNIX_EPOCH + Duration::from_micros(1_795_392_615_000_042);
        let text = |data: Option<Value>| {
            String::from_utf8(event_line("SHUTDOWN", data.as_ref(), now)).unwrap()
        };
        assert_eq!(
            text(Some(json!({"guest": false, "reason": "host-qmp-quit"}))),
            "{\"timestamp\": {\"seconds\": 1795392615, \"microseconds\": 42}, \
             \"event\": \"SHUTDOWN\", \
             \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}\r\n"
        );
        assert_eq!(
            text(None),
            "{\"timestamp\": {\"seconds\": 1795392615, \"microseconds\": 42}, \
             \"event\": \"SHUTDOWN\"}\r\n"
        );
    }
}
