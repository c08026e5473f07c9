//! TLS records of 4 and 16 KiB, opened in place as they lie behind each other on the wire.

use criterion::{BatchSize, Criterion, Throughput};
use landfall_receiver::tls::record::{ContentType, Form, Protection, RecordHeader};
use ring::aead;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let suites = [
        ("aes-128-gcm", &aead::AES_128_GCM),
        ("aes-256-gcm", &aead::AES_256_GCM),
        ("chacha20-poly1305", &aead::CHACHA20_POLY1305),
    ];
    for (suite, algorithm) in suites {
        let protection = || {
            let key = &[0x5a; 32][..algorithm.key_len()];
            Protection::with_key(Form::Tls13, 0, algorithm, key, [7; 12])
        };
        let mut group = criterion.benchmark_group(suite);
        group.throughput(Throughput::Bytes(PLAIN_BYTES as u64));
        for record_bytes in [4096, 16384] {
            let plain: Vec<u8> = (0..PLAIN_BYTES).map(|at| ((at * 31) >> 3) as u8).collect();
            let mut sealed = Vec::new();
            let mut sealing = protection();
            for piece in plain.chunks(record_bytes) {
                sealing.seal(ContentType::DATA, piece, &mut sealed);
            }
            let mut opened = sealed.clone();
            assert!(open(protection(), &mut opened) == plain, "the plaintext comes out again");
            group.bench_function(format!("{} KiB", record_bytes / 1024), |bencher| {
                bencher.iter_batched(
                    || (protection(), sealed.clone()),
                    |(mut opening, mut wire)| {
                        // Each record's tag is its own check.
                        assert_eq!(walk(&mut opening, &mut wire, |_| {}), PLAIN_BYTES);
                        wire
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

fn open(mut opening: Protection, wire: &mut [u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    walk(&mut opening, wire, |bytes| plain.extend_from_slice(bytes));
    plain
}

/// Opens record after record; returns how many bytes of plaintext there were.
fn walk(opening: &mut Protection, mut wire: &mut [u8], mut take: impl FnMut(&[u8])) -> usize {
    let mut bytes = 0;
    while let Some(header) = RecordHeader::parse(wire).expect("a record") {
        let (record, rest) = wire.split_at_mut(header.bytes);
        let (_, plain) = opening.open(header, record).expect("as it was sealed");
        bytes += plain.len();
        take(&record[plain]);
        wire = rest;
    }
    bytes
}

/// A packet's pages: they stay in the level 2 cache, where a receive has just put them.
const PLAIN_BYTES: usize = 512 * 1024;
