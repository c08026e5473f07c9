use super::*;

const NONE: Surroundings<'_> =
    Surroundings { footers: Footers::On, early: &[], is_taken: &|_| false };

/// By sizes alone.
fn walked(
    description: &Description,
    state: &[u8],
    around: &Surroundings<'_>,
) -> Result<Vec<DeviceSection>, DescriptionError> {
    description.walk(state, around, &mut 0).map(|walked| walked.sections)
}

/// By sizes, and by footers where they do not add up; how many bytes were searched.
fn searched(
    description: &Description,
    state: &[u8],
    around: &Surroundings<'_>,
) -> (Result<Walked, DescriptionError>, usize) {
    let mut left = 1000;
    let walked = description.walk(state, around, &mut left);
    (walked, 1000 - left)
}

fn section(id: u32, idstr: &str, instance: u32, body: &[u8], footer: bool) -> Vec<u8> {
    let mut bytes = vec![4];
    bytes.extend(id.to_be_bytes());
    bytes.push(idstr.len() as u8);
    bytes.extend(idstr.as_bytes());
    bytes.extend(instance.to_be_bytes());
    bytes.extend(2u32.to_be_bytes());
    bytes.extend(body);
    if footer {
        bytes.push(0x7e);
        bytes.extend(id.to_be_bytes());
    }
    bytes
}

fn timer_body() -> Vec<u8> {
    let mut body = vec![9; 24];
    body.extend(b"\x05\x07timer/a\0\0\0\x01xy\x05\x09timer/a/b\0\0\0\x02z");
    body.extend(b"\x05\x07timer/c\0\0\0\x01");
    body
}

fn description() -> Description {
    Description::parse(
        br#"{"page_size": 4096, "devices": [
        {"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2,
         "fields": [{"name": "t", "size": 8, "array_len": 3}], "subsections": [
            {"vmsd_name": "timer/a", "version": 1, "fields": [{"size": 2}], "subsections": [
                {"vmsd_name": "timer/a/b", "version": 2, "fields": [{"size": 1}]}]},
            {"vmsd_name": "timer/c", "version": 1, "fields": []}]},
        {"name": "slirp", "instance_id": 0, "size": 3, "fields": [{"size": 3}]},
        {"name": "slirp", "instance_id": 0, "size": 0}]}"#,
    )
    .unwrap()
}

fn state(footer: bool) -> Vec<u8> {
    let mut state = section(4, "timer", 0, &timer_body(), footer);
    state.extend(section(2, "slirp", 0, b"abc", footer));
    state.extend(section(3, "slirp", 0, b"", footer));
    state
}

#[test]
fn sections_are_found_with_and_without_footers() {
    for (footers, written) in [
        (Footers::On, true),
        (Footers::Off, false),
        (Footers::Unknown, true),
        (Footers::Unknown, false),
    ] {
        let bytes = state(written);
        let sections = walked(&description(), &bytes, &Surroundings { footers, ..NONE }).unwrap();
        assert_eq!(sections.len(), 3);
        assert_eq!(sections[0].body_bytes, timer_body().len());
        assert_eq!(&*sections[1].idstr, "slirp");
        assert_eq!((sections[1].section_id, sections[1].version_id), (2, 2));
        let body = &bytes[sections[1].body_offset..][..sections[1].body_bytes];
        assert_eq!(body, b"abc");
        let end: usize = sections.iter().map(|section| section.bytes).sum();
        assert_eq!(end, bytes.len(), "records are adjacent and complete");
        assert_eq!(sections[2].offset + sections[2].bytes, bytes.len());
    }
}

#[test]
fn a_state_one_byte_longer_or_shorter_does_not_fit() {
    let bytes = state(true);
    for cut in 0..bytes.len() {
        assert!(walked(&description(), &bytes[..cut], &NONE).is_err(), "cut at {cut}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(walked(&description(), &longer, &NONE).is_err());
}

#[test]
fn every_changed_byte_outside_the_fields_and_versions_is_noticed() {
    let bytes = state(true);
    let sections = walked(&description(), &bytes, &NONE).unwrap();
    let header = |at: usize| {
        sections.iter().any(|s| (s.offset..s.body_offset - 4).contains(&at))
            || sections
                .iter()
                .any(|s| (s.body_offset + s.body_bytes..s.offset + s.bytes).contains(&at))
    };
    for at in (0..bytes.len()).filter(|&at| header(at)) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(walked(&description(), &changed, &NONE).is_err(), "byte {at}");
    }
}

#[test]
fn entries_of_early_sections_are_passed_over() {
    let early = [("gone".into(), 0), ("timer".into(), 0)];
    let mut bytes = section(2, "slirp", 0, b"abc", true);
    bytes.extend(section(3, "slirp", 0, b"", true));
    let around = Surroundings { early: &early, ..NONE };
    assert_eq!(walked(&description(), &bytes, &around).unwrap().len(), 2);
}

#[test]
fn the_id_of_another_section_before_the_state_or_in_it_is_refused() {
    let around = Surroundings { is_taken: &|header| header.section_id == 3, ..NONE };
    assert!(walked(&description(), &state(true), &around).is_err());
    let mut twice = section(4, "timer", 0, &timer_body(), true);
    twice.extend(section(2, "slirp", 0, b"abc", true));
    twice.extend(section(2, "slirp", 0, b"", true));
    assert!(walked(&description(), &twice, &NONE).is_err());
}

/// As sources up to 9.2 describe three pointers of which the first is not there: one byte each.
fn of_too_few_bytes() -> Description {
    Description::parse(
        br#"{"devices": [{"name": "css", "instance_id": 0, "fields": [{"size": 1, "array_len": 3}]},
        {"name": "slirp", "instance_id": 0, "fields": [{"size": 3}]}]}"#,
    )
    .unwrap()
}

