//! The monitor's commands for a destination that `landfall receive` is.
//!
//! ```text
//! client ▶ qmp: session rules ▶ Monitor: one command ▶ Settings, Guest, Receiver
//! client ◀ qmp: EventSender ◀ Destination::observe ◀ the run's threads
//! ```
//!
//! [`Destination`] is what commands and runs share: settings, what the operator
//! wants of the guest, what ends the process. It is made first, so that the
//! [`Receiver`] can be made with [`Destination::observe`] as its observer;
//! [`Monitor`] puts the two together and is the handler of the QMP server.
//!
//! The rules are those of a QEMU started with `-incoming defer -S`, except:
//! - exit-on-error is false unless migrate-incoming says otherwise;
//! - after a run has ended, well or not, migrate-incoming starts the next, and
//!   `multifd` may be set again in between;
//! - migrate-incoming may be tried again after any error. (QEMU since 8.2 stays
//!   in `setup` for good when a bind fails.)
//! - there is no guest to run. `cont` and `stop` are accepted all the same, and
//!   change the run state with RESUME and STOP as they would there.
//!
//! No command waits for a run's threads, but one: migrate-incoming waits for the
//! last moments of the run before it, so that their events do not mix.

mod channels;
mod compression;
mod destination;
mod fdsets;
mod guest;
mod identity;
mod incoming;
mod objects;
mod settings;
mod shutdown;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use landfall_qmp::{
    ArgumentInfo, ArgumentKind, Arguments, CommandInfo, Greeting, Handler, QmpError, Session,
};
use serde_json::{Value, json};

use crate::receiver::{Migration, Receiver};
use crate::report;
use crate::status::Status;

pub use channels::ChannelsDefault;
pub use compression::CompressionDefault;
pub use destination::{AllowPeer, Destination, Endings, MonitorConfig};
pub use objects::TlsDefault;
pub use shutdown::ShutdownCause;

/// The migration commands of QMP over one receiver, for all monitors.
pub struct Monitor {
    destination: Arc<Destination>,
    receiver: Arc<Receiver>,
}

impl Monitor {
    /// Commands that act on `destination` and `receiver`. The receiver's
    /// observer must call [`Destination::observe`] of the same destination.
    pub fn new(destination: Arc<Destination>, receiver: Arc<Receiver>) -> Self {
        Self { destination, receiver }
    }

    fn current_status(&self) -> Status {
        self.receiver.current().map_or(Status::None, |migration| status_of(&migration))
    }

    fn query_migrate(&self) -> Value {
        report::query_migrate(self.receiver.current().as_deref())
    }

    fn query_receiver(&self) -> Value {
        match self.receiver.current() {
            Some(migration) => report::query_receiver(&migration),
            None => report::nothing_yet(),
        }
    }
}

impl Handler for Monitor {
    fn greeting(&self) -> Greeting {
        identity::greeting(self.destination.version())
    }

    fn commands(&self) -> &[CommandInfo] {
        COMMANDS
    }

    fn execute(
        &self,
        session: &mut Session<'_>,
        command: &str,
        arguments: Arguments,
    ) -> Result<Value, QmpError> {
        match command {
            "quit" => self.quit(session),
            "cont" => self.cont(),
            "stop" => self.stop(),
            "migrate-incoming" => self.migrate_incoming(session, &arguments)?,
            "migrate-set-capabilities" => self.migrate_set_capabilities(&arguments)?,
            "migrate-set-parameters" => self.migrate_set_parameters(&arguments)?,
            "object-add" => self.object_add(&arguments)?,
            "object-del" => self.object_del(&arguments)?,
            "add-fd" => return self.add_fd(session, &arguments),
            "remove-fd" => self.remove_fd(&arguments)?,
            "query-fdsets" => return Ok(self.query_fdsets()),
            "query-status" => return Ok(self.query_status()),
            "query-migrate" => return Ok(self.query_migrate()),
            "query-migrate-capabilities" => return Ok(self.destination.capabilities()),
            "query-migrate-parameters" => return Ok(self.destination.parameters()),
            "query-version" => return Ok(identity::query_version(self.destination.version())),
            "query-name" => return Ok(self.query_name()),
            "query-uuid" => return Ok(self.query_uuid()),
            "query-kvm" => return Ok(identity::query_kvm()),
            "query-memory-size-summary" => return Ok(self.query_memory_size_summary()),
            "x-query-receiver" => return Ok(self.query_receiver()),
            other => unreachable!("{other} is in the table and not here"),
        }
        Ok(json!({}))
    }
}

fn status_of(migration: &Migration) -> Status {
    *migration.run.status()
}

/// Where `open` stands, the version decides what goes: the settings and the
/// address check it, in QEMU's words.
static COMMANDS: &[CommandInfo] = &[
    CommandInfo::new("quit", &[]),
    CommandInfo::new("cont", &[]),
    CommandInfo::new("stop", &[]),
    CommandInfo::new("migrate-incoming", &[]).open(),
    CommandInfo::new(
        "migrate-set-capabilities",
        &[ArgumentInfo::required("capabilities", ArgumentKind::Any)],
    ),
    CommandInfo::new("migrate-set-parameters", &[]).open(),
    CommandInfo::new("object-add", &[]).open(),
    CommandInfo::new("object-del", &[ArgumentInfo::required("id", ArgumentKind::String)]),
    CommandInfo::new(
        "add-fd",
        &[
            ArgumentInfo::optional("fdset-id", ArgumentKind::Int),
            ArgumentInfo::optional("opaque", ArgumentKind::String),
        ],
    ),
    CommandInfo::new(
        "remove-fd",
        &[
            ArgumentInfo::required("fdset-id", ArgumentKind::Int),
            ArgumentInfo::optional("fd", ArgumentKind::Int),
        ],
    ),
    CommandInfo::new("query-fdsets", &[]),
    CommandInfo::new("query-status", &[]),
    CommandInfo::new("query-migrate", &[]),
    CommandInfo::new("query-migrate-capabilities", &[]),
    CommandInfo::new("query-migrate-parameters", &[]),
    CommandInfo::new("query-version", &[]),
    CommandInfo::new("query-name", &[]),
    CommandInfo::new("query-uuid", &[]),
    CommandInfo::new("query-kvm", &[]),
    CommandInfo::new("query-memory-size-summary", &[]),
    CommandInfo::new("x-query-receiver", &[]),
];
