//! Everything between the sections' contents: header, configuration, record
//! headers, commands, footers.

use super::error::{Place, StreamError, StreamFault};
use super::event::{Event, Step};
use super::sections::Content;
use super::{MainStream, Open, Phase};
use crate::wire::{
    Command, Configuration, Footers, MAIN_MAGIC, MAIN_VERSION, PageBytes, Reader, SectionHeader,
    SectionType, WireError, iterables::Iterable, iterables::Walk,
};

impl MainStream {
    pub(super) fn header<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, StreamError> {
        let mut reader = Reader::new(input);
        let parsed = reader
            .be32_is("magic", MAIN_MAGIC)
            .and_then(|()| reader.be32_is("version", MAIN_VERSION));
        match parsed {
            Ok(()) => {
                self.phase = Phase::Configuration;
                Ok(self.took(reader.at(), Event::Header { version: MAIN_VERSION }))
            }
            Err(error) => self.short_or(error, &Place::Header, 0),
        }
    }

    pub(super) fn configuration<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, StreamError> {
        let mut reader = Reader::new(input);
        match reader.byte("record type") {
            Ok(first) if first == SectionType::CONFIGURATION.0 => {}
            Ok(_) => {
                self.phase = Phase::Record;
                return self.record(input);
            }
            Err(error) => return self.short_or(error, &Place::Record, 0),
        }
        let configuration = match Configuration::parse(&mut reader) {
            Ok(configuration) => configuration,
            Err(error) => return self.short_or(error, &Place::Configuration, 0),
        };
        if let Some(name) = &configuration.unknown_capability {
            let what = format!("capability {name}").into();
            let fault = StreamFault::Unsupported { what, remedy: "turn that capability off" };
            return Err(self.error(Place::Configuration, fault));
        }
        if configuration.capabilities.mapped_ram && self.options.file.is_none() {
            let fault = StreamFault::Unsupported {
                what: "mapped-ram in a stream that is no file".into(),
                remedy: "migrate to a file: address, and receive from that",
            };
            return Err(self.error(Place::Configuration, fault));
        }
        self.mapped_ram = configuration.capabilities.mapped_ram;
        if let Some(page) = configuration.target_page() {
            self.page = page;
            self.page_is_certain = configuration.page.is_some();
        }
        self.x_ignore_shared = configuration.capabilities.x_ignore_shared;
        let raw = input.get(..reader.at()).unwrap_or_default();
        self.configuration_bytes = raw.to_vec();
        self.phase = Phase::Record;
        Ok(self.took(reader.at(), Event::Configuration(Box::new(configuration))))
    }

    pub(super) fn record<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, StreamError> {
        let mut reader = Reader::new(input);
        let Ok(first) = reader.byte("record type") else {
            return Ok(Step::Need { at_boundary: true });
        };
        let section_type = SectionType(first);
        match section_type {
            SectionType::START | SectionType::FULL => self.section_start(input, section_type),
            SectionType::PART | SectionType::END => {
                let section_id = match reader.be32("section_id") {
                    Ok(section_id) => section_id,
                    Err(error) => return self.short_or(error, &Place::Record, 0),
                };
                let content = self
                    .sections
                    .go_on(section_type, section_id)
                    .map_err(|fault| self.error(Place::Record, fault))?;
                self.enter(Open { section_type, section_id }, content);
                Ok(self.took(reader.at(), Event::SectionContinue { section_type, section_id }))
            }
            SectionType::COMMAND => self.command(reader),
            SectionType::EOF if self.ram_ended => {
                self.phase = Phase::Tail;
                self.tail(input)
            }
            SectionType::EOF => {
                let what = "the sections end before RAM has ended";
                Err(self.error(Place::Record, StreamFault::Misplaced { what }))
            }
            found => Err(self.error(Place::Record, StreamFault::RecordType { found })),
        }
    }

