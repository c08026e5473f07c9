//! Several monitors at once.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    EventSender, Handler, MonitorAddress, MonitorSocket, Role,
    dialogue::Dialogue,
    link::Link,
    listener::{self, Bound, Listener},
    monitor::{Monitor, Source},
};

/// Monitors that are running. Dropping it stops them.
pub struct Server {
    monitors: Vec<Running>,
}

/// Monitors whose addresses are taken: clients can connect, and are greeted once these are served.
pub struct OpenMonitors {
    /// Where each one's clients come from, and whether to wait for the first.
    sources: Vec<(Source, bool)>,
}

struct Running {
    monitor: Arc<Monitor>,
    bound: Vec<Bound>,
    waits: bool,
    threads: Vec<JoinHandle<()>>,
}

/// Why the monitors could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// We could not listen there.
    #[error("Failed to bind QMP monitor to {address}: {source}")]
    Listen {
        /// As given.
        address: MonitorSocket,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody took our call.
    #[error("Failed to connect QMP monitor to {address}: {source}")]
    Connect {
        /// As given.
        address: MonitorSocket,
        /// What the kernel said.
        source: io::Error,
    },
    /// Two monitors cannot share a connection.
    #[error("QMP monitor address {0} is given twice")]
    Twice(MonitorAddress),
    /// The host lacks threads or descriptors.
    #[error("QMP monitor: {0}")]
    Host(#[from] io::Error),
}

impl OpenMonitors {
    /// Binds or connects all monitors, as QEMU does before it makes its machine: what is wrong with
    /// an address is said before anything that takes long.
    ///
    /// # Errors
    /// The first address that cannot be used. Nothing is left behind.
    pub fn open(addresses: &[MonitorAddress]) -> Result<Self, ServerError> {
        for (index, address) in addresses.iter().enumerate() {
            let earlier = addresses.iter().take(index);
            if has_one_end(address) && earlier.into_iter().any(|other| same_end(address, other)) {
                return Err(ServerError::Twice(address.clone()));
            }
        }
        let mut sources = Vec::new();
        for address in addresses {
            sources.extend(open(address)?);
        }
        Ok(Self { sources })
    }

    /// Starts serving them.
    ///
    /// It does not wait for clients; see [`Server::first_clients`]. `handler` may be called before
    /// this returns. Events sent through `events` reach the clients of these monitors.
    ///
    /// # Errors
    /// The host lacks threads or descriptors. Nothing is left running.
    ///
    /// # Panics
    /// If the handler's table names one of the library's own commands.
    pub fn serve(
        self,
        handler: Arc<dyn Handler>,
        events: &EventSender,
    ) -> Result<Server, ServerError> {
        let mut server = Server { monitors: Vec::new() };
        for (source, waits) in self.sources {
            let dialogue = Dialogue::new(Arc::clone(&handler));
            let monitor = Arc::new(Monitor::new(dialogue, events.clone())?);
            let bound = match &source {
                Source::Once(_) => Vec::new(),
                Source::Listeners(all) => all.iter().map(Listener::bound).cloned().collect(),
            };
            let index = server.monitors.len();
            server.monitors.push(Running { monitor, bound, waits, threads: Vec::new() });
            server.monitors[index].spawn(index, source)?;
        }
        Ok(server)
    }
}

impl Server {
    /// Opens monitors and serves them.
    ///
    /// # Errors
    /// Those of [`OpenMonitors::open`] and [`OpenMonitors::serve`].
    ///
    /// # Panics
    /// As [`OpenMonitors::serve`].
    pub fn start(
        addresses: &[MonitorAddress],
        handler: Arc<dyn Handler>,
        events: &EventSender,
    ) -> Result<Self, ServerError> {
        OpenMonitors::open(addresses)?.serve(handler, events)
    }

    /// The first client of every monitor with `wait=on`. QEMU waits for them before it does anything
    /// else.
    pub fn first_clients(&self) -> FirstClients {
        let waiting = self.monitors.iter().filter(|running| running.waits);
        FirstClients { monitors: waiting.map(|running| Arc::clone(&running.monitor)).collect() }
    }

    /// Where the monitors that listen can be reached, in the order they were given.
    pub fn bound(&self) -> Vec<Bound> {
        let all = self.monitors.iter().flat_map(|running| &running.bound);
        all.cloned().collect()
    }

    /// Ends all sessions, after what has been said has been sent as far as it goes without waiting,
    /// and removes the unix sockets.
    ///
    /// A handler that is still at a command after a second is left behind. It may be called from a
    /// thread of a monitor, an after-reply action for instance.
    pub fn stop(self) {
        drop(self);
    }
}

/// Clients to wait for, on whatever thread: the server may be stopped meanwhile.
pub struct FirstClients {
    monitors: Vec<Arc<Monitor>>,
}

impl FirstClients {
    /// Waits until all have come; `false` if `limit` passed or the server was stopped before.
    pub fn wait(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        self.monitors.iter().all(|monitor| monitor.wait_for_client(deadline))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for running in &self.monitors {
            running.monitor.stop();
        }
        let deadline = Instant::now() + STOP_LIMIT;
        for running in &mut self.monitors {
            for thread in running.threads.drain(..) {
                end(thread, deadline);
            }
        }
    }
}

impl Running {
    fn spawn(&mut self, index: usize, source: Source) -> io::Result<()> {
        let monitor = Arc::clone(&self.monitor);
        let name = format!("qmp{index}-run");
        let dispatcher = thread::Builder::new().name(name);
        self.threads.push(dispatcher.spawn(move || monitor.dispatch())?);
        let monitor = Arc::clone(&self.monitor);
        let name = format!("qmp{index}-io");
        let connection = thread::Builder::new().name(name);
        self.threads.push(connection.spawn(move || monitor.serve(source))?);
        Ok(())
    }
}

/// Where a monitor's clients come from and whether to wait for the first; `None` for no monitor.
fn open(address: &MonitorAddress) -> Result<Option<(Source, bool)>, ServerError> {
    let (socket, role) = match address {
        MonitorAddress::None => return Ok(None),
        MonitorAddress::Stdio => return Ok(Some((Source::Once(Link::Stdio), false))),
        MonitorAddress::Socket { socket, role } => (socket, role),
    };
    let address = || socket.clone();
    match role {
        Role::Connect => {
            let link = listener::connect(socket)
                .map_err(|source| ServerError::Connect { address: address(), source })?;
            Ok(Some((Source::Once(link), false)))
        }
        Role::Listen { wait } => {
            let listeners = listener::listen(socket)
                .map_err(|source| ServerError::Listen { address: address(), source })?;
            Ok(Some((Source::Listeners(listeners), *wait)))
        }
    }
}

/// Is this an address that only one monitor can have, and that the kernel would give to two?
fn has_one_end(address: &MonitorAddress) -> bool {
    match address {
        MonitorAddress::None => false,
        MonitorAddress::Stdio => true,
        MonitorAddress::Socket { socket, role } => match socket {
            MonitorSocket::Fd(_) => true,
            // The second would remove the first one's path.
            MonitorSocket::Unix(_) => *role != Role::Connect,
            MonitorSocket::Tcp { .. } => false,
        },
    }
}

fn same_end(one: &MonitorAddress, other: &MonitorAddress) -> bool {
    match (one, other) {
        (
            MonitorAddress::Socket { socket: one, .. },
            MonitorAddress::Socket { socket: other, .. },
        ) => one == other,
        _ => one == other,
    }
}

/// Waits for a thread, but not for the one we are on and not for ever.
fn end(thread: JoinHandle<()>, deadline: Instant) {
    if thread.thread().id() == thread::current().id() {
        return;
    }
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            tracing::warn!("QMP: a command does not end; leaving it behind");
            return;
        }
        thread::sleep(STOP_TICK);
    }
    if thread.join().is_err() {
        tracing::error!("QMP: a command panicked");
    }
}

/// How long a stop waits for running commands.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How often a stop looks whether they have ended.
const STOP_TICK: Duration = Duration::from_millis(1);
