//! Records of the main stream: their type byte, and section headers.

use std::fmt;

use super::{Reader, WireError};

/// The byte that begins a record (`migration/savevm.h`, `QEMU_VM_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SectionType(pub u8);

impl SectionType {
    /// End of the sections.
    pub const EOF: Self = Self(0x00);
    /// First record of an iterable's section.
    pub const START: Self = Self(0x01);
    /// A further record of an iterable.
    pub const PART: Self = Self(0x02);
    /// The last record of an iterable.
    pub const END: Self = Self(0x03);
    /// A device's whole state in one record.
    pub const FULL: Self = Self(0x04);
    /// A part of a device's state; only inside other records.
    pub const SUBSECTION: Self = Self(0x05);
    /// The JSON description of the device state.
    pub const VMDESCRIPTION: Self = Self(0x06);
    /// Machine type and what must be equal on both sides.
    pub const CONFIGURATION: Self = Self(0x07);
    /// A command from the source.
    pub const COMMAND: Self = Self(0x08);
    /// The end of a section, with its id again.
    pub const FOOTER: Self = Self(0x7e);

    /// The name that QEMU gives it, without its prefix, or "record".
    pub const fn name(self) -> &'static str {
        match self {
            Self::EOF => "EOF",
            Self::START => "START",
            Self::PART => "PART",
            Self::END => "END",
            Self::FULL => "FULL",
            Self::SUBSECTION => "SUBSECTION",
            Self::VMDESCRIPTION => "VMDESCRIPTION",
            Self::CONFIGURATION => "CONFIGURATION",
            Self::COMMAND => "COMMAND",
            Self::FOOTER => "FOOTER",
            _ => "record",
        }
    }
}

impl fmt::Display for SectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#04x}", self.name(), self.0)
    }
}

impl fmt::Debug for SectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the stream's sections end with a footer: not for machine types up
/// to 2.3 or `-global migration.send-section-footer=off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Footers {
    /// No section has ended yet.
    #[default]
    Unknown,
    /// Every section ends with type byte 7e and its id.
    On,
    /// None does.
    Off,
}

/// What follows the type byte of START and FULL (`save_section_header`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionHeader<'a> {
    /// The source's registration number; the key within one stream.
    pub section_id: u32,
    /// Which device or iterable; printable, 1 to 255 bytes.
    pub idstr: &'a str,
    /// Tells devices of the same idstr apart (not always: two slirp devices
    /// of QEMU 7.2 are both 0).
    pub instance_id: u32,
    /// Version of the section's format.
    pub version_id: u32,
}

impl<'a> SectionHeader<'a> {
    /// Takes a header off `reader`; short at every prefix.
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            section_id: reader.be32("section_id")?,
            idstr: reader.cstr("idstr")?,
            instance_id: reader.be32("instance_id")?,
            version_id: reader.be32("version_id")?,
        })
    }
}

/// Length of a footer on the wire: type byte and section id.
pub const FOOTER_BYTES: usize = 5;

/// The footer of section `section_id` on the wire.
pub fn footer(section_id: u32) -> [u8; FOOTER_BYTES] {
    let [a, b, c, d] = section_id.to_be_bytes();
    [SectionType::FOOTER.0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_observed_ram_header_parses_and_every_prefix_is_short() {
        let golden = [0, 0, 0, 1, 3, 0x72, 0x61, 0x6d, 0, 0, 0, 0, 0, 0, 0, 4];
        let mut reader = Reader::new(&golden);
        let header = SectionHeader::parse(&mut reader).unwrap();
        assert_eq!((header.section_id, header.idstr), (1, "ram"));
        assert_eq!((header.instance_id, header.version_id), (0, 4));
        assert_eq!(reader.at(), golden.len());
        for cut in 0..golden.len() {
            let error = SectionHeader::parse(&mut Reader::new(&golden[..cut])).unwrap_err();
            assert!(error.is_short(), "cut at {cut}");
        }
    }

    #[test]
    fn unknown_types_print_in_hex() {
        assert_eq!(SectionType(0x42).to_string(), "record 0x42");
        assert_eq!(SectionType::FOOTER.to_string(), "FOOTER 0x7e");
    }
}
