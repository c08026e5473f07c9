//! Where a migration stands, in QEMU's words.

use std::fmt;

/// `MigrationStatus` (`qapi/migration.json`), as far as an incoming precopy
/// gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing has been started.
    #[default]
    None,
    /// Listening.
    Setup,
    /// All expected connections are there.
    Active,
    /// Everything has arrived.
    Completed,
    /// It ended with an error.
    Failed,
}

impl Status {
    /// The name in QMP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Setup => "setup",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// True for the states that a run does not leave.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
