//! One incoming migration, from the first connection to the last figure.
//!
//! The main thread conducts: it walks the main stream, maps the RAM blocks,
//! hands channels to readers, keeps the sync points, answers on the return path
//! and ends the run.

pub mod answers;
mod ciphertext;
mod conductor;
mod input;
mod main_pages;
mod outcome;
mod return_path;
pub mod rounds;
mod settle;
mod silent_end;

pub use conductor::{Conductor, Plan, Sink};
pub use main_pages::{MainPages, Placing};
pub use outcome::{Ended, Received};
pub use settle::ChannelCount;
