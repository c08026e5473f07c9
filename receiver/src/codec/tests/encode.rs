//! A source's side of each method: packets from pages, as much as the tests need.

use std::io::Write;

use flate2::write::{DeflateEncoder, ZlibEncoder};
use flate2::{Compress, Compression as Level, FlushCompress, GzBuilder};
use zstd::stream::raw::{Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

use crate::wire::Compression;

/// Encodes the packets of one channel, one after the other.
pub(in crate::codec) enum Encoder {
    Zlib(Compress),
    Zstd(ZstdEncoder<'static>),
    Qpl,
    Uadk,
    Qatzip,
}

impl Encoder {
    pub(in crate::codec) fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => panic!("nothing to encode"),
            Compression::Zlib => Self::Zlib(Compress::new(Level::fast(), true)),
            Compression::Zstd => Self::Zstd(ZstdEncoder::new(1).unwrap()),
            Compression::Qpl => Self::Qpl,
            Compression::Uadk => Self::Uadk,
            Compression::Qatzip => Self::Qatzip,
        }
    }

    /// The payload of a packet with these pages, which follow each other.
    pub(in crate::codec) fn packet(&mut self, pages: &[u8]) -> Vec<u8> {
        match self {
            Self::Zlib(zlib) => {
                let mut out = Vec::with_capacity(2 * pages.len() + 1024);
                zlib.compress_vec(pages, &mut out, FlushCompress::Sync).unwrap();
                out
            }
            Self::Zstd(zstd) => {
                let mut out = vec![0; 2 * pages.len() + 1024];
                let mut output = OutBuffer::around(&mut out);
                let mut input = InBuffer::around(pages);
                while input.pos() < pages.len() {
                    zstd.run(&mut input, &mut output).unwrap();
                }
                assert_eq!(zstd.flush(&mut output).unwrap(), 0);
                let bytes = output.pos();
                out.truncate(bytes);
                out
            }
            Self::Qpl => by_page(pages, |page| {
                let mut encoder = DeflateEncoder::new(Vec::new(), Level::fast());
                encoder.write_all(page).unwrap();
                encoder.finish().unwrap()
            }),
            Self::Uadk => by_page(pages, |page| {
                let mut encoder = ZlibEncoder::new(Vec::new(), Level::fast());
                encoder.write_all(page).unwrap();
                encoder.finish().unwrap()
            }),
            Self::Qatzip => pages.chunks(QZ_BUFFER_BYTES).flat_map(gzip_ext).collect(),
        }
    }
}

/// Lengths, then pages; what does not get smaller is stored.
fn by_page(pages: &[u8], encode: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let encoded = pages.chunks(4096).map(|page| {
        let encoded = encode(page);
        if encoded.len() < page.len() { encoded } else { page.to_vec() }
    });
    let encoded: Vec<Vec<u8>> = encoded.collect();
    let lengths = encoded.iter().flat_map(|page| (page.len() as u32).to_be_bytes());
    lengths.chain(encoded.iter().flatten().copied()).collect()
}

/// A gzip member with QATzip's extra field: `QZ`, and both sizes.
fn gzip_ext(source: &[u8]) -> Vec<u8> {
    let mut extra = b"QZ\x08\0".to_vec();
    extra.extend((source.len() as u32).to_le_bytes());
    extra.extend([0; 4]);
    let mut encoder = GzBuilder::new().extra(extra).write(Vec::new(), Level::fast());
    encoder.write_all(source).unwrap();
    encoder.finish().unwrap()
}

/// QATzip's default buffer, and so its largest member.
const QZ_BUFFER_BYTES: usize = 64 * 1024;
