//! Handshakes, records and feeds, against rustls's own client.

mod credentials;
mod feeds;
mod handshakes;
mod peer;
mod streams;

#[path = "../../../../tests/real_qemu/certificates.rs"]
pub(crate) mod certificates;
