use super::*;

const PAGE: PageBytes = PageBytes::DEFAULT;

/// A header from its numbers; offsets count down by pages from 0x7f000.
fn header(flags: u32, alloc: u32, normal: u32, size: u32, zero: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [0x1122_3344, 1, flags, alloc, normal, size, 0, 2, zero] {
        bytes.extend(u32::to_be_bytes(number));
    }
    bytes.resize(64, 0);
    bytes.extend(b"mem");
    bytes.resize(320, 0);
    for index in 0..128u64 {
        bytes.extend(((0x7f - index) * 0x1000).to_be_bytes());
    }
    bytes
}

fn parse(bytes: &[u8]) -> PacketHeader<'_> {
    PacketHeader::parse(bytes, PAGE).unwrap()
}

#[test]
fn the_observed_10_0_packet_parses() {
    let bytes = header(0, 0x80, 0x40, 0x4_0000, 0x40);
    let observed = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0\0\0\0\0\x80\0\0\0\x40\0\x04\0\0\
        \0\0\0\0\0\0\0\x02\0\0\0\x40\0\0\0\0";
    assert!(bytes.starts_with(observed));
    let packet = parse(&bytes);
    assert_eq!((packet.normal_count(), packet.zero_count()), (64, 64));
    assert_eq!(packet.payload_bytes(), 0x4_0000);
    assert_eq!((packet.packet_num, packet.block_name()), (2, &b"mem"[..]));
    assert!(!packet.is_sync());
    assert_eq!(packet.normal_offsets().next(), Some(0x7_f000));
    assert_eq!(packet.normal_offsets().nth(1), Some(0x7_e000));
    assert_eq!(packet.zero_offsets().next(), Some(0x3_f000));
    assert_eq!(packet.zero_offsets().last(), Some(0));
}

#[test]
fn sync_packets_of_all_versions_parse() {
    // 10.0 and 11.1: nothing but the flag.
    let packet = header(1, 0, 0, 0, 0);
    assert!(parse(&packet).is_sync());
    // 7.2: stale size, name and offsets; nothing follows.
    let packet = header(1, 0x80, 0, 0x8_0000, 0);
    assert_eq!(parse(&packet).payload_bytes(), 0);
    // 7.2: pages first, then the sync.
    for (flags, size) in [(0x01, 0x8_0000), (0x03, 1234), (0x05, 99)] {
        let bytes = header(flags, 0x80, 0x80, size, 0);
        let packet = parse(&bytes);
        assert!(packet.is_sync());
        assert_eq!((packet.normal_count(), packet.payload_bytes()), (128, size));
    }
}

#[test]
fn an_empty_packet_has_no_payload_whatever_its_size_says() {
    for size in [0, 1, u32::MAX] {
        let bytes = header(0, 0x80, 0, size, 0);
        let packet = parse(&bytes);
        assert_eq!((packet.payload_bytes(), packet.normal_count()), (0, 0));
    }
    let bytes = header(0, 0x80, 0, 0, 0x80);
    assert_eq!(parse(&bytes).zero_count(), 128);
}

#[test]
fn each_compression_has_its_flag() {
    let cases = [
        (0x02, Compression::Zlib),
        (0x04, Compression::Zstd),
        (0x08, Compression::Qpl),
        (0x10, Compression::Uadk),
        (0x20, Compression::Qatzip),
    ];
    for (flags, compression) in cases {
        let bytes = header(flags, 0x80, 1, 100, 0);
        assert_eq!(parse(&bytes).compression(), compression);
    }
}

