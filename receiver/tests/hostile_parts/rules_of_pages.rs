//! Rules of the items of ram: pages in every encoding.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use landfall_receiver::error::Family::{Malformed, Misbehaved, Unsupported};

use super::host::Host;
use super::rules::{Rule, part, refused, taken};
use super::source::*;

pub(super) fn page_items() -> Rule {
    let page = [0x5a; 4096];
    let flags = |flags: u64| part(&page_item(flags, 0, &page));
    let at = |offset: u64| part(&page_item(PAGE, offset, &page));
    let no_meaning = || refused(Malformed, "which has no known meaning");
    let mut continued = page_item(PAGE, 0, &page);
    continued.extend(item(PAGE | CONTINUE | 0x1000));
    continued.extend(page);
    let mut past = page_item(PAGE, 0, &page);
    past.extend(item(PAGE | CONTINUE | BLOCK_BYTES));
    Rule {
        name: "page items",
        rows: vec![
            ("one flag", flags(PAGE), taken()),
            ("two flags", flags(PAGE | ZERO), no_meaning()),
            ("no flag", flags(0), no_meaning()),
            ("the dead flag", flags(1), no_meaning()),
            ("a flag past the last", flags(0x400), no_meaning()),
            ("CONTINUE alone", part(&item(CONTINUE)), no_meaning()),
            ("EOS with an address", part(&item(EOS | 0x1000)), no_meaning()),
            ("CONTINUE after a page", part(&continued), taken()),
            ("CONTINUE first", part(&item(PAGE | CONTINUE)), {
                refused(Misbehaved, "continues the block of the item before, but there was none")
            }),
            ("another block", part(&[&item(PAGE)[..], b"\x03men"].concat()), {
                refused(Malformed, "block 'men' is not in the source's list")
            }),
            ("the last page", at(BLOCK_BYTES - 4096), taken()),
            ("the page past it", at(BLOCK_BYTES), {
                refused(Malformed, "page offset 0x40000 is past used_length 0x40000 of block 'mem'")
            }),
            ("that page, continued", part(&past), {
                refused(Malformed, "page offset 0x40000 is past used_length 0x40000 of block 'mem'")
            }),
            ("the page past all", at(u64::MAX - 4095), refused(Malformed, "0xfffffffffffff000")),
            ("rdma", part(&item(0x80)), refused(Unsupported, "rdma")),
        ],
    }
}

pub(super) fn zero_items() -> Rule {
    let fill = |fill: u8| part(&page_item(ZERO, 0x3000, &[fill]));
    Rule {
        name: "ZERO",
        rows: vec![
            ("fill 0", fill(0), taken()),
            ("fill 1", fill(1), refused(Malformed, "fill byte is 0x1, must be 0x0")),
            ("fill 255", fill(255), refused(Malformed, "fill byte is 0xff, must be 0x0")),
        ],
    }
}

pub(super) fn xbzrle() -> Rule {
    let encoded = |kind: u8, claimed: u16, bytes: &[u8]| {
        let rest = [&[kind], &claimed.to_be_bytes()[..], bytes].concat();
        part(&page_item(XBZRLE, 0, &rest))
    };
    let runs = |bytes: &[u8]| encoded(1, bytes.len() as u16, bytes);
    // 4093 changed bytes, which with their two lengths make 4096.
    let longest = [&[0, 0xfd, 0x1f][..], &[7; 4093]].concat();
    Rule {
        name: "XBZRLE",
        rows: vec![
            ("n of a page", runs(&longest), taken()),
            ("n of a byte more", encoded(1, 4097, &[0; 4097]), {
                refused(Malformed, "xbzrle length is 4097, limit 4096")
            }),
            ("n of 64 KiB", encoded(1, u16::MAX, &[]), {
                refused(Malformed, "xbzrle length is 65535, limit 4096")
            }),
            ("another encoding", encoded(2, 3, &[0, 1, 7]), {
                refused(Malformed, "xbzrle encoding is 0x2, must be 0x1")
            }),
            ("up to the page's last byte", runs(&[0xff, 0x1f, 1, 7]), taken()),
            ("past it", runs(&[0xff, 0x1f, 2, 7, 7]), {
                refused(Malformed, "xbzrle changed run is 4097, limit 4096")
            }),
            ("no unchanged byte at first", runs(&[0, 1, 7]), taken()),
            ("none later", runs(&[0, 1, 7, 0, 1, 7]), {
                refused(Malformed, "xbzrle unchanged run is 0, at least 1 needed")
            }),
            ("no changed byte", runs(&[1, 0]), {
                refused(Malformed, "xbzrle changed run is 0, at least 1 needed")
            }),
            ("changed bytes that are cut", runs(&[1, 3, 7, 7]), {
                refused(Malformed, "xbzrle changed bytes is cut: 1 more bytes needed")
            }),
            ("a length of three bytes", runs(&[0x80, 0x80, 1, 1, 7]), {
                refused(Malformed, "xbzrle unchanged run is 0x80, which has no known meaning")
            }),
        ],
    }
}

pub(super) fn compressed_pages() -> Rule {
    let claimed = |claimed: u32, bytes: &[u8]| {
        part(&page_item(COMPRESS_PAGE, 0, &[&claimed.to_be_bytes(), bytes].concat()))
    };
    let zlib = |level: Compression, bytes: &[u8]| {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let whole = |bytes: Vec<u8>| claimed(bytes.len() as u32, &bytes);
    let length = || refused(Malformed, "not a zlib stream of 4096 bytes that ends with the record");
    let mut padded = zlib(Compression::best(), &[7; 4096]);
    padded.push(0);
    Rule {
        name: "COMPRESS_PAGE",
        rows: vec![
            ("a page", whole(zlib(Compression::best(), &[7; 4096])), taken()),
            ("a page that does not shrink", whole(zlib(Compression::none(), &[7; 4096])), taken()),
            ("a byte less", whole(zlib(Compression::best(), &[7; 4095])), length()),
            ("a byte more", whole(zlib(Compression::best(), &[7; 4097])), length()),
            ("a bomb of 4 MiB", whole(zlib(Compression::best(), &[0; 4 << 20])), length()),
            ("a byte behind the stream", whole(padded), length()),
            ("no zlib", claimed(3, b"abc"), {
                refused(Malformed, "compressed page is not a zlib stream")
            }),
            ("compressBound of a page, no zlib", claimed(4110, &[0xaa; 4110]), {
                refused(Malformed, "compressed page is not a zlib stream")
            }),
            ("a byte more than compressBound", claimed(4111, &[]), {
                refused(Malformed, "compressed length is 4111, limit 4110")
            }),
            ("4 GiB", claimed(u32::MAX, &[]), {
                refused(Malformed, "compressed length is 4294967295, limit 4110")
            }),
        ],
    }
}

const COMPRESS_PAGE: u64 = 0x100;

#[test]
fn pages_that_came_before_a_wrong_one_count() {
    let host = Host::new(10_000);
    let page = page_item(PAGE, 0, &[1; 4096]);
    let script =
        part(&[page, [item(PAGE | CONTINUE | 4096), vec![2; 4096]].concat(), item(0)].concat());
    let attacked = host.start(Some(0));
    let mut source = Source::connect(attacked.port, 0);
    let _ = source.send(&script.steps);
    let migration = &attacked.migration;
    assert_eq!(migration.wait().error.as_ref().map(|error| error.family), Some(Malformed));
    assert_eq!(migration.run.main.normal.get(), 2);
    assert!(migration.run.ram().unwrap()[0].is_received(1));
}
