//! Compressed payloads of a channel, packet after packet.

use super::script::Script;
use crate::codec::fuzzing::{PAGES_MAX, Target};
use crate::wire::Compression;

/// Decodes `script` as the payloads of one channel: a byte for the method, then
/// packets, each a byte for the number of pages, a length in two bytes, and so
/// many bytes of payload.
///
/// # Panics
///
/// As [`Target::decode`].
pub fn compressed_packets(script: &[u8]) {
    thread_local! {
        static TARGET: Target = Target::new();
    }
    let mut script = Script(script);
    let method = Compression::METHODS[usize::from(script.byte()) % Compression::METHODS.len()];
    let mut packets = Vec::new();
    while !script.is_empty() && packets.len() < PACKETS_MAX {
        let pages = usize::from(script.byte()) % PAGES_MAX + 1;
        let length = usize::from(script.be16());
        let payload = script.take(length);
        if payload.is_empty() {
            break;
        }
        packets.push((pages, payload));
    }
    if !packets.is_empty() {
        TARGET.with(|target| target.decode(method, &packets));
    }
}

/// A channel of each method, as its encoder makes it.
pub fn compressed_packets_seeds() -> Vec<Vec<u8>> {
    // Two pages of zeroes, then one of letters in the same stream.
    let zlib = b"\0\x01\0\x3b\x78\x01\xec\xd0\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\x6d\x0e\x37\x88\x40\x61\xc0\
        \x80\x01\x03\x06\x0c\x18\x30\x60\xc0\x80\x01\x03\x06\x0c\x18\x30\x60\xc0\x80\x01\x03\x06\x0c\x18\x30\
        \x60\xc0\x80\x01\x03\x06\x0c\xbc\x0f\x0c\0\0\xff\xff\0\0\x29\xec\xd0\x01\x09\0\0\0\x02\xa0\
        \xad\xf5\x7f\x44\x3f\x42\x7c\x60\x8a\x01\x03\x06\x0c\x18\x30\x60\xc0\x80\x01\x03\x06\x0c\x18\x30\
        \xf0\x3e\x30\0\0\0\xff\xff";
    let zstd = b"\x01\x01\0\x12\x28\xb5\x2f\xfd\0\x48\x4d\0\0\x10\0\0\x01\0\xfb\xdf\x03\x2c";
    // One page of zeroes, raw deflate.
    let qpl = b"\x02\0\0\x18\0\0\0\x14\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\x6d\x0f\x07\x14\0\0\0\xf0\x6e";
    let uadk =
        b"\x03\0\0\x20\0\0\0\x1c\x78\xda\xed\xc2\x01\x09\0\0\0\x02\xa0\xad\xf5\x7f\x44\x3f\x42\x34\
        \x0d\0\0\0\x70\x6e\xf3\x8b\x18\x5b";
    let qatzip =
        b"\x04\x01\0\x2b\x1f\x8b\x08\0\0\0\0\0\x02\x03\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\
        \x6d\x0e\x37\xa0\0\0\0\0\0\0\0\x80\x77\x03\x94\x99\xf4\xd8\0\x20\0\0";
    vec![zlib.to_vec(), zstd.to_vec(), qpl.to_vec(), uadk.to_vec(), qatzip.to_vec()]
}

/// More of them come no further than these.
const PACKETS_MAX: usize = 8;
