//! Whole small streams, for fuzzers to begin from.

/// A stream with everything on main, one in the shape of multifd, one without
/// configuration and footers, one with iterables and an early device, one with
/// postcopy announced.
pub fn main_stream_seeds() -> Vec<Vec<u8>> {
    let open: &[u8] =
        b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0\x08\0\x01\0\0\x08\0\x02\0\x04\0\0\0\x01";
    let ram: &[u8] = b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\x70\x04\
        \x03mem\0\0\0\0\0\0\x50\0\x06pc.rom\0\0\0\0\0\0\x20\0";
    let flush: &[u8] = b"\0\0\0\0\0\0\x02\0";
    let eos: &[u8] = b"\0\0\0\0\0\0\0\x10";
    let footer: &[u8] = b"\x7e\0\0\0\x01";
    let part: &[u8] = b"\x02\0\0\0\x01";
    let last: &[u8] = b"\x08\0\x0b\0\0\x03\0\0\0\x01";
    let zeroes: &[u8] = b"\0\0\0\0\0\0\0\x02\x03mem\0\0\0\0\0\0\0\x10\x22\0";
    let page = [b"\0\0\0\0\0\0\x10\x08\x06pc.rom".as_slice(), &[0x5a; 4096]].concat();
    let xbzrle: &[u8] = b"\0\0\0\0\0\0\x40\x40\x03mem\x01\0\x07\x64\x01\x31\xeb\x0e\x01\x38";
    let devices: &[u8] = b"\x04\0\0\0\0\x05timer\0\0\0\0\0\0\0\x02\x01\x02\x03\x7e\0\0\0\0\
        \x04\0\0\0\x27\x0bglobalstate\0\0\0\0\0\0\0\x01\0\0\0\x08running\0\x7e\0\0\0\x27";
    let bare: &[u8] = b"\x04\0\0\0\0\x05timer\0\0\0\0\0\0\0\x02\x01\x02\x03\
        \x04\0\0\0\x27\x0bglobalstate\0\0\0\0\0\0\0\x01\0\0\0\x08running\0";
    let text: &[u8] = br#"{"devices": [{"name": "timer", "instance_id": 0, "fields": [{"size": 3}]}, {"name": "globalstate", "instance_id": 0, "size": 12}]}"#;
    let end = super::encode::end(&[0], text);
    let bitmap: &[u8] = b"\x01\0\0\0\x02\x0cdirty-bitmap\0\0\0\0\0\0\0\x01\
        \x1c\x04node\x03bit\0\x01\0\0\x01\x01\x7e\0\0\0\x02\x02\0\0\0\x02\x01\x7e\0\0\0\x02";
    let unknown: &[u8] = b"\x01\0\0\0\x05\x07unknown\0\0\0\0\0\0\0\x01abcdef\x7e\0\0\0\x05";
    let early: &[u8] = b"\x04\0\0\0\x06\x0bearly/thing\0\0\0\0\0\0\0\x01abcdef\x7e\0\0\0\x06";
    let advise: &[u8] = b"\x08\0\x03\0\x10\0\0\0\0\0\x20\x10\0\0\0\0\0\0\0\x10\0";
    let start = [ram, eos, footer].concat();
    let tail = [devices, &end].concat();
    vec![
        [open, &start, part, zeroes, &page, eos, footer, last, xbzrle, eos, footer, &tail].concat(),
        [open, ram, flush, eos, footer, part, flush, eos, footer, last, flush, eos, footer, &tail]
            .concat(),
        [b"QEVM\0\0\0\x03", ram, eos, part, zeroes, eos, last, eos, bare, &end].concat(),
        [open, bitmap, &start, unknown, early, part, zeroes, eos, footer, last, eos, footer, &tail]
            .concat(),
        [open, advise, &start, last, zeroes, eos, footer, &tail].concat(),
        // The shape of a background snapshot.
        [open, &start, part, zeroes, eos, footer, &tail].concat(),
    ]
}

/// Files to begin from: one RAM block of two pages, with places for both.
pub fn mapped_ram_file_seeds() -> Vec<Vec<u8>> {
    const PAGES_AT: usize = 4096;
    let open: &[u8] = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0\x05\x1aconfiguration/capabilities\
        \0\0\0\x01\0\0\0\x01\x0amapped-ram\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04\
        \0\0\0\0\0\0\x20\x04\x03mem\0\0\0\0\0\0\x20\0\0\0\0\x01\0\0\0\0\0\0\x10\0";
    let mut file = open.to_vec();
    let bitmap_at = u64::try_from(file.len().saturating_add(16)).unwrap_or_default();
    file.extend(bitmap_at.to_be_bytes());
    file.extend(u64::try_from(PAGES_AT).unwrap_or_default().to_be_bytes());
    file.extend(3u64.to_le_bytes());
    file.resize(PAGES_AT, 0);
    file.resize(PAGES_AT.saturating_add(8192), 0x5a);
    file.extend(b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01\x03\0\0\0\x01\0\0\0\0\0\0\0\x10\x7e\0\0\0\x01");
    vec![file]
}
