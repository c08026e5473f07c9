//! Which marks of the main stream are sync points, and when main may pass one.
//!
//! No sockets, clocks or threads: whoever walks the main stream, the conductor
//! or the simulation, asks here what an event means for the rounds.

use crate::error::{Family, RunError};
use crate::main_stream::{End, Event, MainStream};
use crate::sync::SyncPoints;

/// What the main stream has shown of how its source marks sync points.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    section_has_flush: bool,
    modern: Option<bool>,
}

/// Something in the main stream by which the channels must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// It speaks for channels: a FLUSH. Some sources without any write it too
    /// ([`Rounds::check_end`]).
    pub multifd: bool,
    /// It is a sync point.
    pub sync_point: bool,
}

impl Rounds {
    /// What `event` means for the rounds. To be told of every event, in order,
    /// but for those that [`MainStream::next_page`] takes.
    pub fn on(&mut self, event: &Event<'_>) -> Option<Mark> {
        match event {
            Event::SectionStart { .. } | Event::SectionContinue { .. } => {
                self.section_has_flush = false;
                None
            }
            // Pages before the first sync point are not what QEMU sends, but
            // they too must be counted somewhere.
            Event::Page { .. }
            | Event::Zero { .. }
            | Event::Xbzrle { .. }
            | Event::CompressedPage { .. }
                if self.modern.is_none() =>
            {
                Some(Mark { multifd: self.section_has_flush, sync_point: false })
            }
            Event::MultifdFlush => {
                self.section_has_flush = true;
                Some(Mark { multifd: true, sync_point: true })
            }
            Event::RamEos { .. } => {
                // The first section of ram tells which mark counts: a source
                // that flushes does so there.
                let modern = *self.modern.get_or_insert(self.section_has_flush);
                Some(Mark { multifd: modern, sync_point: !modern })
            }
            _ => None,
        }
    }

    /// True if sync points are marked by FLUSH (machine types from 8.1), not by
    /// EOS.
    pub fn is_modern(&self) -> bool {
        self.modern == Some(true)
    }

    /// Whether the rounds are whole at the end of the stream, which had
    /// `pages_on_main` pages with their bytes.
    ///
    /// 8.1.0 to 8.1.2 write FLUSH without multifd too, so no channels may be right
    /// nevertheless. But a source with multifd sends no page with its bytes on main
    /// (`migration/ram.c`, `ram_save_target_page_legacy`), and no guest is without
    /// one: where none came, channels are missing.
    ///
    /// # Errors
    /// Misbehaved: no RAM came, or a channel had other sync points than main.
    pub fn check_end(&self, sync: Option<&SyncPoints>, pages_on_main: u64) -> Result<(), RunError> {
        let misbehaved = |text: String| Err(RunError::new(Family::Misbehaved, text));
        let Some(sync) = sync else {
            return misbehaved("main stream: the migration ended without any RAM".to_owned());
        };
        if self.is_modern() && sync.channels() == 0 && pages_on_main == 0 {
            let text = "main stream: it had sync points of multifd (FLUSH) and no pages, but no \
                        multifd channel has come";
            return misbehaved(text.to_owned());
        }
        let passed = sync.passed();
        for channel in 0..sync.channels() {
            let reached = sync.reached(channel);
            if reached != passed {
                return misbehaved(format!(
                    "channel {channel}: {reached} SYNC packets, but main had {passed} sync points"
                ));
            }
        }
        Ok(())
    }
}

/// How main stands before its next sync point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Every channel has come: main may pass this one (from 1).
    Open(u64),
    /// A channel has not come to this one yet.
    Closed(u64),
}

/// Whether main may pass the next sync point. `has_ended` tells of a channel
/// whether its source has closed it.
///
/// # Errors
/// Misbehaved: a channel has ended and can never come.
pub fn gate(sync: &SyncPoints, has_ended: impl Fn(usize) -> bool) -> Result<Gate, RunError> {
    let sync_point = sync.passed() + 1;
    let Some(channel) = sync.missing(sync_point) else { return Ok(Gate::Open(sync_point)) };
    // Asked in this order: its last SYNC may have come just before its end.
    if has_ended(channel) && sync.missing(sync_point) == Some(channel) {
        let text = format!(
            "channel {channel}: closed by the source before SYNC {sync_point} of the migration"
        );
        return Err(RunError::new(Family::Misbehaved, text));
    }
    Ok(Gate::Closed(sync_point))
}

