//! Why a run failed: families, and the first error that wins.

use std::fmt;

use thiserror::Error;

use crate::main_stream::{self, StreamError};

/// Whose fault it is, and so what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Bytes that break the format.
    Malformed,
    /// Legal bytes at an illegal moment, a source that vanished or is stuck.
    Misbehaved,
    /// A real feature that landfall refuses; the text names the capability to
    /// turn off.
    Unsupported,
    /// This host: the text names the sysctl, limit or file system.
    Environment,
    /// A person stopped the run.
    Stopped,
    /// A bug in landfall: one of the run's threads panicked.
    Internal,
}

impl Family {
    /// The name in reports: lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Misbehaved => "misbehaved",
            Self::Unsupported => "unsupported",
            Self::Environment => "environment",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error that ended a run, with the text that people and QMP see.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct RunError {
    /// Whose fault.
    pub family: Family,
    /// Where, found, allowed.
    pub text: String,
}

impl RunError {
    /// An error of `family` with `text`.
    pub fn new(family: Family, text: impl Into<String>) -> Self {
        Self { family, text: text.into() }
    }

    /// The operator ended the run (`quit`, SIGINT, SIGTERM).
    pub fn stopped() -> Self {
        Self::new(Family::Stopped, "stopped by operator")
    }

    /// This host refused `what`.
    pub fn host(what: &str, error: impl fmt::Display) -> Self {
        Self::new(Family::Environment, format!("{what}: {error}"))
    }
}

impl From<StreamError> for RunError {
    fn from(error: StreamError) -> Self {
        let family = match error.family() {
            main_stream::Family::Malformed => Family::Malformed,
            main_stream::Family::Misbehaved => Family::Misbehaved,
            main_stream::Family::Unsupported => Family::Unsupported,
        };
        Self::new(family, error.to_string())
    }
}
