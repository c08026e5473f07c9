//! What the commands of all monitors and the runs of the receiver share.

use std::sync::{Arc, Mutex, MutexGuard};

use landfall_qmp::EventSender;
use serde_json::{Value, json};
use uuid::Uuid;

use super::channels::{ChannelRule, ChannelsDefault};
use super::compression::{CompressionDefault, CompressionRule};
use super::guest::{self, Guest};
use super::objects::{Objects, TlsDefault};
use crate::door::Allow;
use crate::listen::{FdSets, Peer};
use crate::receiver::Migration;
use crate::run::lock;
use crate::settings::{QemuVersion, Settings};
use crate::status::Status;

/// Says who may connect to the migration's listener.
pub type AllowPeer = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// What the command line said, as far as QMP shows it or changes it.
#[derive(Clone)]
pub struct MonitorConfig {
    /// The QEMU whose tables and texts are answered with.
    pub version: QemuVersion,
    /// The guest's name, for `query-name`.
    pub name: Option<String>,
    /// The guest's UUID, for `query-uuid`; channels with another are strays.
    pub uuid: Option<Uuid>,
    /// Who may connect; `None`: everybody.
    pub allow: Option<AllowPeer>,
    /// Descriptors of add-fd, and of the command line.
    pub fdsets: Arc<FdSets>,
    /// What was said of multifd.
    pub channels: ChannelsDefault,
    /// What was said of compression.
    pub compression: CompressionDefault,
    /// What was said of TLS; `None`: in the clear, until QMP says otherwise.
    pub tls: Option<TlsDefault>,
}

impl Default for MonitorConfig {
    /// QEMU 10.0, and nothing said.
    fn default() -> Self {
        Self {
            version: QemuVersion::V10_0,
            name: None,
            uuid: None,
            allow: None,
            fdsets: Arc::default(),
            channels: ChannelsDefault::default(),
            compression: CompressionDefault::default(),
            tls: None,
        }
    }
}

/// What ends the process.
pub struct Endings {
    /// `quit` was executed, and its reply is on its way; the run under way, if
    /// any, has been told to end. Called once, on a thread of a monitor: it must
    /// not wait for that monitor.
    pub on_quit: Box<dyn Fn() + Send + Sync>,
    /// A run failed whose `exit-on-error` was true; the argument is the exit
    /// code. Called on a thread of the run, after its MIGRATION event: it must
    /// not wait for the run. Not called once a shutdown was announced.
    pub on_exit: Box<dyn Fn(u8) + Send + Sync>,
}

/// Settings, wishes and policy of one destination.
pub struct Destination {
    config: MonitorConfig,
    events: EventSender,
    endings: Endings,
    state: Mutex<State>,
}

/// What changes. The lock is held for as long as it takes to look at it and to
/// queue an event, never across a start or an end of a run.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) channels: ChannelRule,
    pub(super) compression: CompressionRule,
    pub(super) guest: Guest,
    pub(super) objects: Objects,
    /// A migrate-incoming is being executed.
    pub(super) opening: bool,
    /// Of the run under way.
    pub(super) exit_on_error: bool,
    pub(super) shutting_down: bool,
}

impl Destination {
    /// A destination as the command line has it, to which nothing has been said
    /// yet. Events go to the clients of `events`.
    pub fn new(config: MonitorConfig, events: EventSender, endings: Endings) -> Self {
        let mut settings = Settings::new(config.version);
        let channels = ChannelRule::new(config.channels, &mut settings);
        let compression = CompressionRule::new(config.compression, &mut settings);
        let objects = Objects::new(config.tls.clone(), &mut settings);
        let state = State {
            settings,
            channels,
            compression,
            objects,
            guest: Guest::default(),
            opening: false,
            exit_on_error: false,
            shutting_down: false,
        };
        Self { config, events, endings, state: Mutex::new(state) }
    }

    /// The receiver's [`Observer`](crate::receiver::Observer), or part of it:
    /// emits the events of a change of status. RESUME comes before `completed`.
    pub fn observe(&self, migration: &Migration, status: Status) {
        // Held until the events are queued: their order is that of the changes.
        let mut state = self.state();
        match status {
            Status::Setup => state.guest.begun(),
            Status::Completed => {
                if state.guest.completed(guest::source_ran(migration)) {
                    self.emit("RESUME", None);
                }
            }
            Status::Failed => state.guest.failed(),
            Status::None | Status::Active => {}
        }
        // 7.2 tells of the listener whether asked to or not.
        let unasked = status == Status::Setup && self.version() == QemuVersion::V7_2;
        if unasked || state.settings.events() {
            self.emit("MIGRATION", Some(json!({"status": status.as_str()})));
        }
        let exits = status == Status::Failed && state.exit_on_error && !state.shutting_down;
        drop(state);
        if exits {
            (self.endings.on_exit)(EXIT_FAILED);
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn emit(&self, name: &str, data: Option<Value>) {
        self.events.emit(name, data);
    }

    pub(super) fn config(&self) -> &MonitorConfig {
        &self.config
    }

    pub(super) fn endings(&self) -> &Endings {
        &self.endings
    }

    pub(super) fn version(&self) -> QemuVersion {
        self.config.version
    }

    /// Who may connect to one run.
    pub(super) fn allow(&self) -> Option<Allow> {
        let allow = self.config.allow.clone()?;
        Some(Box::new(move |peer| allow(peer)))
    }
}

/// What QEMU exits with when a migration failed.
const EXIT_FAILED: u8 = 1;
