//! The configuration section (record type 07).

use std::fmt;

use uuid::Uuid;

use super::{PageBytes, Reader, SectionType, WireError, WireFault};

/// What the source says of itself before anything else
/// (`migration/savevm.c`, `vmstate_configuration`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The full, versioned machine type, as `pc-q35-10.0`.
    pub machine: Box<str>,
    /// `configuration/target-page-bits`, if the source sent it (never on x86).
    pub page: Option<PageBytes>,
    /// `configuration/capabilities`: those that change the stream.
    pub capabilities: Capabilities,
    /// A capability in that list without a meaning here. It must be equal on
    /// both sides, so it changes the stream, and cannot be skipped.
    pub unknown_capability: Option<Box<str>>,
    /// `configuration/uuid`: sent with the capability validate-uuid.
    pub uuid: Option<Uuid>,
}

/// The capabilities that the configuration section can name.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Shared blocks are not sent; every block carries its guest address.
    pub x_ignore_shared: bool,
    /// Pages have fixed places in a file (9.0 and later).
    pub mapped_ram: bool,
}

impl Configuration {
    /// Takes the section off `reader`, from behind its type byte 07 up to the
    /// record after it, whose first byte must be there.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let at = reader.at();
        let length = reader.be32("machine name length")?;
        let count = match u8::try_from(length) {
            Ok(count) => usize::from(count),
            Err(_) => {
                let fault = WireFault::OverLimit { found: length.into(), limit: u8::MAX.into() };
                return Err(reader.fault_at("machine name length", at, fault));
            }
        };
        let mut configuration = Self {
            machine: reader.name("machine name", count)?.into(),
            page: None,
            capabilities: Capabilities::default(),
            unknown_capability: None,
            uuid: None,
        };
        let mut seen = Seen::default();
        while reader.peek_byte("record type")? == SectionType::SUBSECTION.0 {
            configuration.subsection(reader, &mut seen)?;
        }
        Ok(configuration)
    }

    /// The target's page size: what the section says, or what the machine's target has
    /// always had.
    ///
    /// Only targets whose page may vary say it. Of those with one size for ever (`TARGET_PAGE_BITS`
    /// in `target/*/cpu-param.h`) a QEMU destination knows it; here the machine tells.
    pub fn target_page(&self) -> Option<PageBytes> {
        self.page
            .or_else(|| MACHINES_OF_8_KIB.contains(&&*self.machine).then_some(PageBytes::EIGHT_KIB))
    }

    fn subsection(&mut self, reader: &mut Reader<'_>, seen: &mut Seen) -> Result<(), WireError> {
        let at = reader.at();
        reader.byte("record type")?;
        let name = reader.cstr("subsection name")?;
        reader.be32_is("subsection version", 1)?;
        let first = match name {
            "configuration/target-page-bits" => {
                let at = reader.at();
                let bits = reader.be32("target-page-bits")?;
                self.page = Some(PageBytes::from_bits(bits, at)?);
                !std::mem::replace(&mut seen.page, true)
            }
            "configuration/capabilities" => {
                self.capabilities(reader)?;
                !std::mem::replace(&mut seen.capabilities, true)
            }
            "configuration/uuid" => {
                self.uuid = Some(Uuid::from_bytes(*reader.array::<16>("uuid")?));
                !std::mem::replace(&mut seen.uuid, true)
            }
            _ => {
                let fault = WireFault::Unknown { found: SectionType::SUBSECTION.0.into() };
                return Err(reader.fault_at("configuration subsection", at, fault));
            }
        };
        if first {
            Ok(())
        } else {
            Err(reader.fault_at("configuration subsection", at, WireFault::Twice))
        }
    }
}

/// The machines of targets whose page is 8 KiB: sparc64, alpha, openrisc, cris.
const MACHINES_OF_8_KIB: [&str; 6] =
    ["sun4u", "sun4v", "niagara", "clipper", "or1k-sim", "axis-dev88"];

#[derive(Default)]
struct Seen {
    page: bool,
    capabilities: bool,
    uuid: bool,
}

