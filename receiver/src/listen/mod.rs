//! Where a migration comes from: the addresses that `migrate-incoming` and
//! `-incoming` take, and the sockets opened for them.
//!
//! [`Address`] is pure text handling; [`IncomingArguments`] is the QMP form of
//! it. [`Listeners`] holds what was opened, for the accept loop to poll.

mod address;
mod arguments;
mod command;
#[allow(unsafe_code, reason = "descriptors that come as bare numbers: docs/unsafe.md#descriptor")]
mod descriptor;
mod error;
mod fdsets;
mod inet;
mod listeners;
mod passed;
mod peer;
mod resolve;
mod tcp;
mod unix;
mod vsock;

pub use self::address::{Address, UnixAddress};
pub use self::arguments::IncomingArguments;
pub use self::descriptor::take_inherited;
pub use self::error::ListenError;
pub use self::fdsets::{FdSets, SetFd};
pub use self::inet::{InetAddress, KeepAlive};
pub use self::listeners::{Accepted, Listeners};
pub(crate) use self::passed::is_socket;
pub use self::peer::Peer;
