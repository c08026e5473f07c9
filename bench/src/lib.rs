//! A synthetic migration source, and the measures that a receiver is held against.
//!
//! Reading order: [`config`] says what a migration is, [`guest`] what its pages hold, [`script`] in
//! which order a source sends them, [`encode`] how that looks on the wire, [`message`] what a step
//! has in bytes, [`send`] puts it on sockets, [`saved`] into a file, [`mod@verify`] checks what arrived against the seed.
//!
//! [`recording`] keeps what a real source sent, and sends it again. [`writing_guest`] is a real guest
//! that dirties its memory. [`mod@forecast`] says what a migration
//! would take.
//!
//! Of the synthetic source, nothing knows the receiver: encoders are written from the wire's tables and golden
//! bytes, so that a mistake in one is not repeated in the other. Only [`simulation`] does: it brings
//! both together, in memory.

pub mod ceiling;
pub mod compare;
pub mod config;
mod content;
mod devices;
pub mod encode;
pub mod encoder;
pub mod forecast;
pub mod form;
pub mod guest;
mod hash;
mod image;
pub mod message;
pub mod plan;
pub mod recording;
pub mod saved;
pub mod script;
pub mod send;
pub mod sent;
pub mod simulation;
pub mod verify;
pub mod writing_guest;

pub use config::{BlockConfig, ConfigError, DeviceConfig, SourceConfig};
pub use form::{Form, Version};
pub use image::image_bytes;
pub use plan::Plan;
pub use sent::Sent;
pub use verify::verify;