impl Configuration {
    fn capabilities(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let at = reader.at();
        let count = reader.be32("capability count")?;
        if count > CAPABILITY_COUNT_MAX {
            let fault =
                WireFault::OverLimit { found: count.into(), limit: CAPABILITY_COUNT_MAX.into() };
            return Err(reader.fault_at("capability count", at, fault));
        }
        for _ in 0..count {
            let at = reader.at();
            let slot = match reader.cstr("capability")? {
                "x-ignore-shared" => &mut self.capabilities.x_ignore_shared,
                "mapped-ram" => &mut self.capabilities.mapped_ram,
                name => {
                    self.unknown_capability = Some(name.into());
                    continue;
                }
            };
            if std::mem::replace(slot, true) {
                return Err(reader.fault_at("capability", at, WireFault::Twice));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.x_ignore_shared.then_some("x-ignore-shared"))
            .entries(self.mapped_ram.then_some("mapped-ram"))
            .finish()
    }
}

/// Names in one `configuration/capabilities` list: there are two that QEMU can
/// send, and some 25 capabilities altogether.
const CAPABILITY_COUNT_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn with_subsections(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"\0\0\0\x0bpc-q35-10.0".to_vec();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        bytes.push(8);
        bytes
    }

    const CAPABILITIES: &[u8] =
        b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0amapped-ram";
    const UUID: &[u8] = b"\x05\x12configuration/uuid\0\0\0\x01\x12\x34\x56\x78\x12\x34\x56\x78\x12\x34\x56\x78\x9a\xbc\xde\xf0";
    const PAGE_BITS: &[u8] = b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x10";

    fn parse(bytes: &[u8]) -> Result<(Configuration, usize), WireError> {
        let mut reader = Reader::new(bytes);
        Configuration::parse(&mut reader).map(|configuration| (configuration, reader.at()))
    }

    #[test]
    fn the_observed_section_parses_and_every_prefix_is_short() {
        let bytes = with_subsections(&[CAPABILITIES, UUID, PAGE_BITS]);
        let (configuration, taken) = parse(&bytes).unwrap();
        assert_eq!(&*configuration.machine, "pc-q35-10.0");
        assert!(configuration.capabilities.mapped_ram);
        assert!(!configuration.capabilities.x_ignore_shared);
        assert_eq!(configuration.page.unwrap().get(), 65536);
        let uuid = configuration.uuid.unwrap().to_string();
        assert_eq!(uuid, "12345678-1234-5678-1234-56789abcdef0");
        assert_eq!(taken, bytes.len() - 1);
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).unwrap_err().is_short(), "cut at {cut}");
        }
    }

    #[test]
    fn the_page_is_what_the_section_says_else_the_machines() {
        let page = |machine: &str, says: &[u8]| {
            let mut bytes = vec![0, 0, 0, u8::try_from(machine.len()).unwrap()];
            bytes.extend([machine.as_bytes(), says, &[8]].concat());
            parse(&bytes).unwrap().0.target_page().map(PageBytes::get)
        };
        assert_eq!(page("pc-q35-10.0", b""), None);
        assert_eq!(page("sun4u", b""), Some(8192));
        assert_eq!(page("sun4u", PAGE_BITS), Some(65536));
        assert_eq!(page("sun4u-9", b""), None);
    }

    #[test]
    fn a_subsection_that_comes_twice_or_is_unknown_is_refused() {
        let twice = with_subsections(&[UUID, UUID]);
        assert_eq!(parse(&twice).unwrap_err().fault, WireFault::Twice);
        let other = with_subsections(&[b"\x05\x0fconfiguration/x\0\0\0\x01"]);
        assert!(matches!(parse(&other).unwrap_err().fault, WireFault::Unknown { .. }));
    }

    #[test]
    fn a_long_name_and_a_long_list_are_refused_at_their_count() {
        let error = parse(&[0, 0, 1, 0]).unwrap_err();
        assert_eq!(error.fault, WireFault::OverLimit { found: 256, limit: 255 });
        let list = b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x41";
        let error = parse(&with_subsections(&[list])).unwrap_err();
        assert_eq!(error.fault, WireFault::OverLimit { found: 65, limit: 64 });
    }

    #[test]
    fn an_unknown_capability_is_kept_by_name() {
        let list = b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x03new";
        let (configuration, _) = parse(&with_subsections(&[list])).unwrap();
        assert_eq!(configuration.unknown_capability.as_deref(), Some("new"));
    }
}
