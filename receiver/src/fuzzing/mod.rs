//! Bodies for fuzzers: functions that take any bytes and panic where something
//! is wrong.
//!
//! Those here need guest RAM, or a second, plain way to the same answer. Where
//! pages go into guest RAM, it is held against a slow model of it, and the
//! input is a script, shorter than what it makes: a page is one byte. Beside
//! each body stands a function with inputs to begin from. Parsers alone are
//! fuzzed in [`crate::wire::fuzzing`], the main stream in
//! [`crate::main_stream::fuzzing`].

mod address;
mod codec;
mod credentials;
mod description;
mod memory;
mod model;
mod packet_model;
mod packets;
mod ram_records;
mod script;
mod tls;

pub use address::{addresses, addresses_seeds};
pub use codec::{compressed_packets, compressed_packets_seeds};
pub use credentials::{
    certificate_names, certificate_names_seeds, pem_files, pem_files_seeds, tls_priority,
    tls_priority_seeds,
};
pub use description::{description, description_seeds};
pub use packets::{packet_sequence, packet_sequence_seeds};
pub use ram_records::{ram_records, ram_records_seeds};
pub use tls::{tls_records, tls_records_seeds};
