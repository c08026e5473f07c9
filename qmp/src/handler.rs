//! The seam between the monitor and the program behind it.

use std::os::fd::OwnedFd;

use serde_json::{Map, Value};

use crate::{CommandInfo, QmpError, fds::MonitorFds};

/// The arguments of one command, in the order the client wrote them.
pub type Arguments = Map<String, Value>;

/// Who we say we are when a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// First number of the QEMU version imitated.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
    /// Free text after the version; it names the program that really answers.
    pub package: String,
}

/// The program behind a monitor.
///
/// One handler serves all monitors, so [`Handler::execute`] may run on several threads at once: one
/// for the ordinary commands of each monitor, one for its out-of-band commands.
pub trait Handler: Send + Sync + 'static {
    /// The version in the greeting. Asked anew for each client.
    fn greeting(&self) -> Greeting;

    /// The commands there are, without those of the library itself: `qmp_capabilities`,
    /// `query-commands`, `getfd`, `closefd`. Their order is that of `query-commands`.
    fn commands(&self) -> &[CommandInfo];

    /// Runs one command of the table, its arguments already checked against it.
    ///
    /// What it emits through [`EventSender`](crate::EventSender) before it returns reaches this
    /// client before the reply. It may block: out-of-band commands and other monitors go on.
    ///
    /// # Errors
    /// Whatever the client is to read in place of a result.
    fn execute(
        &self,
        session: &mut Session<'_>,
        command: &str,
        arguments: Arguments,
    ) -> Result<Value, QmpError>;
}

/// What a command may see and do of the client that sent it.
pub struct Session<'a> {
    pub(crate) fds: &'a MonitorFds,
    pub(crate) passed: &'a mut Vec<OwnedFd>,
    pub(crate) after_reply: Vec<AfterReply>,
}

/// Something to do once a reply has left.
pub(crate) type AfterReply = Box<dyn FnOnce() + Send>;

impl<'a> Session<'a> {
    pub(crate) fn new(fds: &'a MonitorFds, passed: &'a mut Vec<OwnedFd>) -> Self {
        Self { fds, passed, after_reply: Vec::new() }
    }

    /// Takes the file descriptor that `getfd` filed under `name`; it is then no longer listed.
    ///
    /// The names belong to the monitor, not to the client: they outlive a reconnect.
    pub fn take_fd(&mut self, name: &str) -> Option<OwnedFd> {
        self.fds.take(name)
    }

    /// Takes the file descriptor that came with this command (SCM_RIGHTS), for commands such as
    /// `add-fd`. If several came, the others are closed, as QEMU does (`tcp_get_msgfds`).
    pub fn take_passed_fd(&mut self) -> Option<OwnedFd> {
        let mut passed = std::mem::take(self.passed).into_iter();
        passed.next()
    }

    /// Has `action` run once the reply to this command has been handed to the kernel, the client has
    /// gone, or two seconds have passed: the order `quit` needs.
    ///
    /// It runs on a thread of the monitor and so must not wait for that monitor; ending the process
    /// or sending on a channel is what it is for.
    pub fn after_reply(&mut self, action: Box<dyn FnOnce() + Send>) {
        self.after_reply.push(action);
    }
}
