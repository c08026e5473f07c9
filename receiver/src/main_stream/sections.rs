//! The sections that have started, by id.

use std::collections::HashMap;

use super::error::StreamFault;
use crate::wire::{SectionHeader, SectionType, iterables::Iterable};

/// Every section before the device state.
#[derive(Debug, Default)]
pub(super) struct Sections {
    by_id: HashMap<u32, Section>,
}

/// One section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) idstr: Box<str>,
    pub(super) content: Content,
    instance_id: u32,
    began: SectionType,
    open: bool,
}

/// How a section's payload is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Ram,
    Walked(Iterable),
    /// Up to something that looks like its footer.
    Searched,
}

impl Sections {
    /// Enters a section; START leaves it open for PART and END.
    pub(super) fn start(
        &mut self,
        section_type: SectionType,
        header: &SectionHeader<'_>,
        content: Content,
    ) -> Result<(), StreamFault> {
        let SectionHeader { section_id, idstr, instance_id, .. } = *header;
        if self.is_used(section_id) {
            return Err(StreamFault::SectionTwice { section_id });
        }
        if self.by_id.len() >= SECTION_COUNT_MAX {
            return Err(StreamFault::OverLimit {
                what: "number of sections before the device state",
                found: SECTION_COUNT_MAX.saturating_add(1).try_into().unwrap_or(u64::MAX),
                limit: SECTION_COUNT_MAX.try_into().unwrap_or(u64::MAX),
            });
        }
        let open = section_type == SectionType::START;
        let idstr = idstr.into();
        let section = Section { idstr, content, instance_id, began: section_type, open };
        self.by_id.insert(section_id, section);
        Ok(())
    }

    /// The section that a PART or END belongs to; END closes it.
    pub(super) fn go_on(
        &mut self,
        section_type: SectionType,
        section_id: u32,
    ) -> Result<Content, StreamFault> {
        match self.by_id.get_mut(&section_id) {
            Some(section) if section.open => {
                section.open = section_type != SectionType::END;
                Ok(section.content)
            }
            _ => Err(StreamFault::SectionNotOpen { section_type, section_id }),
        }
    }

    /// True if a section has, or had, this id.
    pub(super) fn is_used(&self, section_id: u32) -> bool {
        self.by_id.contains_key(&section_id)
    }

    /// True if a device's state cannot have this header: its id is another section's.
    ///
    /// A device may be an iterable as well. It is registered once, so that its START, PART, END
    /// and later its FULL have one id: VFIO's (`hw/vfio/migration.c`, `savevm_vfio_handlers`).
    pub(super) fn is_taken(&self, header: &SectionHeader<'_>) -> bool {
        self.by_id.get(&header.section_id).is_some_and(|section| {
            section.began != SectionType::START
                || section.content == Content::Ram
                || *section.idstr != *header.idstr
                || section.instance_id != header.instance_id
        })
    }

    /// True if a PART or END with this id may come.
    pub(super) fn is_open(&self, section_id: u32) -> bool {
        self.by_id.get(&section_id).is_some_and(|section| section.open)
    }

    /// How a section's payload is read.
    pub(super) fn content(&self, section_id: u32) -> Option<Content> {
        self.by_id.get(&section_id).map(|section| section.content)
    }

    /// Takes a section back that turned out to be the first of the device
    /// state.
    pub(super) fn withdraw(&mut self, section_id: u32) {
        self.by_id.remove(&section_id);
    }

    /// The name of a section.
    pub(super) fn idstr(&self, section_id: u32) -> &str {
        self.by_id.get(&section_id).map_or("", |section| &section.idstr)
    }
}

/// Sections of iterables and of early devices; a large machine has some tens.
const SECTION_COUNT_MAX: usize = 4096;