/// Whether the source may close main here.
///
/// # Errors
/// The stream is not complete, or its source wanted an answer.
pub fn check_close(stream: &MainStream, return_path_open: bool) -> Result<End, RunError> {
    let end = stream.end_of_input()?;
    if return_path_open {
        let text = "main stream: closed by the source at the end of the migration, before the \
                    destination could answer";
        return Err(RunError::new(Family::Misbehaved, text));
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SectionType;

    const START: Event<'static> = Event::SectionStart {
        section_type: SectionType::START,
        section_id: 1,
        idstr: "ram",
        instance_id: 0,
        version_id: 4,
    };
    const PART: Event<'static> =
        Event::SectionContinue { section_type: SectionType::PART, section_id: 1 };
    const EOS: Event<'static> = Event::RamEos { section_type: SectionType::PART };

    fn sync_points(events: &[Event<'_>]) -> Vec<bool> {
        let mut rounds = Rounds::default();
        events.iter().map(|event| rounds.on(event).is_some_and(|mark| mark.sync_point)).collect()
    }

    #[test]
    fn with_a_flush_in_start_only_flushes_count() {
        let found = sync_points(&[START, Event::MultifdFlush, EOS, PART, EOS, PART]);
        assert_eq!(found, [false, true, false, false, false, false]);
    }

    #[test]
    fn without_one_every_eos_counts() {
        assert_eq!(sync_points(&[START, EOS, PART, EOS]), [false, true, false, true]);
    }

    #[test]
    fn a_page_before_the_first_sync_point_asks_for_the_channels() {
        let mut rounds = Rounds::default();
        rounds.on(&START);
        let pages = [
            Event::Zero { block: 0, offset: 0 },
            Event::Page { block: 0, offset: 0, bytes: &[] },
            Event::Xbzrle { block: 0, offset: 0, encoded: &[] },
            Event::CompressedPage { block: 0, offset: 0, encoded: &[] },
        ];
        for page in &pages {
            assert_eq!(rounds.on(page), Some(Mark { multifd: false, sync_point: false }));
        }
        rounds.on(&EOS);
        for page in &pages {
            assert_eq!(rounds.on(page), None);
        }
    }

    #[test]
    fn a_gate_is_open_when_all_have_come_and_an_ended_channel_never_comes() {
        let sync = SyncPoints::new(2);
        sync.reach(1, 1);
        assert_eq!(gate(&sync, |_| false), Ok(Gate::Closed(1)));
        assert_eq!(gate(&sync, |channel| channel == 1), Ok(Gate::Closed(1)));
        assert!(gate(&sync, |channel| channel == 0).is_err());
        sync.reach(0, 1);
        assert_eq!(gate(&sync, |_| true), Ok(Gate::Open(1)));
    }

    #[test]
    fn at_the_end_main_and_channels_have_the_same_sync_points() {
        let rounds = Rounds::default();
        assert!(rounds.check_end(None, 0).is_err());
        let sync = SyncPoints::new(1);
        assert_eq!(rounds.check_end(Some(&sync), 0), Ok(()));
        sync.reach(0, 1);
        assert!(rounds.check_end(Some(&sync), 0).is_err());
    }

    #[test]
    fn flushes_without_channels_are_whole_only_with_pages_on_main() {
        let mut rounds = Rounds::default();
        let none = SyncPoints::new(0);
        assert_eq!(rounds.check_end(Some(&none), 0), Ok(()), "zero pages alone, no FLUSH");
        for event in [START, Event::MultifdFlush, EOS] {
            rounds.on(&event);
        }
        assert!(rounds.check_end(Some(&none), 0).is_err());
        assert_eq!(rounds.check_end(Some(&none), 1), Ok(()));
        assert_eq!(rounds.check_end(Some(&SyncPoints::new(2)), 0), Ok(()));
    }
}
