//! migrate-incoming.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use landfall_qmp::{Arguments, QmpError, Session};

use super::Monitor;
use super::destination::{Destination, State};
use crate::listen::{Address, IncomingArguments};
use crate::receiver::{Incoming, Migration, StartError};

impl Monitor {
    /// Starts a run. After any error it may be tried again; only a descriptor taken for `fd:` is
    /// gone, as in QEMU, and the last run where this host lacks threads or descriptors.
    pub(super) fn migrate_incoming(
        &self,
        session: &mut Session<'_>,
        arguments: &Arguments,
    ) -> Result<(), QmpError> {
        let opening = Opening::begin(self)?;
        let arguments = IncomingArguments::parse(arguments, self.destination.version())
            .map_err(QmpError::generic)?;
        check(&self.destination.state(), &arguments.address).map_err(QmpError::generic)?;
        let exit_on_error = arguments.exit_on_error.unwrap_or(false);
        let handed_over = &mut |name: &str| session.take_fd(name);
        opening
            .start(&[arguments.address], exit_on_error, handed_over)
            .map(|_| ())
            .map_err(|error| QmpError::generic(text(&error)))
    }

    /// Starts a run on `addresses` of the command line, by the rules of
    /// migrate-incoming; exit-on-error is false.
    ///
    /// # Errors
    /// As [`Receiver::start`](crate::receiver::Receiver::start).
    pub fn start(&self, addresses: &[Address]) -> Result<Arc<Migration>, StartError> {
        let opening = Opening::begin(self).map_err(|_| StartError::Busy)?;
        opening.start(addresses, false, &mut |_| None)
    }
}

/// The right to start a run, which one command has at a time.
struct Opening<'monitor> {
    monitor: &'monitor Monitor,
}

impl<'monitor> Opening<'monitor> {
    /// # Errors
    /// A run is under way, is being started, or none may be any more.
    fn begin(monitor: &'monitor Monitor) -> Result<Self, QmpError> {
        let mut state = monitor.destination.state();
        if state.shutting_down {
            return Err(QmpError::generic("landfall is shutting down"));
        }
        let last = monitor.receiver.current();
        let busy = last.is_some_and(|migration| migration.ended().is_none());
        if busy || state.opening {
            return Err(QmpError::generic(ALREADY_STARTED));
        }
        state.opening = true;
        Ok(Self { monitor })
    }

    fn start(
        self,
        addresses: &[Address],
        exit_on_error: bool,
        handed_over: &mut dyn FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<Arc<Migration>, StartError> {
        let Monitor { destination, receiver } = self.monitor;
        // What was still to be told of the run before is told before `setup`,
        // and by its own policy.
        if let Some(last) = receiver.current() {
            last.wait();
        }
        let incoming = destination.incoming(exit_on_error)?;
        let migration = receiver.start(addresses, incoming, handed_over)?;
        // Who wanted the end meanwhile found no run to end.
        if destination.state().shutting_down {
            receiver.stop();
        }
        Ok(migration)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.monitor.destination.state().opening = false;
    }
}

impl Destination {
    /// What the next run is asked for.
    ///
    /// # Errors
    /// The TLS credentials are not there, or none of ours: never listen in the
    /// clear instead.
    fn incoming(&self, exit_on_error: bool) -> Result<Incoming, StartError> {
        let mut state = self.state();
        let tls = state.objects.server(&state.settings).map_err(StartError::Tls)?;
        state.exit_on_error = exit_on_error;
        Ok(Incoming {
            channels: state.channels.count(&state.settings),
            compression: state.compression.method(&state.settings),
            switchover_ack: state.settings.switchover_ack(),
            direct_io: state.settings.direct_io(),
            fdsets: Arc::clone(&self.config().fdsets),
            uuid: self.config().uuid,
            allow: self.allow(),
            tls,
        })
    }
}

/// Whether the settings can be met at `address`.
///
/// # Errors
/// QEMU's text (`migration/migration.c`,
/// `migration_channels_and_transport_compatible`).
fn check(state: &State, address: &Address) -> Result<(), String> {
    let settings = &state.settings;
    let is_file = matches!(address, Address::File { .. });
    if settings.mapped_ram() && !is_file {
        return Err("Migration requires seekable transport (e.g. file)".into());
    }
    let several = settings.multifd() || settings.postcopy_preempt();
    if several && !address.multi_channel() && !(is_file && settings.mapped_ram()) {
        return Err(StartError::SingleChannel.to_string());
    }
    Ok(())
}

fn text(error: &StartError) -> String {
    match error {
        StartError::Busy => ALREADY_STARTED.into(),
        StartError::Listen(_)
        | StartError::SingleChannel
        | StartError::Tls(_)
        | StartError::Host(_) => error.to_string(),
    }
}

const ALREADY_STARTED: &str = "The incoming migration has already been started";
