use super::*;

/// Walks `bytes` whole and then one byte at a time; both must end at the last
/// byte of all.
fn ends_exactly(iterable: Iterable, bytes: &[u8]) {
    let mut padded = bytes.to_vec();
    padded.extend([0xaa; 8]);
    let whole = Walk::new(iterable).step(&padded);
    assert_eq!(whole, Ok(Walked { taken: bytes.len(), ended: true }), "{iterable:?}");

    let mut walk = Walk::new(iterable);
    let mut from = 0;
    for to in 1..=bytes.len() {
        let walked = walk.step(&bytes[from..to]).unwrap();
        from += walked.taken;
        assert!(to - from <= ITEM_BYTES_MAX);
        assert_eq!(walked.ended, to == bytes.len(), "{iterable:?} at {to}");
    }
}

#[test]
fn dirty_bitmaps_are_walked_as_observed() {
    ends_exactly(Iterable::DirtyBitmap, b"\x1c\x04disk\x02b0\0\x01\0\0\x01\x01");
    ends_exactly(Iterable::DirtyBitmap, b"\x01");
    let zeroes = b"\x42\0\0\0\0\0\0\0\0\0\0\x10\0\x20\x01";
    ends_exactly(Iterable::DirtyBitmap, zeroes);
    let bits = b"\x40\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x03abc\x20\x01";
    ends_exactly(Iterable::DirtyBitmap, bits);
}

#[test]
fn a_bitmap_may_have_any_name() {
    ends_exactly(Iterable::DirtyBitmap, "\x1c\x04disk\x07größe\0\x01\0\0\x01\x01".as_bytes());
}

#[test]
fn dirty_bitmap_flags_with_unknown_bits_are_refused() {
    for bytes in [&b"\x00"[..], b"\x11", b"\x80\x01", b"\x80\x80\0\x01", b"\x1c\0"] {
        assert!(Walk::new(Iterable::DirtyBitmap).step(bytes).is_err(), "{bytes:x?}");
    }
}

#[test]
fn disks_are_walked() {
    let mut bytes = b"\0\0\0\0\0\0\0\x09\x05disk0".to_vec();
    bytes.extend(b"\0\0\0\0\0\0\x02\x01\x05disk0");
    bytes.extend(std::iter::repeat_n(7, 1024 * 1024));
    bytes.extend(b"\0\0\0\0\0\0\x0a\x04");
    bytes.extend(b"\0\0\0\0\0\0\0\x02");
    let mut from = 0;
    let mut walk = Walk::new(Iterable::Block);
    for to in (0..bytes.len()).step_by(4096).chain([bytes.len()]) {
        let walked = walk.step(&bytes[from..to]).unwrap();
        from += walked.taken;
        assert_eq!(walked.ended, from == bytes.len());
    }
    assert_eq!(from, bytes.len());
    assert!(Walk::new(Iterable::Block).step(&[0; 8]).is_err());
}

#[test]
fn vfio_state_is_walked() {
    let tag = |last: u8| [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, last];
    let setup: Vec<u8> = [tag(3), tag(1)].concat();
    ends_exactly(Iterable::Vfio, &setup);
    let mut data = tag(4).to_vec();
    data.extend(b"\0\0\0\0\0\0\0\x05hello");
    data.extend(tag(1));
    ends_exactly(Iterable::Vfio, &data);
    ends_exactly(Iterable::Vfio, &tag(5));
    assert!(Walk::new(Iterable::Vfio).step(&tag(2)).is_err());
}

#[test]
fn a_hash_table_is_walked() {
    ends_exactly(Iterable::SpaprHtab, b"\xff\xff\xff\xff");
    ends_exactly(Iterable::SpaprHtab, b"\0\0\0\x18");
    let mut table = b"\0\0\0\0\0\0\0\x07\0\x02\0\x01".to_vec();
    table.extend([5; 32]);
    table.extend([0; 8]);
    ends_exactly(Iterable::SpaprHtab, &table);
}

#[test]
fn storage_attributes_are_walked() {
    let bytes = b"\0\0\0\0\0\0\x10\x02\0\0\0\0\0\0\0\x03abc\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x01";
    ends_exactly(Iterable::S390Attributes, bytes);
    assert!(Walk::new(Iterable::S390Attributes).step(&[0; 8]).is_err());
}

#[test]
fn early_virtio_mem_has_its_bitmap_in_whole_words() {
    let mut bytes = vec![0; 8];
    bytes.extend((65u64 * 0x20_0000).to_be_bytes());
    bytes.extend(0x20_0000u64.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend([1; 16]);
    ends_exactly(Iterable::VirtioMemEarly, &bytes);
    bytes[16..24].fill(0);
    assert!(Walk::new(Iterable::VirtioMemEarly).step(&bytes).is_err(), "block size 0");
}

#[test]
fn lengths_above_their_limits_are_refused() {
    let bits = b"\x40\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\x04\0\0\x01";
    let error = Walk::new(Iterable::DirtyBitmap).step(bits).unwrap_err();
    assert!(matches!(error.fault, WireFault::OverLimit { .. }));
}

#[test]
fn iterables_are_known_by_name() {
    assert_eq!(Iterable::of("0000:00:05.0/vfio"), Some(Iterable::Vfio));
    assert_eq!(Iterable::of("ram"), None);
    let early = "0000:00:04.0/virtio-mem-device-early";
    assert_eq!(Iterable::of_early(early), Some(Iterable::VirtioMemEarly));
    assert_eq!(Iterable::of(early), None);
}
