//! Compressed payloads, in the form that each of QEMU's methods sends.
//! (QEMU: migration/multifd-zlib.c, multifd-zstd.c, multifd-qpl.c, multifd-uadk.c,
//! multifd-qatzip.c.)

use std::io::{self, Write};

use flate2::{
    Compress, Compression as Level, FlushCompress, GzBuilder,
    write::{DeflateEncoder, ZlibEncoder},
};
use zstd::stream::raw::{Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer};

use super::Append;

/// `multifd-compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Pages as they are.
    #[default]
    None,
    /// A piece of one zlib stream a channel.
    Zlib,
    /// A piece of one zstd frame a channel.
    Zstd,
    /// Lengths, then each page deflated for itself.
    Qpl,
    /// Lengths, then each page as a zlib stream.
    Uadk,
    /// The pages in gzip members of 64 KiB with QATzip's extra field.
    Qatzip,
}

impl Compression {
    /// The method's bit in a packet's flags.
    #[must_use]
    pub const fn flag(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Zlib => 0x02,
            Self::Zstd => 0x04,
            Self::Qpl => 0x08,
            Self::Uadk => 0x10,
            Self::Qatzip => 0x20,
        }
    }

    /// The highest level that QEMU lets a source choose: 20 for zstd, 9 for the others.
    #[must_use]
    pub const fn level_max(self) -> u32 {
        match self {
            Self::Zstd => 20,
            _ => 9,
        }
    }
}

/// Compresses the packets of one channel, one after the other.
pub struct Compressor {
    page_bytes: usize,
    level: Level,
    method: Method,
}

enum Method {
    Zlib(Compress),
    Zstd(ZstdEncoder<'static>),
    Qpl,
    Uadk,
    Qatzip,
}

impl Compressor {
    /// A channel that has sent no packet yet; `None` when it sends pages as they are.
    ///
    /// # Panics
    /// When zstd has no memory.
    #[must_use]
    pub fn new(compression: Compression, level: u32, page_bytes: u32) -> Option<Self> {
        let deflate = Level::new(level.min(9));
        let method = match compression {
            Compression::None => return None,
            Compression::Zlib => Method::Zlib(Compress::new(deflate, true)),
            Compression::Zstd => {
                let level = i32::try_from(level).unwrap_or(i32::MAX);
                Method::Zstd(ZstdEncoder::new(level).expect("memory"))
            }
            Compression::Qpl => Method::Qpl,
            Compression::Uadk => Method::Uadk,
            Compression::Qatzip => Method::Qatzip,
        };
        Some(Self { page_bytes: page_bytes as usize, level: deflate, method })
    }