#[test]
fn sizes_that_do_not_add_up_are_searched_for_their_footer() {
    // A footer of its own in the body, with another device behind it, is none.
    let mut body = section(5, "timer", 0, b"0", true);
    body.splice(0..0, b"0\x7e\0\0\0\x04".iter().copied());
    let mut bytes = section(4, "css", 0, &body, true);
    bytes.extend(section(2, "slirp", 0, b"abc", true));
    let sizes_lead_to =
        |at| DescriptionError::Unfit { at, entry: 0, what: "the section's footer is not here" };
    let (found, bytes_searched) = searched(&of_too_few_bytes(), &bytes, &NONE);
    let Walked { sections, misfit } = found.unwrap();
    assert_eq!((sections[0].body_bytes, sections[1].body_bytes), (body.len(), 3));
    assert_eq!(sections[1].offset + sections[1].bytes, bytes.len());
    assert_eq!(bytes_searched, body.len() + FOOTER_BYTES);
    let header = sections[0].body_offset;
    assert_eq!(misfit, Some(sizes_lead_to(header + 3 + FOOTER_BYTES)));

    for cut in 0..bytes.len() {
        assert!(searched(&of_too_few_bytes(), &bytes[..cut], &NONE).0.is_err(), "cut at {cut}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(searched(&of_too_few_bytes(), &longer, &NONE).0.is_err());
    // Where the search finds nothing, what the sizes led to stands in the error, and all was searched.
    for cut in header + 3 + FOOTER_BYTES..sections[1].offset {
        let (found, bytes_searched) = searched(&of_too_few_bytes(), &bytes[..cut], &NONE);
        assert_eq!(found, Err(misfit.unwrap()), "cut at {cut}");
        assert_eq!(bytes_searched, cut - header);
    }
    let footers = Surroundings { footers: Footers::Off, ..NONE };
    assert!(searched(&of_too_few_bytes(), &bytes, &footers).0.is_err());
}

#[test]
fn an_error_behind_a_section_that_was_searched_is_told_where_it_is() {
    let mut bytes = section(4, "css", 0, b"0 and more", true);
    bytes.extend(section(2, "slirp", 0, b"abc", true));
    let end = bytes.len();
    bytes.extend(section(3, "slirp", 0, b"", true));
    let (found, _) = searched(&of_too_few_bytes(), &bytes, &NONE);
    let what = "the description ends before the state";
    assert_eq!(found, Err(DescriptionError::Unfit { at: end, entry: 2, what }));
}

#[test]
fn no_more_bytes_are_searched_than_may_be() {
    let body = b"0 and more";
    let mut bytes = section(4, "css", 0, body, true);
    bytes.extend(section(2, "slirp", 0, b"abc", true));
    let needed = body.len() + FOOTER_BYTES;
    for bytes_max in 0..needed {
        let mut left = bytes_max;
        let error = of_too_few_bytes().walk(&bytes, &NONE, &mut left).unwrap_err();
        assert!(error.to_string().contains("no more bytes are searched"), "{error}");
        assert_eq!(left, 0);
    }
    let mut left = needed;
    assert!(of_too_few_bytes().walk(&bytes, &NONE, &mut left).is_ok());
    assert_eq!(left, 0);
}

#[test]
fn the_last_device_is_searched_to_the_end_of_the_state() {
    let description = Description::parse(
        br#"{"devices": [{"name": "css", "instance_id": 0, "fields": [{"size": 1, "array_len": 9}]}]}"#,
    )
    .unwrap();
    let bytes = section(4, "css", 0, b"0\x7e\0\0\0\x04long enough", true);
    let (found, _) = searched(&description, &bytes, &NONE);
    assert_eq!(found.unwrap().sections[0].bytes, bytes.len());
}

#[test]
fn the_run_state_of_both_layouts_is_read() {
    let mut old = b"\0\0\0\x08running".to_vec();
    old.resize(104, 0);
    assert_eq!(run_state(&old), Some("running"));
    let mut new = b"\0\0\0\x0aprelaunch".to_vec();
    new.resize(36, 0);
    new.extend([1, 0]);
    new.resize(104, 0);
    assert_eq!(run_state(&new), Some("prelaunch"));
    assert_eq!(run_state(b"\0\0\0\x01\0"), None);
    assert_eq!(run_state(b"\0\0"), None);
}
