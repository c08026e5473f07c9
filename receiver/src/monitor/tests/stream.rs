//! The smallest migration: one page, and the device `globalstate`.

use std::iter;

/// What a source sends whose guest was in `run_state`.
pub(super) fn whole(run_state: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"QEVM\0\0\0\x03");
    bytes.extend(b"\x07\0\0\0\x0bpc-q35-10.0");
    // RAM: the block list, the page 0x1000 of all that is zero, the end.
    bytes.extend(b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04");
    bytes.extend(0x1004_u64.to_be_bytes());
    bytes.extend(b"\x03mem");
    bytes.extend(0x1000_u64.to_be_bytes());
    end_of_ram_section(&mut bytes);
    bytes.extend(b"\x02\0\0\0\x01");
    bytes.extend(0x0002_u64.to_be_bytes());
    bytes.extend(b"\x03mem\0");
    end_of_ram_section(&mut bytes);
    bytes.extend(b"\x03\0\0\0\x01");
    end_of_ram_section(&mut bytes);
    // The device state: its size in a field, then 100 bytes.
    bytes.extend(b"\x04\0\0\0\x02\x0bglobalstate\0\0\0\0\0\0\0\x01");
    let length = u32::try_from(run_state.len() + 1).unwrap();
    bytes.extend(length.to_be_bytes());
    bytes.extend(run_state.bytes().chain(iter::repeat(0)).take(100));
    bytes.extend(b"\x7e\0\0\0\x02\0\x06");
    let description = br#"{"page_size": 4096, "devices": [{"name": "globalstate", "instance_id": 0, "fields": [{"size": 4}, {"size": 100}]}]}"#;
    bytes.extend(u32::try_from(description.len()).unwrap().to_be_bytes());
    bytes.extend(description);
    bytes
}

fn end_of_ram_section(bytes: &mut Vec<u8>) {
    bytes.extend(0x0010_u64.to_be_bytes());
    bytes.extend(b"\x7e\0\0\0\x01");
}