    /// Appends the payload of a packet with these pages.
    ///
    /// # Panics
    /// When a library fails at what cannot fail.
    pub fn packet(&mut self, pages: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let level = self.level;
        match &mut self.method {
            Method::Zlib(zlib) => {
                // Static codes make noise larger by an eighth.
                out.reserve(pages.len() + pages.len() / 4 + 1024);
                zlib.compress_vec(pages, out, FlushCompress::Sync).expect("a stream goes on");
                assert!(out.len() < out.capacity(), "flushed whole");
            }
            Method::Zstd(zstd) => {
                out.resize(start + zstd::zstd_safe::compress_bound(pages.len()) + 1024, 0);
                let mut output = OutBuffer::around(&mut out[start..]);
                let mut input = InBuffer::around(pages);
                while input.pos() < pages.len() {
                    zstd.run(&mut input, &mut output).expect("room for all of it");
                }
                assert_eq!(zstd.flush(&mut output).expect("room"), 0, "flushed whole");
                let bytes = output.pos();
                out.truncate(start + bytes);
            }
            Method::Qpl => by_page(pages, self.page_bytes, out, |page| {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(page).and_then(|()| encoder.finish())
            }),
            Method::Uadk => by_page(pages, self.page_bytes, out, |page| {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(page).and_then(|()| encoder.finish())
            }),
            Method::Qatzip => {
                for source in pages.chunks(QZ_BUFFER_BYTES) {
                    gzip_ext(source, level, out);
                }
            }
        }
    }
}

/// A table of lengths, then the pages; what does not get smaller goes as it is.
fn by_page(
    pages: &[u8],
    page_bytes: usize,
    out: &mut Vec<u8>,
    encode: impl Fn(&[u8]) -> io::Result<Vec<u8>>,
) {
    let encoded: Vec<Vec<u8>> = pages
        .chunks(page_bytes)
        .map(|page| {
            let encoded = encode(page).expect("memory takes all bytes");
            if encoded.len() < page.len() { encoded } else { page.to_vec() }
        })
        .collect();
    for page in &encoded {
        out.be32(u32::try_from(page.len()).expect("at most a page"));
    }
    encoded.iter().for_each(|page| out.extend_from_slice(page));
}

/// A gzip member whose extra field says both sizes, as QATzip's default format has it
/// (`QZ_DEFLATE_GZIP_EXT`): `QZ`, a length of 8, and two le32.
fn gzip_ext(source: &[u8], level: Level, out: &mut Vec<u8>) {
    let deflated = |extra: Vec<u8>| {
        let mut encoder = GzBuilder::new().extra(extra).write(Vec::new(), level);
        encoder.write_all(source).and_then(|()| encoder.finish()).expect("memory takes all bytes")
    };
    let extra = |deflated_bytes: usize| {
        let mut extra = b"QZ\x08\0".to_vec();
        for bytes in [source.len(), deflated_bytes] {
            extra.extend_from_slice(&u32::try_from(bytes).expect("small").to_le_bytes());
        }
        extra
    };
    let member = deflated(extra(0));
    let deflated_bytes = member.len() - GZIP_EXT_BYTES;
    let sizes = extra(deflated_bytes);
    let start = out.len();
    out.extend_from_slice(&member);
    out[start + EXTRA_AT..][..sizes.len()].copy_from_slice(&sizes);
}

/// QATzip's default buffer (`QZ_HW_BUFF_SZ`), and so its largest member.
const QZ_BUFFER_BYTES: usize = 64 * 1024;
/// Where a member's extra field begins: behind its fixed header and a length.
const EXTRA_AT: usize = 10 + 2;
/// A member without its deflated bytes: header, extra field, trailer.
const GZIP_EXT_BYTES: usize = EXTRA_AT + 12 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(compression: Compression, pages: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Compressor::new(compression, 1, 4096).expect("a method").packet(pages, &mut out);
        out
    }

    #[test]
    fn streams_begin_and_flush_as_observed() {
        let mut zlib = Compressor::new(Compression::Zlib, 1, 4096).expect("a method");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        zlib.packet(&[7; 8192], &mut first);
        zlib.packet(&[8; 8192], &mut second);
        assert_eq!(first[..2], [0x78, 0x01]);
        assert_ne!(second[..2], [0x78, 0x01]);
        assert!(first.ends_with(&[0, 0, 0xff, 0xff]) && second.ends_with(&[0, 0, 0xff, 0xff]));
        let zstd = compressed(Compression::Zstd, &[7; 8192]);
        assert_eq!(zstd[..6], [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x48]);
    }

    #[test]
    fn what_does_not_get_smaller_is_stored_and_told_by_its_length() {
        let mut pages: Vec<u8> = (0..4096u32).map(|at| (at.wrapping_mul(at) >> 3) as u8).collect();
        let mut random = fastrand::Rng::with_seed(1);
        pages.extend((0..4096).map(|_| random.u8(..)));
        for compression in [Compression::Qpl, Compression::Uadk] {
            let out = compressed(compression, &pages);
            let first = u32::from_be_bytes(out[..4].try_into().expect("four"));
            assert!(first < 4096, "{first}");
            assert_eq!(out[4..8], 4096u32.to_be_bytes());
            assert!(out.ends_with(&pages[4096..]));
            assert_eq!(out.len(), 8 + first as usize + 4096);
        }
    }

    #[test]
    fn a_gzip_member_says_both_of_its_sizes() {
        let out = compressed(Compression::Qatzip, &[7; 4096]);
        assert_eq!(out[..4], [0x1f, 0x8b, 8, 4], "FEXTRA");
        assert_eq!(out[10..16], *b"\x0c\0QZ\x08\0");
        assert_eq!(out[16..20], 4096u32.to_le_bytes());
        assert_eq!(out[20..24], ((out.len() - 32) as u32).to_le_bytes());
        assert_eq!(out[out.len() - 4..], 4096u32.to_le_bytes());
    }
}
