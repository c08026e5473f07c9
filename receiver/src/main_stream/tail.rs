//! The device state, and where it ends.
//!
//! Its sections have no lengths, so bytes are kept as they come until a
//! description has come that fits all of them (docs/wire-format.md). What may
//! be a description begins with `00 06`, a length and `{"`; device bytes may
//! hold that too, by chance or because the guest put it there. Two things keep
//! a hostile guest from making the search costly: JSON text holds no control
//! byte, so a candidate dies at the first one and no two can overlap (but for
//! their headers); and a walk takes time by the length of the description, not
//! of the state, but for footers that it searches, in so many bytes as
//! [`SEARCH_BYTES_MAX`] in all. So all work is linear in the bytes received.

use super::event::Certainty;
use crate::wire::vmdesc::{
    DESCRIPTION_BYTES_MAX, DESCRIPTION_BYTES_MIN, Description, DescriptionError, Surroundings,
    Walked,
};
use crate::wire::{FOOTER_BYTES, Footers, Reader, SectionHeader, SectionType};

/// The bytes since the first section of the device state.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    scan: Scan,
    candidates: u64,
    /// How many bytes may still be searched for footers.
    search_bytes: usize,
    accepted: Option<Accepted>,
    unfit: Option<(usize, DescriptionError)>,
}

/// A description that fits the state before it.
#[derive(Debug)]
struct Accepted {
    candidate: Candidate,
    walked: Walked,
}

/// Where the search is.
#[derive(Clone, Copy, Debug)]
enum Scan {
    /// No candidate begins before this byte.
    Search { from: usize },
    /// Inside a candidate, whose bytes before `checked` could be JSON.
    Inside { candidate: Candidate, checked: usize },
}

/// Something that looks like the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// Where its EOF byte 00 is.
    eof: usize,
    /// One past the last byte of its text.
    end: usize,
}

/// What [`Tail::push`] made of its input.
pub(super) struct Pushed {
    /// Bytes of the input that are now in the tail.
    pub(super) taken: usize,
    /// If these complete a migration, how sure that is.
    pub(super) end: Option<Certainty>,
}

impl Tail {
    /// Keeps bytes that belong to the state, without looking for its end.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets bytes that were kept but belong to something else.
    pub(super) fn forget(&mut self) {
        self.bytes = Vec::new();
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends `input` up to the first end in it, or all.
    pub(super) fn push(&mut self, input: &[u8], around: &Surroundings<'_>) -> Pushed {
        let before = self.bytes.len();
        if !input.is_empty() {
            self.accepted = None;
        }
        self.bytes.extend_from_slice(input);
        while let Some(candidate) = self.next_candidate(around.footers) {
            match self.walk(candidate, around) {
                Ok(walked) => {
                    let exact = walked.misfit.is_none()
                        && around.footers == Footers::On
                        && self.candidates == 1;
                    let certainty = if exact { Certainty::Exact } else { Certainty::NeedsGrace };
                    self.bytes.truncate(candidate.end);
                    self.accepted = Some(Accepted { candidate, walked });
                    let taken = candidate.end.saturating_sub(before);
                    return Pushed { taken, end: Some(certainty) };
                }
                Err(error) => self.unfit = Some((candidate.end, error)),
            }
        }
        Pushed { taken: input.len(), end: None }
    }

    /// What the description of `candidate` leads to.
    fn walk(
        &mut self,
        candidate: Candidate,
        around: &Surroundings<'_>,
    ) -> Result<Walked, DescriptionError> {
        let state = self.bytes.get(..candidate.eof).unwrap_or_default();
        let text_at = candidate.eof.saturating_add(CANDIDATE_HEADER_BYTES);
        let text = self.bytes.get(text_at..candidate.end).unwrap_or_default();
        Description::parse(text)?.walk(state, around, &mut self.search_bytes)
    }

    /// True if the bytes are a whole migration.
    pub(super) fn is_complete(&self) -> bool {
        self.accepted.is_some()
    }

    /// True if the bytes end as the state does where no description follows.
    pub(super) fn ends_without_description(&self, footers: Footers) -> bool {
        if self.accepted.is_some() || matches!(self.scan, Scan::Inside { .. }) {
            return false;
        }
        let mut from_end = self.bytes.iter().rev();
        from_end.next() == Some(&SectionType::EOF.0)
            && (footers != Footers::On
                || self.bytes.len() == 1
                || from_end.nth(FOOTER_BYTES.saturating_sub(1)) == Some(&SectionType::FOOTER.0))
    }

    /// True if the bytes [end as the state does where no description
    /// follows](Self::ends_without_description), behind a section that begins in
    /// them.
    pub(super) fn ends_with_a_section(&self, footers: Footers) -> bool {
        let Some((_eof, state)) = self.bytes.split_last() else { return false };
        if !self.ends_without_description(footers) {
            return false;
        }
        if footers != Footers::On {
            return !state.is_empty();
        }
        let Some((_, [_footer, id @ ..])) = state.split_last_chunk::<FOOTER_BYTES>() else {
            return false;
        };
        let begins = |at: usize| {
            let mut reader = Reader::new(state.get(at..).unwrap_or_default());
            reader.byte("record type").is_ok_and(|found| found == SectionType::FULL.0)
                && SectionHeader::parse(&mut reader)
                    .is_ok_and(|header| header.section_id.to_be_bytes() == *id)
        };
        (0..state.len()).rev().any(begins)
    }

    /// Why the bytes are no whole migration although they end with what
    /// should be the description.
    pub(super) fn unfit(&self) -> Option<DescriptionError> {
        self.unfit.filter(|(end, _)| *end == self.bytes.len()).map(|(_, error)| error)
    }

    /// The state with its EOF byte, the description's text and what that leads to.
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<u8>, Walked) {
        let Self { mut bytes, accepted, .. } = std::mem::take(self);
        let Some(Accepted { candidate, walked }) = accepted else {
            return (bytes, Vec::new(), Walked::default());
        };
        let text_at = candidate.eof.saturating_add(CANDIDATE_HEADER_BYTES).min(bytes.len());
        let text = bytes.split_off(text_at);
        bytes.truncate(candidate.eof.saturating_add(1));
        (bytes, text, walked)
    }

