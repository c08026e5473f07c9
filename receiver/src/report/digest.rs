//! A hash for each RAM block: BLAKE3 of its bytes from the first to the last.

use landfall_pagepool::{BlockName, RamBlock, RamBlocks};
use serde_json::Value;

/// The BLAKE3 hash of every block, in hex, in the source's order. Nobody may be
/// writing to them.
pub fn digest(ram: &RamBlocks) -> Vec<(BlockName, String)> {
    let mut buffer = vec![0; BUFFER_BYTES];
    ram.iter().map(|block| (block.name().clone(), one(block, &mut buffer))).collect()
}

fn one(block: &RamBlock, buffer: &mut [u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < block.bytes() {
        let bytes = usize::try_from(block.bytes() - offset).unwrap_or(usize::MAX).min(buffer.len());
        block.read(offset, &mut buffer[..bytes]);
        hasher.update(&buffer[..bytes]);
        offset += bytes as u64;
    }
    hasher.finalize().to_hex().to_string()
}

/// Puts digests into a report of [`super::query_receiver`], as the member
/// `digest` of each block.
pub fn add_digests(report: &mut Value, digests: &[(BlockName, String)]) {
    let Some(blocks) = report["blocks"].as_array_mut() else { return };
    for block in blocks {
        let name = block["name"].as_str().unwrap_or_default();
        if let Some((_, hash)) = digests.iter().find(|(of, _)| of.as_str() == name) {
            block["digest"] = hash.as_str().into();
        }
    }
}

/// What is hashed at a time: all of BLAKE3's lanes are busy, and it stays in
/// the level 2 cache.
const BUFFER_BYTES: usize = 256 * 1024;
