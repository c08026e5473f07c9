//! How the command ends.

use std::fmt;

use landfall_qmp::ServerError;
use landfall_receiver::error::{Family, RunError};
use landfall_receiver::listen::ListenError;
use landfall_receiver::receiver::StartError;

/// Exit codes of all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is well.
    Ok = 0,
    /// The migration, or the comparison, failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// This host cannot: hugepages, locked memory, io_uring, space.
    Host = 3,
}

/// An error on its way out of the command: text and exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    text: String,
}

impl Failure {
    /// The command line makes no sense.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, text: text.to_string() }
    }

    /// The migration failed.
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, text: text.to_string() }
    }

    /// This host cannot.
    pub(crate) fn host(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Host, text: text.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let exit = exit_of(&error);
        Self { exit, text: error.text }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Host(error) => exit_of(error),
            StartError::Listen(
                ListenError::Environment { .. } | ListenError::PortsTaken { .. },
            ) => Exit::Host,
            StartError::Listen(_) | StartError::SingleChannel | StartError::Tls(_) => Exit::Usage,
            StartError::Busy => Exit::Failed,
        };
        Self { exit, text: error.to_string() }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Twice(_) => Self::usage(error),
            ServerError::Listen { .. } | ServerError::Connect { .. } | ServerError::Host(_) => {
                Self::host(error)
            }
        }
    }
}

/// The exit code of a run that ended with `error`.
pub(crate) fn exit_of(error: &RunError) -> Exit {
    match error.family {
        Family::Environment => Exit::Host,
        Family::Malformed
        | Family::Misbehaved
        | Family::Unsupported
        | Family::Stopped
        | Family::Internal => Exit::Failed,
    }
}