    fn section_start<'a>(
        &mut self,
        input: &'a [u8],
        section_type: SectionType,
    ) -> Result<Step<'a>, StreamError> {
        if section_type == SectionType::FULL && self.ram_ended {
            self.phase = Phase::Tail;
            return self.tail(input);
        }
        let mut reader = Reader::new(input);
        let parsed = reader.byte("record type").and_then(|_| SectionHeader::parse(&mut reader));
        let header = match parsed {
            Ok(header) => header,
            Err(error) => return self.short_or(error, &Place::Record, 0),
        };
        let SectionHeader { section_id, idstr, instance_id, version_id } = header;
        let full = section_type == SectionType::FULL;
        let content = match (idstr, full) {
            ("ram", _) => {
                self.check_ram(&header, full)?;
                Content::Ram
            }
            (_, false) => Iterable::of(idstr).map_or(Content::Searched, Content::Walked),
            (_, true) => Iterable::of_early(idstr).map_or(Content::Searched, Content::Walked),
        };
        if content == Content::Searched && self.footers == Footers::Off {
            if full && self.ram.blocks().is_some() {
                // A background snapshot from a machine without footers.
                self.phase = Phase::Tail;
                return self.tail(input);
            }
            let what = format!("section {idstr} without footers").into();
            let remedy = "remove the device, or leave section footers on";
            return Err(self.error(Place::Record, StreamFault::Unsupported { what, remedy }));
        }
        self.sections
            .start(section_type, &header, content)
            .map_err(|fault| self.error(Place::Record, fault))?;
        if full && content != Content::Searched {
            self.early.push((idstr.into(), instance_id));
        }
        if full && content == Content::Searched {
            self.undecided = Some((idstr.into(), instance_id));
            self.tail.keep(input.get(..reader.at()).unwrap_or_default());
        }
        self.enter(Open { section_type, section_id }, content);
        let event =
            Event::SectionStart { section_type, section_id, idstr, instance_id, version_id };
        Ok(self.took(reader.at(), event))
    }

    fn check_ram(&mut self, header: &SectionHeader<'_>, full: bool) -> Result<(), StreamError> {
        let fault = if full {
            StreamFault::Misplaced { what: "RAM comes as a device's state" }
        } else if self.ram_started {
            StreamFault::Misplaced { what: "a second RAM section starts" }
        } else if header.version_id != RAM_VERSION {
            StreamFault::Unsupported {
                what: format!("version {} of section ram", header.version_id).into(),
                remedy: "use QEMU 1.0 or later",
            }
        } else if self.x_ignore_shared && self.page_bytes_summary.is_some() {
            // Without this the two optional fields of the list of blocks could
            // not be told apart.
            StreamFault::Misplaced { what: "postcopy-ram and x-ignore-shared exclude each other" }
        } else {
            self.ram_started = true;
            return Ok(());
        };
        Err(self.error(Place::Record, fault))
    }

    fn enter(&mut self, open: Open, content: Content) {
        self.phase = match content {
            Content::Ram => Phase::Ram(open),
            Content::Walked(iterable) => Phase::Walk(open, Walk::new(iterable)),
            Content::Searched => Phase::Search(open),
        };
    }

    fn command<'a>(&mut self, mut reader: Reader<'a>) -> Result<Step<'a>, StreamError> {
        let command = match Command::parse(&mut reader) {
            Ok(command) => command,
            Err(error) => return self.short_or(error, &Place::Command, 0),
        };
        let name = || match command {
            // What it announces is not waited for, and no memory is taken for it.
            Command::Packaged(bytes) => format!("PACKAGED of {bytes} bytes (allowed: none)"),
            _ => command.id().name().to_owned(),
        };
        let out_of_place = |why| StreamFault::CommandOutOfPlace { command: name().into(), why };
        let unsupported =
            |what: &str, remedy| StreamFault::Unsupported { what: what.into(), remedy };
        let fault = match command {
            Command::OpenReturnPath if self.return_path_opened => out_of_place("comes twice"),
            Command::OpenReturnPath => {
                self.return_path_opened = true;
                return Ok(self.took(reader.at(), Event::Command(command)));
            }
            Command::PostcopyAdvise(_) if self.advised => out_of_place("comes twice"),
            Command::PostcopyAdvise(_) if self.ram_started => out_of_place("comes after RAM"),
            Command::PostcopyAdvise(advise) => {
                self.advised = true;
                if let Some(advise) = advise {
                    self.page_of_target(advise.target_page_bytes)?;
                    self.page_bytes_summary = Some(advise.page_bytes_summary);
                }
                return Ok(self.took(reader.at(), Event::Command(command)));
            }
            Command::SwitchoverStart if self.switchover_started => out_of_place("comes twice"),
            Command::SwitchoverStart => {
                self.switchover_started = true;
                return Ok(self.took(reader.at(), Event::Command(command)));
            }
            Command::Ping(_) => return Ok(self.took(reader.at(), Event::Command(command))),
            Command::PostcopyRamDiscard(_) | Command::Packaged(_) if !self.advised => {
                out_of_place("comes without POSTCOPY_ADVISE")
            }
            Command::PostcopyRamDiscard(_) | Command::Packaged(_) => {
                let what = format!("postcopy, which begins with this {},", name());
                unsupported(&what, POSTCOPY_REMEDY)
            }
            Command::PostcopyListen | Command::PostcopyRun => {
                out_of_place("comes outside a package")
            }
            Command::PostcopyResume | Command::RecvBitmap(_) => {
                out_of_place("comes although no postcopy is paused")
            }
            Command::EnableColo => unsupported("x-colo", "turn the capability x-colo off"),
        };
        Err(self.error(Place::Command, fault))
    }

    /// Takes the target's page size from POSTCOPY_ADVISE.
    fn page_of_target(&mut self, bytes: u64) -> Result<(), StreamError> {
        let page = u32::try_from(bytes).ok().and_then(PageBytes::new);
        match page {
            Some(page) if page == self.page || !self.page_is_certain => {
                self.page = page;
                Ok(())
            }
            _ => {
                let what = format!("a target page of {bytes:#x} bytes").into();
                let remedy = "use a machine with 4 KiB to 64 KiB pages";
                Err(self.error(Place::Command, StreamFault::Unsupported { what, remedy }))
            }
        }
    }

    pub(super) fn footer<'a>(
        &mut self,
        input: &'a [u8],
        open: Open,
    ) -> Result<Step<'a>, StreamError> {
        let Open { section_type, section_id } = open;
        let mut reader = Reader::new(input);
        if self.footers == Footers::Unknown {
            match reader.peek_byte("footer") {
                Ok(byte) if byte == SectionType::FOOTER.0 => self.footers = Footers::On,
                Ok(_) => self.footers = Footers::Off,
                Err(_) => return Ok(Step::Need { at_boundary: true }),
            }
        }
        if self.footers == Footers::On {
            let parsed = reader.byte("footer").and_then(|byte| Ok((byte, reader.be32("footer")?)));
            let fault = match parsed {
                Ok((byte, found)) if byte == SectionType::FOOTER.0 => {
                    let expected = section_id;
                    (found != expected).then_some(StreamFault::FooterId { found, expected })
                }
                Ok((byte, _)) => Some(StreamFault::FooterMissing { found: SectionType(byte) }),
                Err(error) => return self.short_or(error, &self.place(open), 0),
            };
            if let Some(fault) = fault {
                return Err(self.error(self.place(open), fault));
            }
        }
        let is_ram = matches!(self.sections.content(section_id), Some(Content::Ram));
        self.ram_ended |= is_ram && section_type == SectionType::END;
        self.phase = Phase::Record;
        Ok(self.took(reader.at(), Event::SectionEnd { section_type, section_id }))
    }

    /// Need, if the bytes just ended, else the error.
    pub(super) fn short_or<'a>(
        &self,
        mut error: WireError,
        place: &Place,
        before: usize,
    ) -> Result<Step<'a>, StreamError> {
        if error.is_short() {
            return Ok(Step::Need { at_boundary: false });
        }
        let at = before.saturating_add(error.at);
        error.at = 0;
        Err(self.error_at(at, place.clone(), StreamFault::Wire(error)))
    }
}

/// Closing at the first RAM_DISCARD is all that can be done. A source from 10.2 on has its
/// guest until the destination says that the package is loaded, which nobody says here; one
/// of 10.0 has it until it has written the package.
const POSTCOPY_REMEDY: &str = "turn the capability postcopy-ram off, or do not start postcopy. \
    The connection is closed here, at the first RAM_DISCARD, and that saves the guest of QEMU \
    10.0 and later: the source resumes it (10.0 only if it has not yet written its device \
    state, else it stays postcopy-paused). 7.2 has no safe point: its guest stays stopped";

/// The only version of section `ram` since QEMU 1.0.
const RAM_VERSION: u32 = 4;
