//! The destination of a QEMU live migration: wire formats, channels, readers
//! on io_uring, main stream, sync points, return path, statistics and the
//! monitor's migration commands.
//!
//! The way of a byte: [`listen`] and [`door`] (a connection says what it is),
//! [`migration`] (main's thread conducts), [`reader`] and [`ring`] (receives),
//! [`wire`] (a packet, checked once), [`channel`], [`place`] and [`codec`] (what
//! next, where to, and out of what), guest RAM, [`sync`] (rounds), [`stats`] (what is told).

pub mod arrivals;
pub mod channel;
pub mod clock;
pub mod codec;
pub mod cpu_cache;
pub mod cpu_list;
pub mod device_packets;
pub mod door;
pub mod error;
pub mod fuzzing;
pub mod hung_up;
pub mod listen;
pub mod low_water;
pub mod main_stream;
pub mod mapped_ram;
pub mod migration;
pub mod monitor;
pub mod nic_node;
mod panicked;
pub mod phases;
pub mod place;
pub mod reader;
pub mod receiver;
pub mod report;
#[allow(unsafe_code, reason = "the kernel writes where we tell it: docs/unsafe.md#ring")]
pub mod ring;
pub mod run;
pub mod settings;
pub mod staging;
pub mod stats;
pub mod status;
pub mod sync;
pub mod tcp_info;
pub mod tls;
pub mod wake;
pub mod watchdog;
pub mod wire;
