//! What chance decides, and what must come of it.

use std::fmt;

/// What must become of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    Complete,
    Fail,
    /// The source is killed at some time: before the end, or too late.
    Either,
}

/// What became of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With all RAM, or (not whole) all that its source has sent of it.
    Completed { is_real: bool, is_whole: bool },
    /// Its source was killed.
    Killed,
    /// For another reason than that.
    Failed,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Completed { .. } => "completed",
            Self::Killed => "killed",
            Self::Failed => "failed",
        })
    }
}

impl Must {
    /// Whether a run with this status in its report completed; an error if it
    /// must not have ended so, or somebody else was there.
    pub(super) fn judge(self, report: &serde_json::Value) -> Result<bool, String> {
        match (self, report["status"].as_str()) {
            (_, Some("completed")) if report["stray-connections"] != 0 => {
                Err(format!("strays, nobody but the source was there: {report}"))
            }
            (Self::Complete | Self::Either, Some("completed")) => Ok(true),
            (Self::Fail | Self::Either, Some("failed")) if report["error"]["text"].is_string() => {
                Ok(false)
            }
            _ => Err(format!("must {self:?}, but the report is {report}")),
        }
    }
}
