//! Going through the state with its description beside it.

use std::collections::HashSet;

use memchr::memmem::Finder;

use super::{Description, DescriptionError, Device, Subsection};
use crate::wire::{FOOTER_BYTES, Footers, Reader, SectionHeader, SectionType, WireError, footer};

/// One device's section in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSection {
    /// Which device. Together with the instance id not always unique.
    pub idstr: Box<str>,
    /// Tells devices of the same idstr apart.
    pub instance_id: u32,
    /// The source's registration number; unique.
    pub section_id: u32,
    /// Version of the section's format.
    pub version_id: u32,
    /// Where its type byte is, in bytes from the start of the state.
    pub offset: usize,
    /// Bytes of the whole record: header, body, footer.
    pub bytes: usize,
    /// Where the body begins, in bytes from the start of the state.
    pub body_offset: usize,
    /// Bytes of the body alone.
    pub body_bytes: usize,
}

/// What a walk must know of the stream before the state.
pub struct Surroundings<'a> {
    /// Whether sections end with a footer; if unknown, the first one tells.
    pub footers: Footers,
    /// Early sections, which the description lists too, in the stream's order
    /// and by idstr and instance id.
    pub early: &'a [(Box<str>, u32)],
    /// True for a section that cannot be in the state: its id is that of
    /// another one before it.
    pub is_taken: &'a dyn Fn(&SectionHeader<'_>) -> bool,
}

/// What a description led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// The sections, in the order of the state.
    pub sections: Vec<DeviceSection>,
    /// Where sizes did not lead to a footer for the first time, so that it was searched for.
    pub misfit: Option<DescriptionError>,
}

impl Description {
    /// Finds every section of `state` (from the first section's type byte up
    /// to the EOF byte, without it).
    ///
    /// Entries match sections by position, since two devices can have the same
    /// names. The description fits only if it ends exactly with `state` and
    /// every header, subsection and footer on the way is as it says.
    ///
    /// Sources up to 9.2 describe an array whose elements are alike by its first one, and take an
    /// element that is not there for one that is alike, though it has one byte in the stream
    /// (`migration/vmstate.c`, `vmstate_save_state_v`): the sizes of such an array do not add up.
    /// So, where there are footers, a section whose sizes do not lead to its own ends at the first
    /// one that has the next device of the description behind it, or the end of the state.
    /// `search_bytes` is how many bytes may be gone over for that; those that were are taken from
    /// it, also where nothing fits.
    ///
    /// # Errors
    /// The first place where the two part.
    pub fn walk(
        &self,
        state: &[u8],
        around: &Surroundings<'_>,
        search_bytes: &mut usize,
    ) -> Result<Walked, DescriptionError> {
        let skipped = self.early_entries(around.early);
        let mut walk = Walk { reader: Reader::new(state), footers: around.footers, entry: skipped };
        let mut sections = Vec::new();
        let mut misfit = None;
        let mut ids = HashSet::new();
        let mut devices = self.devices.iter().skip(skipped).peekable();
        while let Some(device) = devices.next() {
            let offset = walk.reader.at();
            let header = walk.header()?;
            if header.idstr != &*device.name || header.instance_id != device.instance_id {
                return Err(walk.unfit("another device's section is here"));
            }
            if (around.is_taken)(&header) || !ids.insert(header.section_id) {
                return Err(walk.unfit("the section's id is in use already"));
            }
            let body_offset = walk.reader.at();
            let body = walk.reader.clone();
            let body_bytes = match walk.body(device, header.section_id) {
                Err(unfit) if walk.footers == Footers::On => {
                    walk.reader = body;
                    let next = devices.peek().copied();
                    misfit = misfit.or(Some(unfit));
                    let is_part = *search_bytes < walk.reader.rest().len();
                    let found = walk.find_footer(header.section_id, next, search_bytes);
                    found.ok_or_else(|| if is_part { walk.unfit(SEARCHED_ENOUGH) } else { unfit })
                }
                other => other,
            }?;
            sections.push(DeviceSection {
                idstr: header.idstr.into(),
                instance_id: header.instance_id,
                section_id: header.section_id,
                version_id: header.version_id,
                offset,
                bytes: walk.reader.at().saturating_sub(offset),
                body_offset,
                body_bytes,
            });
            walk.entry = walk.entry.saturating_add(1);
        }
        if walk.reader.rest().is_empty() {
            Ok(Walked { sections, misfit })
        } else {
            Err(walk.unfit("the description ends before the state"))
        }
    }

    /// How many leading entries are those of `early` sections, some of which
    /// may have none.
    fn early_entries(&self, early: &[(Box<str>, u32)]) -> usize {
        let mut devices = self.devices.iter().peekable();
        early
            .iter()
            .filter(|(idstr, instance_id)| {
                devices
                    .next_if(|entry| entry.name == *idstr && entry.instance_id == *instance_id)
                    .is_some()
            })
            .count()
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    footers: Footers,
    entry: usize,
}

impl<'a> Walk<'a> {
    fn header(&mut self) -> Result<SectionHeader<'a>, DescriptionError> {
        if self.read(|reader| reader.byte("record type"))? != SectionType::FULL.0 {
            return Err(self.unfit("no section begins here"));
        }
        self.read(SectionHeader::parse)
    }

