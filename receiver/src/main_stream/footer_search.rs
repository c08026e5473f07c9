//! Finding the end of a section whose content nobody here knows.
//!
//! All there is to go by is its footer, `7e` and its id, followed by a record
//! that makes sense. A device could hold those very bytes by chance, or a
//! guest put them there; so this is used only before the device state, where
//! QEMU up to 11.1 sends nothing unknown.

use super::sections::Sections;
use crate::wire::vmdesc::{DESCRIPTION_BYTES_MAX, DESCRIPTION_BYTES_MIN};
use crate::wire::{
    Command, FOOTER_BYTES, Reader, SectionHeader, SectionType, WireError, footer,
    iterables::Iterable,
};

/// What a search found in its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not yet: so many bytes cannot be part of the footer. At 0 more input is
    /// needed; `resting` if a footer is there already and only what follows
    /// it is missing.
    Nothing { passed: usize, resting: bool },
    /// The footer begins at this byte, and this follows it.
    Footer { at: usize, next: Next },
}

/// What follows a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record that comes before the device state.
    Record,
    /// A further device, or the end of all: the section that ends here was
    /// the first of the device state.
    DeviceState,
}

/// Looks for the footer of `section_id` in `input`.
pub(super) fn search(input: &[u8], section_id: u32, sections: &Sections) -> Found {
    let footer = footer(section_id);
    let mut from = 0usize;
    loop {
        let rest = input.get(from..).unwrap_or_default();
        let Some(skip) = rest.iter().position(|&byte| byte == SectionType::FOOTER.0) else {
            return Found::Nothing { passed: input.len(), resting: false };
        };
        let at = from.saturating_add(skip);
        let here = input.get(at..).unwrap_or_default();
        match here.split_at_checked(FOOTER_BYTES) {
            None if footer.starts_with(here) => {
                return Found::Nothing { passed: at, resting: false };
            }
            Some((bytes, rest)) if *bytes == footer => match follows(rest, sections) {
                Ok(Some(next)) => return Found::Footer { at, next },
                Ok(None) => {}
                Err(_) => return Found::Nothing { passed: at, resting: rest.is_empty() },
            },
            _ => {}
        }
        from = at.saturating_add(1);
    }
}

