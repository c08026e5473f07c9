//! What is inside the sections: RAM, iterables that are walked, unknown ones
//! that are searched, and the device state at the end.

use super::error::{StreamError, StreamFault};
use super::event::{Event, Step};
use super::footer_search::{self, Found, Next};
use super::ram::{Refused, Shape, Taken};
use super::{Fast, MainStream, Open, Phase, Place, wide};
use crate::wire::vmdesc::Surroundings;
use crate::wire::{FOOTER_BYTES, FileExtent, Footers, Reader, SectionType, iterables::Walk};

impl MainStream {
    pub(super) fn ram<'a>(&mut self, input: &'a [u8], open: Open) -> Result<Step<'a>, StreamError> {
        let shape = Shape {
            page: self.page,
            ram_bytes_max: self.options.ram_bytes_max,
            page_bytes_summary: self.page_bytes_summary,
            x_ignore_shared: self.x_ignore_shared,
            mapped_ram: self.file_position(),
        };
        let mut reader = Reader::new(input);
        // Entries of the list are no events; they are taken as far as they go.
        loop {
            let taken = reader.at();
            let mut ahead = reader.clone();
            let event = match self.ram.step(&mut ahead, shape, open.section_type) {
                Ok(Taken::Nothing) => {
                    reader = ahead;
                    continue;
                }
                Ok(Taken::Event(event)) => {
                    let current = self.ram.current();
                    self.fast = current.map_or_else(Fast::default, |(block, used_bytes)| Fast {
                        limit: used_bytes,
                        block,
                    });
                    event
                }
                Ok(Taken::Eos) => {
                    self.fast = Fast::default();
                    self.phase = Phase::Footer(open);
                    Event::RamEos { section_type: open.section_type }
                }
                Ok(Taken::Seek(file_offset)) => {
                    return Ok(self.seek(file_offset, ahead.at()));
                }
                Err(Refused::Wire(error)) if error.is_short() && taken > 0 => {
                    return Ok(self.took(taken, Event::Skipped));
                }
                Err(Refused::Wire(error)) => return self.short_or(error, &self.place(open), 0),
                Err(Refused::Fault(at, fault)) => {
                    return Err(self.error_at(at, self.place(open), fault));
                }
            };
            return Ok(self.took(ahead.at(), event));
        }
    }

    /// The file and where in it the stream stands, if pages have their places
    /// there.
    fn file_position(&self) -> Option<(FileExtent, u64)> {
        let file = self.options.file.filter(|_| self.mapped_ram)?;
        Some((file, file.offset.saturating_add(self.position)))
    }

    fn seek<'a>(&mut self, file_offset: u64, consumed: usize) -> Step<'a> {
        let begin = self.options.file.map_or(0, |file| file.offset);
        self.position = file_offset.saturating_sub(begin);
        Step::Event { consumed, event: Event::Seek { file_offset } }
    }

    pub(super) fn walk<'a>(
        &mut self,
        input: &'a [u8],
        open: Open,
        mut walk: Walk,
    ) -> Result<Step<'a>, StreamError> {
        let walked = match walk.step(input) {
            Ok(walked) => walked,
            Err(error) => return self.short_or(error, &self.place(open), 0),
        };
        if walked.taken == 0 && !walked.ended {
            return Ok(Step::Need { at_boundary: false });
        }
        self.phase = if walked.ended { Phase::Footer(open) } else { Phase::Walk(open, walk) };
        Ok(self.took(walked.taken, Event::Skipped))
    }

    pub(super) fn search<'a>(
        &mut self,
        input: &'a [u8],
        open: Open,
    ) -> Result<Step<'a>, StreamError> {
        let found = footer_search::search(input, open.section_id, &self.sections);
        let taken = match found {
            Found::Nothing { passed: 0, resting } => {
                return Ok(Step::Need { at_boundary: resting });
            }
            Found::Nothing { passed, .. } => passed,
            Found::Footer { at, .. } => at.saturating_add(FOOTER_BYTES),
        };
        let bytes = input.get(..taken).unwrap_or_default();
        let full = open.section_type == SectionType::FULL;
        if full {
            self.tail.keep(bytes);
            self.check_tail_bytes()?;
        }
        let Found::Footer { next, .. } = found else { return Ok(self.took(taken, Event::Skipped)) };
        self.footers = Footers::On;
        if full && next == Next::DeviceState {
            if self.ram.blocks().is_none() {
                let what = "the device state begins before RAM";
                return Err(self.error_at(
                    taken,
                    self.place(open),
                    StreamFault::Misplaced { what },
                ));
            }
            self.undecided = None;
            self.sections.withdraw(open.section_id);
            self.phase = Phase::Tail;
            return Ok(self.took(taken, Event::DeviceTail { appended: self.tail.len() }));
        }
        if full {
            self.tail.forget();
            self.early.extend(self.undecided.take());
        } else if next == Next::DeviceState && !self.ram_ended {
            let what = "the device state begins before RAM has ended";
            return Err(self.error_at(taken, self.place(open), StreamFault::Misplaced { what }));
        }
        let Open { section_type, section_id } = open;
        self.phase = Phase::Record;
        Ok(self.took(taken, Event::SectionEnd { section_type, section_id }))
    }

    pub(super) fn tail<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, StreamError> {
        if input.is_empty() {
            let at_boundary = self.tail.is_complete() || self.may_lack_description();
            return Ok(Step::Need { at_boundary });
        }
        let room = self.options.tail_bytes_max.saturating_sub(self.tail.len());
        let part = input.get(..room).unwrap_or(input);
        let around = Surroundings {
            footers: self.footers,
            early: &self.early,
            is_taken: &|header| self.sections.is_taken(header),
        };
        let pushed = self.tail.push(part, &around);
        if part.len() < input.len() && pushed.taken == part.len() && pushed.end.is_none() {
            self.position = self.position.saturating_add(wide(part.len()));
            return Err(self.tail_over_limit());
        }
        let event = match pushed.end {
            Some(certainty) => Event::EndOfStream(certainty),
            None => Event::DeviceTail { appended: pushed.taken },
        };
        Ok(self.took(pushed.taken, event))
    }

    fn check_tail_bytes(&self) -> Result<(), StreamError> {
        if self.tail.len() <= self.options.tail_bytes_max {
            return Ok(());
        }
        Err(self.tail_over_limit())
    }

    #[cold]
    fn tail_over_limit(&self) -> StreamError {
        let limit = wide(self.options.tail_bytes_max);
        let found = limit.saturating_add(1);
        let what = "bytes of device state";
        self.error(Place::DeviceState, StreamFault::OverLimit { what, found, limit })
    }
}
