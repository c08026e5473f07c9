use super::*;

const AROUND: Surroundings<'_> =
    Surroundings { footers: Footers::On, early: &[], is_taken: &|_| false };

fn with_description(state: &[u8], text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [state, &[0, 6], &length, text].concat()
}

const EMPTY: &[u8] = br#"{"page_size": 4096, "devices": []}"#;

#[test]
fn a_state_without_devices_is_whole() {
    let bytes = with_description(b"", EMPTY);
    let mut tail = Tail::default();
    let pushed = tail.push(&bytes, &AROUND);
    assert_eq!((pushed.taken, pushed.end), (bytes.len(), Some(Certainty::Exact)));
    let (state, text, walked) = tail.take();
    assert_eq!((&state[..], &text[..], walked), (&[0][..], EMPTY, Walked::default()));
}

#[test]
fn a_footer_must_stand_before_the_end() {
    let bytes = with_description(b"\x7e\0\0\0\x01\0", EMPTY);
    let mut tail = Tail::default();
    assert!(tail.push(&bytes, &AROUND).end.is_none());
    assert!(tail.unfit().is_none(), "it was not even a candidate");
}

#[test]
fn an_end_that_begins_in_the_header_of_a_false_one_is_found() {
    // Without footers: a device ends with `00 06`, and the length behind the
    // true EOF byte reads like the beginning of a text.
    let state = b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x01xy\0\x06";
    let mut text =
        br#"{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 4}]}]}"#.to_vec();
    text.resize(0x7b22, b' ');
    let bytes = with_description(state, &text);
    assert_eq!(bytes[state.len() + 4..][..4], *b"{\"{\"");
    let around = Surroundings { footers: Footers::Off, ..AROUND };
    for piece in [1, bytes.len()] {
        let mut tail = Tail::default();
        let ends: Vec<_> =
            bytes.chunks(piece).filter_map(|piece| tail.push(piece, &around).end).collect();
        assert_eq!(ends, [Certainty::NeedsGrace], "{piece} bytes at a time");
    }
}

#[test]
fn searching_is_linear_in_the_bytes() {
    // 50 000 candidates, each of which would reach to the end.
    let mut bytes = Vec::new();
    for _ in 0..50_000 {
        bytes.extend(b"\x7e\0\0\0\x01\0\x06\x03\0\0\0{\"x");
    }
    let mut tail = Tail::default();
    for piece in bytes.chunks(97) {
        assert!(tail.push(piece, &AROUND).end.is_none());
    }
    assert_eq!(tail.candidates, 50_000);
}

#[test]
fn only_a_text_of_10_bytes_to_64_mib_can_be_a_description() {
    for (length, candidates) in
        [(0, 0), (9, 0), (10, 1), (64 << 20, 1), ((64 << 20) + 1, 0), (u32::MAX, 0)]
    {
        let bytes = [&b"\x7e\0\0\0\x01\0\x06"[..], &length.to_be_bytes(), b"{\""].concat();
        let mut tail = Tail::default();
        assert!(tail.push(&bytes, &AROUND).end.is_none());
        assert_eq!(tail.candidates, candidates, "{length} bytes");
    }
}

#[test]
fn a_description_whose_sizes_do_not_add_up_is_an_end_if_its_devices_lead_there() {
    let text = br#"{"devices": [{"name": "a", "instance_id": 0, "fields":
        [{"size": 1, "array_len": 3}]}]}"#;
    let state = b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x010and much more\x7e\0\0\0\x01";
    let bytes = with_description(state, text);
    for piece in [1, 7, bytes.len()] {
        let mut tail = Tail::default();
        let ends: Vec<_> =
            bytes.chunks(piece).filter_map(|piece| tail.push(piece, &AROUND).end).collect();
        assert_eq!(ends, [Certainty::NeedsGrace], "{piece} bytes at a time");
        assert_eq!(tail.take().2.sections[0].bytes, state.len());
    }
}

#[test]
fn an_end_by_search_is_the_same_whether_what_follows_is_there_yet_or_not() {
    let text = br#"{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 3}]}]}"#;
    let state = b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x010and much more\x7e\0\0\0\x01";
    let bytes = [&with_description(state, text)[..], b"x"].concat();
    let end = bytes.len() - 1;
    for first in [end, bytes.len()] {
        let mut tail = Tail::default();
        let pushed = tail.push(&bytes[..first], &AROUND);
        assert_eq!((pushed.taken, pushed.end), (end, Some(Certainty::NeedsGrace)));
        assert!(tail.push(&bytes[end..], &AROUND).end.is_none());
        assert!(!tail.is_complete(), "something follows");
    }
}

#[test]
fn texts_that_need_no_search_leave_it_to_the_true_one() {
    let text = br#"{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 3}]}]}"#;
    let empty = with_description(b"\x7e\0\0\0\x09", br#"{"devices":[]}"#);
    let body = empty.repeat(1000);
    let state = [b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x01", &body[..], b"\x7e\0\0\0\x01"].concat();
    let mut tail = Tail::default();
    let pushed = tail.push(&with_description(&state, text), &AROUND);
    assert_eq!(pushed.end, Some(Certainty::NeedsGrace));
    assert_eq!(tail.take().2.sections[0].bytes, state.len());
}

#[test]
fn all_searches_of_a_stream_go_over_so_many_bytes_and_no_more() {
    // Each of these is searched to where it stands, and its device is nowhere behind.
    let text = br#"{"devices": [{"name": "a", "instance_id": 0, "fields": [{"size": 1}]},
        {"name": "b", "instance_id": 0}]}"#;
    let forged = with_description(b"\x7e\0\0\0\x01", text);
    let mut tail = Tail { search_bytes: 10_000, ..Tail::default() };
    assert!(tail.push(b"\x04\0\0\0\x01\x01a\0\0\0\0\0\0\0\x01xy", &AROUND).end.is_none());
    let mut left = Vec::new();
    for _ in 0..100 {
        assert!(tail.push(&forged, &AROUND).end.is_none());
        left.push(tail.search_bytes);
    }
    assert!(left.is_sorted_by(|before, after| before > after || *after == 0), "{left:?}");
    assert_eq!((tail.candidates, tail.search_bytes), (100, 0));
    assert!(tail.unfit().is_some_and(|error| error.to_string().contains("no more bytes")));
}
