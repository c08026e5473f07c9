//! What a migration would take, before anybody makes it.
//!
//! [`Question`] is what a person knows: the guest, the source's settings, the network. [`Costs`] is
//! what a page, a packet and a pass cost, measured in runs ([`Calibration`]) or assumed as a range.
//! [`forecast`] goes through precopy pass by pass, as QEMU does, and says how long it takes, what
//! the guest's pause is made of, what limits, and what the destination needs.

mod calibration;
mod costs;
mod destination;
mod least_squares;
mod precopy;
mod question;

pub use calibration::{Calibration, CalibrationError, TakenFor};
use costs::SEND_BUFFER_BYTES;
pub use costs::{Costs, Pace, ReceiverCosts, Work};
pub use destination::Destination;
pub use precopy::{Forecast, Limit, Outcomes, Pass, Pause, Remedy, Spread, forecast};
pub use question::{DirtyTracking, Guest, Network, Question, QuestionError, SourceSettings};

/// Bytes of a target page: x86-64.
pub const PAGE_BYTES: u64 = 4096;
/// Pages of a full packet: 512 KiB.
pub const PACKET_PAGES: u64 = 128;
/// Bytes of a packet's header: 64 fixed, 256 of the block's name, 8 for each page it can hold.
pub const HEADER_BYTES: u64 = 64 + 256 + 8 * PACKET_PAGES;
const GIB: f64 = (1_u64 << 30) as f64;