    /// Searches on, and stops at a candidate that is whole.
    fn next_candidate(&mut self, footers: Footers) -> Option<Candidate> {
        loop {
            match self.scan {
                Scan::Search { from } => {
                    let Ok(candidate) = self.search(from, footers) else { return None };
                    self.candidates = self.candidates.saturating_add(1);
                    let checked = candidate.eof.saturating_add(CANDIDATE_HEADER_BYTES);
                    self.scan = Scan::Inside { candidate, checked };
                }
                Scan::Inside { candidate, checked } => {
                    let there = candidate.end.min(self.bytes.len());
                    let text = self.bytes.get(checked..there).unwrap_or_default();
                    // Not behind the text: another could begin in its header.
                    let again = Scan::Search { from: candidate.eof.saturating_add(1) };
                    if !text.iter().copied().all(may_be_json) {
                        self.scan = again;
                    } else if there == candidate.end {
                        self.scan = again;
                        return Some(candidate);
                    } else {
                        self.scan = Scan::Inside { candidate, checked: there };
                        return None;
                    }
                }
            }
        }
    }

    /// The first candidate at or after `from`, or, when there is none yet,
    /// remembers where to go on.
    fn search(&mut self, mut from: usize, footers: Footers) -> Result<Candidate, ()> {
        loop {
            let rest = self.bytes.get(from..).unwrap_or_default();
            let Some(skip) = rest.iter().position(|&byte| byte == SectionType::EOF.0) else {
                from = self.bytes.len();
                break;
            };
            let at = from.saturating_add(skip);
            match self.last_candidate(at, footers) {
                Some(Ok(candidate)) => return Ok(candidate),
                Some(Err(())) => from = at.saturating_add(1),
                None => {
                    from = at;
                    break;
                }
            }
        }
        self.scan = Scan::Search { from };
        Err(())
    }

    /// The candidate that begins at `eof` or, if another begins in its header,
    /// that one: of two, it is the second that could be true, since the text
    /// of a true one does not hold a second beginning.
    fn last_candidate(&self, eof: usize, footers: Footers) -> Option<Result<Candidate, ()>> {
        let Ok(mut last) = self.candidate(eof, footers)? else { return Some(Err(())) };
        for ahead in 1..CANDIDATE_HEADER_BYTES {
            if let Ok(candidate) = self.candidate(eof.saturating_add(ahead), footers)? {
                last = candidate;
            }
        }
        Some(Ok(last))
    }

    /// Whether a candidate begins with the byte at `eof`; `None` if too few
    /// bytes are there to say.
    fn candidate(&self, eof: usize, footers: Footers) -> Option<Result<Candidate, ()>> {
        if footers == Footers::On && eof > 0 {
            let footer = eof.checked_sub(FOOTER_BYTES).and_then(|at| self.bytes.get(at));
            if footer != Some(&SectionType::FOOTER.0) {
                return Some(Err(()));
            }
        }
        let mut reader = Reader::new(self.bytes.get(eof..).unwrap_or_default());
        if reader.byte("eof").ok()? != SectionType::EOF.0 {
            return Some(Err(()));
        }
        if reader.byte("record type").ok()? != SectionType::VMDESCRIPTION.0 {
            return Some(Err(()));
        }
        let length = reader.be32("vmdesc length").ok()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(DESCRIPTION_BYTES_MIN..=DESCRIPTION_BYTES_MAX).contains(&length) {
            return Some(Err(()));
        }
        if reader.array::<2>("vmdesc").ok()? != b"{\"" {
            return Some(Err(()));
        }
        let end = eof.saturating_add(CANDIDATE_HEADER_BYTES).saturating_add(length);
        Some(Ok(Candidate { eof, end }))
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            scan: Scan::default(),
            candidates: 0,
            search_bytes: SEARCH_BYTES_MAX,
            accepted: None,
            unfit: None,
        }
    }
}

impl Default for Scan {
    fn default() -> Self {
        Self::Search { from: 0 }
    }
}

/// True for all but the control bytes that JSON text must escape.
fn may_be_json(byte: u8) -> bool {
    byte >= b' ' || matches!(byte, b'\n' | b'\r' | b'\t')
}

/// The most bytes of a stream's device state that are searched for footers, over all candidates.
/// Where they are all footers of the section that is searched, that took a build for tests two
/// seconds; zeros or bytes 7e a twentieth of one.
const SEARCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// EOF byte, type byte and length, before a candidate's text.
const CANDIDATE_HEADER_BYTES: usize = 6;

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
