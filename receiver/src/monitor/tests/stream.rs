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
    device_state(&mut bytes, run_state);
    bytes
}

/// What a source sends whose target has pages of `page` bytes: of three the middle one has
/// content. Its size is said by the machine, or by POSTCOPY_ADVISE.
pub(super) fn of_pages(page: u16, machine: &str, is_advised: bool) -> Vec<u8> {
    let page = u64::from(page);
    let mut bytes = Vec::new();
    bytes.extend(b"QEVM\0\0\0\x03\x07");
    bytes.extend(u32::try_from(machine.len()).unwrap().to_be_bytes());
    bytes.extend(machine.as_bytes());
    if is_advised {
        bytes.extend(b"\x08\0\x03\0\x10");
        bytes.extend(page.to_be_bytes());
        bytes.extend(page.to_be_bytes());
    }
    bytes.extend(b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04");
    bytes.extend((3 * page + 4).to_be_bytes());
    bytes.extend(b"\x03mem");
    bytes.extend((3 * page).to_be_bytes());
    end_of_ram_section(&mut bytes);
    bytes.extend(b"\x02\0\0\0\x01");
    bytes.extend(0x0002_u64.to_be_bytes());
    bytes.extend(b"\x03mem\0");
    bytes.extend((page + 0x0028).to_be_bytes());
    bytes.extend((0..page).map(|at| (at % 251) as u8));
    bytes.extend((2 * page + 0x0022).to_be_bytes());
    bytes.extend(b"\0");
    end_of_ram_section(&mut bytes);
    bytes.extend(b"\x03\0\0\0\x01");
    end_of_ram_section(&mut bytes);
    device_state(&mut bytes, "paused");
    bytes
}

/// What a source sends of `count` pages of 4 KiB, all with content: [`full_page`].
pub(super) fn of_full_pages(count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"QEVM\0\0\0\x03");
    bytes.extend(b"\x07\0\0\0\x0bpc-q35-10.0");
    bytes.extend(b"\x01\0\0\0\x01\x03ram\0\0\0\0\0\0\0\x04");
    bytes.extend((count * 4096 + 4).to_be_bytes());
    bytes.extend(b"\x03mem");
    bytes.extend((count * 4096).to_be_bytes());
    end_of_ram_section(&mut bytes);
    bytes.extend(b"\x02\0\0\0\x01");
    for page in 0..count {
        let (flags, name) = if page == 0 { (0x08, &b"\x03mem"[..]) } else { (0x28, &b""[..]) };
        bytes.extend((page * 4096 + flags).to_be_bytes());
        bytes.extend(name);
        bytes.extend(full_page(page));
    }
    end_of_ram_section(&mut bytes);
    bytes.extend(b"\x03\0\0\0\x01");
    end_of_ram_section(&mut bytes);
    device_state(&mut bytes, "paused");
    bytes
}

/// The content of one of these pages.
pub(super) fn full_page(page: u64) -> impl Iterator<Item = u8> {
    (0..4096).map(move |at| ((page + at) % 251) as u8 + 1)
}

/// The one device: its size in a field, then 100 bytes. And the end.
fn device_state(bytes: &mut Vec<u8>, run_state: &str) {
    bytes.extend(b"\x04\0\0\0\x02\x0bglobalstate\0\0\0\0\0\0\0\x01");
    let length = u32::try_from(run_state.len() + 1).unwrap();
    bytes.extend(length.to_be_bytes());
    bytes.extend(run_state.bytes().chain(iter::repeat(0)).take(100));
    bytes.extend(b"\x7e\0\0\0\x02\0\x06");
    let description = br#"{"page_size": 4096, "devices": [{"name": "globalstate", "instance_id": 0, "fields": [{"size": 4}, {"size": 100}]}]}"#;
    bytes.extend(u32::try_from(description.len()).unwrap().to_be_bytes());
    bytes.extend(description);
}

fn end_of_ram_section(bytes: &mut Vec<u8>) {
    bytes.extend(0x0010_u64.to_be_bytes());
    bytes.extend(b"\x7e\0\0\0\x01");
}