/// What the bytes after a footer are: `None` if no record, an error if too
/// few to say.
fn follows(bytes: &[u8], sections: &Sections) -> Result<Option<Next>, WireError> {
    let mut reader = Reader::new(bytes);
    let section_type = SectionType(reader.byte("record type")?);
    match section_type {
        SectionType::START | SectionType::FULL => {
            let header = match SectionHeader::parse(&mut reader) {
                Ok(header) => header,
                Err(error) if error.is_short() => return Err(error),
                Err(_) => return Ok(None),
            };
            let early =
                section_type == SectionType::START || Iterable::of_early(header.idstr).is_some();
            Ok(if early {
                (!sections.is_used(header.section_id)).then_some(Next::Record)
            } else {
                (!sections.is_taken(&header)).then_some(Next::DeviceState)
            })
        }
        SectionType::PART | SectionType::END => {
            let section_id = reader.be32("section_id")?;
            Ok(sections.is_open(section_id).then_some(Next::Record))
        }
        SectionType::COMMAND => {
            // Judged by number and length alone: the payload need not be there,
            // and where it is, it must not change the answer.
            let head = reader.array::<4>("command")?;
            match Command::parse(&mut Reader::new(head)) {
                Err(error) if !error.is_short() => Ok(None),
                _ => Ok(Some(Next::Record)),
            }
        }
        SectionType::EOF => {
            if reader.byte("record type")? != SectionType::VMDESCRIPTION.0 {
                return Ok(None);
            }
            let length = usize::try_from(reader.be32("vmdesc length")?).unwrap_or(usize::MAX);
            let plausible = (DESCRIPTION_BYTES_MIN..=DESCRIPTION_BYTES_MAX).contains(&length)
                && reader.array::<2>("vmdesc")? == b"{\"";
            Ok(plausible.then_some(Next::DeviceState))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sections::Content;
    use super::*;

    fn sections() -> Sections {
        let mut sections = Sections::default();
        let header = SectionHeader { section_id: 1, idstr: "ram", instance_id: 0, version_id: 4 };
        sections.start(SectionType::START, &header, Content::Ram).unwrap();
        sections
    }

    #[test]
    fn a_footer_counts_only_with_a_record_that_makes_sense_behind_it() {
        let cases: [(&[u8], Option<Next>); 8] = [
            (b"\x02\0\0\0\x01", Some(Next::Record)),
            (b"\x02\0\0\0\x02", None),
            (b"\x08\0\x0b\0\0", Some(Next::Record)),
            (b"\x08\0\x0b\0\x01", None),
            (b"\x04\0\0\0\x05\x05timer\0\0\0\0\0\0\0\x02", Some(Next::DeviceState)),
            (b"\x04\0\0\0\x01\x05timer\0\0\0\0\0\0\0\x02", None),
            (b"\0\x06\0\0\0\x20{\"", Some(Next::DeviceState)),
            (b"\0\x06\xff\0\0\x20{\"", None),
        ];
        for (behind, expected) in cases {
            let bytes = [b"abc\x7e\x7e\0\0\0\x09", behind].concat();
            let found = search(&bytes, 9, &sections());
            match expected {
                Some(next) => assert_eq!(found, Found::Footer { at: 4, next }, "{behind:x?}"),
                None => assert!(matches!(found, Found::Nothing { passed: 5.., .. }), "{behind:x?}"),
            }
            for cut in 0..bytes.len() {
                let Found::Nothing { passed, .. } = search(&bytes[..cut], 9, &sections()) else {
                    panic!("decided at {cut} of {behind:x?}");
                };
                assert!(expected.is_none() || passed <= 4, "passed into the footer");
            }
        }
    }

    #[test]
    fn a_device_that_was_an_iterable_may_follow_and_another_of_its_id_may_not() {
        let mut sections = sections();
        let header =
            SectionHeader { section_id: 5, idstr: "00:05.0/vfio", instance_id: 0, version_id: 1 };
        let content = Content::Walked(Iterable::Vfio);
        sections.start(SectionType::START, &header, content).unwrap();
        for (behind, expected) in [
            (b"\x04\0\0\0\x05\x0c00:05.0/vfio\0\0\0\0\0\0\0\x01", Some(Next::DeviceState)),
            (b"\x04\0\0\0\x05\x0c00:05.0/vfio\0\0\0\x01\0\0\0\x01", None),
            (b"\x04\0\0\0\x05\x0c00:06.0/vfio\0\0\0\0\0\0\0\x01", None),
            (b"\x01\0\0\0\x05\x0c00:05.0/vfio\0\0\0\0\0\0\0\x01", None),
        ] {
            let bytes = [b"\x7e\0\0\0\x09".as_slice(), behind].concat();
            let found = match search(&bytes, 9, &sections) {
                Found::Footer { at: 0, next } => Some(next),
                _ => None,
            };
            assert_eq!(found, expected, "{behind:x?}");
        }
    }

    #[test]
    fn a_payload_that_is_there_changes_nothing() {
        // Found by fuzzing: a name that cannot be one, in a RECV_BITMAP.
        let bytes = b"\x7e\0\0\0\x09\x08\0\x0a\0\x72\x61\x6c\xfe".as_slice();
        let whole = [bytes, &[0; 0x72]].concat();
        let found = Found::Footer { at: 0, next: Next::Record };
        for cut in 10..whole.len() {
            assert_eq!(search(&whole[..cut], 9, &sections()), found, "cut at {cut}");
        }
    }

    #[test]
    fn a_footer_with_nothing_behind_it_is_a_place_to_rest() {
        let found = search(b"\x7e\0\0\0\x09", 9, &sections());
        assert_eq!(found, Found::Nothing { passed: 0, resting: true });
    }
}