#[test]
fn counts_sizes_and_flags_beyond_their_limits_are_refused() {
    let cases = [
        (header(0, 129, 0, 0, 0), "pages_alloc"),
        (header(0, 0x80, 129, 129 * 4096, 0), "normal_pages"),
        (header(0, 0x40, 0x41, 0x41 * 4096, 0), "normal_pages"),
        (header(0, 0x80, 0x40, 0x4_0000, 0x41), "zero_pages"),
        (header(0, 0, 0, 0, 1), "zero_pages"),
        (header(0, 0x80, 1, 4095, 0), "next_packet_size"),
        (header(0, 0x80, 1, 0, 0), "next_packet_size"),
        (header(2, 0x80, 1, 0, 0), "next_packet_size"),
        (header(2, 0x80, 1, 0x10_0001, 0), "next_packet_size"),
        (header(0x80, 0x80, 0, 0, 0), "flags"),
        (header(0x06, 0x80, 0, 0, 0), "flags"),
        (header(0x40, 0x80, 0, 0, 0), "flags"),
    ];
    for (bytes, field) in cases {
        let error = PacketHeader::parse(&bytes, PAGE).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
    let error = PacketHeader::parse(&header(0, 0x80, 129, 0, 0), PAGE).unwrap_err();
    assert_eq!(error.to_string(), "normal_pages is 129, limit 128");
    assert_eq!(error.at, 16);
}

#[test]
fn the_first_twelve_bytes_tell_which_header_it_is() {
    for (flags, kind, bytes) in [
        (0, PacketKind::Ram, 1344),
        (1, PacketKind::Ram, 1344),
        (0x40, PacketKind::DeviceState, 276),
    ] {
        let header = header(flags, 0, 0, 0, 0);
        let start = PacketStart::parse(header.first_chunk().unwrap()).unwrap();
        assert_eq!((start.kind(), start.kind().header_bytes(PAGE)), (kind, bytes));
    }
    for flags in [0x41, 0x42, 0x100, 0x8000_0000] {
        let header = header(flags, 0, 0, 0, 0);
        assert!(PacketStart::parse(header.first_chunk().unwrap()).is_err(), "{flags:#x}");
    }
}

#[test]
fn offsets_are_checked_up_to_the_last_page_and_no_further() {
    let mut bytes = header(0, 0x80, 2, 0x2000, 1);
    assert!(parse(&bytes).check_offsets(0x8_0000, PAGE).is_ok());
    let error = parse(&bytes).check_offsets(0x7_f000, PAGE).unwrap_err();
    assert_eq!((error.field, error.at), ("offset", 320));
    assert_eq!(error.fault, WireFault::OverLimit { found: 0x7_f000, limit: 0x7_e000 });
    assert!(parse(&bytes).check_offsets(0, PAGE).is_err());

    // The third is the zero page; the fourth is stale.
    bytes[320 + 3 * 8..].fill(0xff);
    assert!(parse(&bytes).check_offsets(0x8_0000, PAGE).is_ok());
    bytes[320 + 2 * 8 + 7] = 1;
    let error = parse(&bytes).check_offsets(0x8_0000, PAGE).unwrap_err();
    assert_eq!(
        (error.at, error.fault),
        (336, WireFault::Unaligned { found: 0x7_d001, unit: 4096 })
    );
}

#[test]
fn a_name_is_cut_at_its_first_nul_and_its_last_byte_is_one() {
    let mut bytes = header(0, 0x80, 0, 0, 1);
    bytes[64..320].fill(b'x');
    assert_eq!(parse(&bytes).block_name(), [b'x'; 255]);
    bytes[64] = 0;
    assert_eq!(parse(&bytes).block_name(), b"");
}

#[test]
fn every_prefix_is_an_error() {
    let mut bytes = header(0, 0x80, 0x40, 0x4_0000, 0x40);
    for cut in 0..bytes.len() {
        let error = PacketHeader::parse(&bytes[..cut], PAGE).unwrap_err();
        assert!(error.is_short(), "cut at {cut}: {error}");
    }
    bytes.push(0);
    assert!(PacketHeader::parse(&bytes, PAGE).is_err());
}

#[test]
fn every_flipped_bit_ends_in_an_answer() {
    let bytes = header(0, 0x80, 0x40, 0x4_0000, 0x40);
    for bit in 0..64 * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 0x80 >> (bit % 8);
        let _ = PacketHeader::parse(&changed, PAGE);
    }
}

#[test]
fn larger_pages_make_smaller_headers() {
    let page = PageBytes::new(65536).unwrap();
    let mut bytes = header(0, 8, 8, 0x8_0000, 0);
    bytes.truncate(384);
    assert_eq!(PacketHeader::parse(&bytes, page).unwrap().normal_count(), 8);
}
