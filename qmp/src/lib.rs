//! QMP, the QEMU Machine Protocol, as QEMU 10.0 speaks it: the wire, the rules of a session, and
//! servers on unix sockets, TCP, inherited descriptors and standard input.
//!
//! It knows nothing of what the commands do. A program implements [`Handler`] with a table of
//! [`CommandInfo`]; what QEMU's generated code would refuse (unknown commands, missing, unexpected or
//! ill-typed arguments, out-of-band misuse) is refused here, in QEMU's words.
//!
//! ```text
//! client ▶ link: bytes ▶ json: one message ▶ inbox ▶ dispatcher ▶ dialogue ▶ Handler
//! client ◀ link ◀ client: bounded queue ◀ replies, and events from EventSender
//! ```
//!
//! Each monitor has two threads: one owns the connection and runs out-of-band commands, one runs
//! ordinary commands in order. [`Conversation`] is the same session without sockets or threads.
//!
//! Limits against a hostile client: a message has at most 1 MiB and 65536 tokens and nests at most
//! 1024 deep; at most 8 commands or 1 MiB of them queue; where 256 KiB of output wait, commands
//! stop being read, and where 256 KiB of events wait, the next event disconnects; 128 named
//! descriptors per monitor.

mod address;
mod arguments;
mod client;
mod command;
mod connection;
mod conversation;
mod dialogue;
mod error;
mod events;
mod fds;
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod inbox;
#[allow(unsafe_code, reason = "inherited descriptors are bare numbers: docs/unsafe.md#inherited")]
mod inherited;
mod json;
mod link;
mod listener;
mod monitor;
mod option_string;
mod request;
mod server;
mod wake;

pub use address::{AddressError, MonitorAddress, MonitorSocket, Role};
pub use command::{ArgumentInfo, ArgumentKind, CommandInfo};
pub use conversation::Conversation;
pub use error::{ErrorClass, QmpError};
pub use events::EventSender;
pub use handler::{Arguments, Greeting, Handler, Session};
pub use listener::Bound;
pub use option_string::OptionString;
pub use server::{FirstClients, OpenMonitors, Server, ServerError};
