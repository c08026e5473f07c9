//! Standard error: what is said beside the result.

use std::fmt;
use std::io::{self, Write};

/// Says `text` and the end of a line. That nobody can read it is no reason to end, and nobody could
/// be told.
pub(crate) fn line(text: impl fmt::Display) {
    // In one piece: lines of several processes stay whole.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