    /// Passes over a section's body and its footer. How long the body was.
    fn body(&mut self, device: &Device, section_id: u32) -> Result<usize, DescriptionError> {
        let from = self.reader.at();
        self.skip(device.field_bytes())?;
        self.subsections(&device.subsections)?;
        let bytes = self.reader.at().saturating_sub(from);
        self.footer(section_id)?;
        Ok(bytes)
    }

    /// Passes over a body of unknown length up to its footer, and over that: the first one with
    /// `next` behind it, or nothing behind it. How long the body was.
    fn find_footer(
        &mut self,
        section_id: u32,
        next: Option<&Device>,
        search_bytes: &mut usize,
    ) -> Option<usize> {
        let footer = footer(section_id);
        let finder = Finder::new(&footer);
        let body = self.reader.rest();
        let searched = body.get(..*search_bytes).unwrap_or(body);
        let mut from = 0usize;
        let found = loop {
            let Some(skip) = finder.find(searched.get(from..).unwrap_or_default()) else {
                break None;
            };
            let at = from.saturating_add(skip);
            let mut ahead = self.reader.clone();
            ahead.bytes("body and footer", at.saturating_add(FOOTER_BYTES)).ok()?;
            if begins(&ahead, next) {
                self.reader = ahead;
                break Some(at);
            }
            from = at.saturating_add(1);
        };
        let passed = found.map_or(searched.len(), |at| at.saturating_add(FOOTER_BYTES));
        *search_bytes = search_bytes.saturating_sub(passed);
        found
    }

    fn skip(&mut self, count: u64) -> Result<(), DescriptionError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.read(|reader| reader.bytes("fields", count)).map(drop)
    }

    fn subsections(&mut self, subsections: &[Subsection]) -> Result<(), DescriptionError> {
        for subsection in subsections {
            if self.read(|reader| reader.byte("record type"))? != SectionType::SUBSECTION.0 {
                return Err(self.unfit("no subsection begins here"));
            }
            let name = self.read(|reader| reader.cstr("subsection name"))?;
            let version = self.read(|reader| reader.be32("subsection version"))?;
            if name != &*subsection.vmsd_name || version != subsection.version {
                return Err(self.unfit("another subsection is here"));
            }
            self.skip(subsection.fields.0)?;
            // As deep as the JSON nests, which is bounded.
            self.subsections(&subsection.subsections)?;
        }
        Ok(())
    }

    fn footer(&mut self, section_id: u32) -> Result<(), DescriptionError> {
        if self.footers == Footers::Unknown {
            let next = self.reader.rest().first();
            self.footers = match next {
                Some(&byte) if byte == SectionType::FOOTER.0 => Footers::On,
                _ => Footers::Off,
            };
        }
        if self.footers == Footers::Off {
            return Ok(());
        }
        let kind = self.read(|reader| reader.byte("footer"))?;
        let id = self.read(|reader| reader.be32("footer"))?;
        if kind == SectionType::FOOTER.0 && id == section_id {
            Ok(())
        } else {
            Err(self.unfit("the section's footer is not here"))
        }
    }

    fn read<T>(
        &mut self,
        take: impl FnOnce(&mut Reader<'a>) -> Result<T, WireError>,
    ) -> Result<T, DescriptionError> {
        take(&mut self.reader).map_err(|error| {
            let what = if error.is_short() {
                "the state ends inside the section"
            } else {
                "a name there cannot be one"
            };
            self.unfit(what)
        })
    }

    fn unfit(&self, what: &'static str) -> DescriptionError {
        DescriptionError::Unfit { at: self.reader.at(), entry: self.entry, what }
    }
}

/// True if `device` is what `reader` has next; without one, if it has nothing.
fn begins(reader: &Reader<'_>, device: Option<&Device>) -> bool {
    let Some(device) = device else { return reader.rest().is_empty() };
    let mut ahead = reader.clone();
    ahead.byte("record type").is_ok_and(|byte| byte == SectionType::FULL.0)
        && SectionHeader::parse(&mut ahead).is_ok_and(|header| {
            (header.idstr, header.instance_id) == (&*device.name, device.instance_id)
        })
}

/// Of a section whose footer is not in the bytes that may be searched.
const SEARCHED_ENOUGH: &str =
    "the section's footer is not where its sizes lead, and no more bytes are searched for footers";

/// What the guest was doing on the source: the name in the body of the section
/// `globalstate` (`migration/global_state.c`), `running`, `paused` and so on.
///
/// The length field counts the name and its NUL, but the name is cut at its
/// first NUL here, as a QEMU destination does; 10.0 and later use the bytes
/// after the 32nd for something else. `None` if there is no printable name.
pub fn run_state(body: &[u8]) -> Option<&str> {
    let mut reader = Reader::new(body);
    reader.be32("size").ok()?;
    let padded = reader.rest();
    let length = padded.iter().position(|&byte| byte == 0)?;
    reader.name("run state", length).ok()
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
