//! A hash for each RAM block: BLAKE3 of its bytes from the first to the last,
//! as `b3sum` prints it for the block's file.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use landfall_pagepool::{BlockName, RamBlock, RamBlocks};
use serde_json::Value;

use crate::receiver::allowed_cpus;
use crate::run::lock;

/// The hash of every block, in hex, in the source's order; all CPUs work on it.
/// Nobody may be writing to the blocks.
pub fn digest(ram: &RamBlocks) -> Vec<(BlockName, String)> {
    let hashes = hashes(ram, PIECE_BYTES, allowed_cpus().len());
    let names = ram.iter().map(|block| block.name().clone());
    names.zip(hashes.iter().map(|hash| hash.to_hex().to_string())).collect()
}

/// Puts digests into a report of [`super::query_receiver`], as the member
/// `digest` of each block.
pub fn add_digests(report: &mut Value, digests: &[(BlockName, String)]) {
    let Some(blocks) = report.get_mut("blocks").and_then(Value::as_array_mut) else { return };
    for block in blocks {
        let name = block["name"].as_str().unwrap_or_default();
        if let Some((_, hash)) = digests.iter().find(|(of, _)| of.as_str() == name) {
            block["digest"] = hash.as_str().into();
        }
    }
}

/// A subtree of a block's hash tree: a power of two of bytes, but for the last.
struct Piece<'ram> {
    block: &'ram RamBlock,
    start: u64,
    bytes: u64,
    /// Set by the thread that takes it.
    value: Mutex<ChainingValue>,
}

fn hashes(ram: &RamBlocks, piece_bytes: u64, threads: usize) -> Vec<blake3::Hash> {
    let pieces_of = |block| -> Vec<Piece<'_>> {
        let starts = (0..RamBlock::bytes(block)).step_by(piece_bytes as usize);
        let piece = |start| {
            let bytes = piece_bytes.min(block.bytes() - start);
            Piece { block, start, bytes, value: Mutex::default() }
        };
        starts.map(piece).collect()
    };
    let blocks: Vec<Vec<Piece<'_>>> = ram.iter().map(pieces_of).collect();
    let all: Vec<&Piece<'_>> = blocks.iter().flatten().collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, all.len()) {
            scope.spawn(|| {
                let mut buffer = vec![0; BUFFER_BYTES];
                while let Some(piece) = all.get(next.fetch_add(1, Relaxed)) {
                    *lock(&piece.value) = piece.hash(&mut buffer);
                }
            });
        }
    });
    blocks.iter().map(|pieces| root(pieces)).collect()
}

impl Piece<'_> {
    /// Its chaining value, or the whole hash where it is all of its block.
    fn hash(&self, buffer: &mut [u8]) -> ChainingValue {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(self.start);
        let mut done = 0;
        while done < self.bytes {
            let left = usize::try_from(self.bytes - done).unwrap_or(usize::MAX);
            let part = &mut buffer[..left.min(BUFFER_BYTES)];
            self.block.read(self.start + done, part);
            hasher.update(part);
            done += part.len() as u64;
        }
        if self.bytes == self.block.bytes() {
            return *hasher.finalize().as_bytes();
        }
        hasher.finalize_non_root()
    }
}

/// The hash over all pieces of a block.
fn root(pieces: &[Piece<'_>]) -> blake3::Hash {
    if let [only] = pieces {
        return blake3::Hash::from_bytes(*lock(&only.value));
    }
    let (left, right) = halves(pieces);
    merge_subtrees_root(&value(left), &value(right), Mode::Hash)
}

fn value(pieces: &[Piece<'_>]) -> ChainingValue {
    if let [only] = pieces {
        return *lock(&only.value);
    }
    let (left, right) = halves(pieces);
    merge_subtrees_non_root(&value(left), &value(right), Mode::Hash)
}

/// Where the tree parts: a piece never does, being a power of two.
fn halves<'p, 'ram>(pieces: &'p [Piece<'ram>]) -> (&'p [Piece<'ram>], &'p [Piece<'ram>]) {
    let bytes = pieces.iter().map(|piece| piece.bytes).sum();
    let left = left_subtree_len(bytes) / pieces[0].bytes;
    pieces.split_at(left as usize)
}

/// What a thread takes at a time. A power of two, as the tree's subtrees are.
const PIECE_BYTES: u64 = 64 << 20;
/// What is hashed at a time: all of BLAKE3's lanes are busy, and it stays in
/// the level 2 cache.
const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use landfall_pagepool::{BlockRequest, MemoryConfig, Pool};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_is_the_hash_of_the_bytes_however_they_are_divided() {
        let sizes = [1, 2, 3, 4, 7, 8, 9, 64, 65].map(|pages| pages * 4096);
        let ram = blocks(&sizes);
        for piece_bytes in [4096, 8192, 16384, PIECE_BYTES] {
            for threads in [1, 3] {
                let found = hashes(&ram, piece_bytes, threads);
                for (block, hash) in ram.iter().zip(found) {
                    let wanted = blake3::hash(&content(block.bytes()));
                    assert_eq!(hash, wanted, "{block:?} in pieces of {piece_bytes}");
                }
            }
        }
    }

    #[test]
    fn digests_go_to_the_block_of_their_name() {
        let ram = blocks(&[8192, 4096]);
        let mut report = json!({"blocks": [{"name": "block-1"}, {"name": "other"}]});
        add_digests(&mut report, &digest(&ram));
        let wanted = blake3::hash(&content(4096)).to_hex().to_string();
        assert_eq!(
            report["blocks"],
            json!([{"name": "block-1", "digest": wanted}, {"name": "other"}])
        );
        let mut without = json!({"status": "failed"});
        add_digests(&mut without, &digest(&ram));
        assert_eq!(without, json!({"status": "failed"}), "no blocks, nothing to do");
    }

    fn blocks(sizes: &[u64]) -> RamBlocks {
        let hugepages = landfall_pagepool::Hugepages::Off;
        let config = MemoryConfig { hugepages, ..MemoryConfig::default() };
        let mut pool = Pool::open(&config, &|_, _| {}).unwrap();
        let request = |(index, &bytes): (usize, &u64)| {
            let name = format!("block-{index}");
            BlockRequest { name: BlockName::try_from(name.as_str()).unwrap(), bytes }
        };
        let requests: Vec<_> = sizes.iter().enumerate().map(request).collect();
        let ram = pool.carve(&requests, 4096, &|_, _| {}).unwrap();
        for block in &ram {
            block.lend(0..block.pages());
            block.write(0, &content(block.bytes()));
        }
        ram
    }

    fn content(bytes: u64) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }
}
