//! What goes wrong in a migration, and what may come of it.

use super::{
    flow::{Flow, Payload},
    random::Random,
    scenario::Scenario,
    socket::Last,
    world::Ending,
};
use crate::{encode::packet::INIT_BYTES, hash::mix, script::Stream};

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) stream: Stream,
    /// Byte of the stream.
    pub(super) at: usize,
    /// Which bits of it change.
    flip: u8,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A connection is closed.
    Cut,
    /// A connection is lost.
    Reset,
    /// Nothing more comes on a connection.
    Silence,
    /// The source dies: every connection ends, each somewhere.
    Dies,
    /// A byte is not what was sent.
    Flip,
    /// A channel never connects.
    NeverConnects,
    /// Channels connect after their count was derived without them.
    LateChannels,
    /// One more channel, whose id is too large.
    TooLargeId,
    /// One more channel, with the id of another.
    DoubledId,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cut,
        Self::Reset,
        Self::Silence,
        Self::Dies,
        Self::Flip,
        Self::NeverConnects,
        Self::LateChannels,
        Self::TooLargeId,
        Self::DoubledId,
    ];
}

impl Fault {
    /// A fault, if one of the kind that came up is possible here.
    pub(super) fn invent(random: &mut Random, scenario: &Scenario, flow: &Flow) -> Option<Self> {
        let channels = scenario.source.channels;
        let derived = scenario.count.is_none();
        let kind = match random.below(32) {
            0..9 => FaultKind::Cut,
            9..14 => FaultKind::Reset,
            14..17 => FaultKind::Silence,
            17..20 => FaultKind::Dies,
            20..28 => FaultKind::Flip,
            28 if channels > 0 => FaultKind::NeverConnects,
            29 if channels > 0 && derived => FaultKind::LateChannels,
            30 => FaultKind::TooLargeId,
            31 if channels > 0 => FaultKind::DoubledId,
            _ => return None,
        };
        let stream = match channels {
            _ if kind == FaultKind::Dies => Stream::Main,
            1.. if kind == FaultKind::NeverConnects || !random.one_in(3) => {
                Stream::Channel(random.below(usize::from(channels)) as u8)
            }
            _ => Stream::Main,
        };
        // A channel that is lost before it said what it is cannot be missed
        // where the count is derived.
        let least = if derived && stream != Stream::Main { INIT_BYTES } else { 0 };
        let at = place(random, flow, stream).max(least);
        let at = if kind == FaultKind::Flip { at.min(flow.stream(stream).len() - 1) } else { at };
        let flip =
            if random.one_in(2) { 1 << random.below(8) } else { random.within(1, 255) as u8 };
        Some(Self { kind, stream, at, flip })
    }

    /// A connection that is lost in the middle of a packet's page.
    pub(super) fn cut_inside_a_page(random: &mut Random, flow: &Flow) -> Self {
        let (stream, at) = match flow.payloads.len() {
            0 => (Stream::Main, flow.main.len() / 2),
            count => {
                let Payload { stream, at, .. } = flow.payloads[random.below(count)];
                (stream, at + random.within(1, 4095))
            }
        };
        Self { kind: FaultKind::Cut, stream, at, flip: 0 }
    }

    /// Changes the bytes that a fault changes.
    pub(super) fn apply(&self, flow: &mut Flow) {
        if self.kind == FaultKind::Flip {
            flow.stream_mut(self.stream)[self.at] ^= self.flip;
        }
    }

    /// How many bytes of `stream` come, and what then, if this changes it.
    pub(super) fn end_of(&self, stream: Stream, flow: &Flow) -> Option<(usize, Last)> {
        if let (FaultKind::Dies, Stream::Channel(id)) = (self.kind, stream) {
            let len = flow.stream(stream).len();
            let chosen = mix(self.at as u64 ^ u64::from(id) << 32);
            // A part of them gets everything across.
            let at = INIT_BYTES + chosen as usize % (2 * len);
            let last = if chosen >> 63 == 0 { Last::Closed } else { Last::Reset };
            return Some((at.min(len), last));
        }
        let last = match self.kind {
            FaultKind::Cut | FaultKind::Dies => Last::Closed,
            FaultKind::Reset => Last::Reset,
            FaultKind::Silence => Last::Silence,
            _ => return None,
        };
        (self.stream == stream).then_some((self.at, last))
    }

    /// Says what is wrong if a run with this fault ended so, with this error.
    pub(super) fn judge(
        &self,
        scenario: &Scenario,
        flow: &Flow,
        ending: Ending,
        error: &str,
    ) -> Result<(), String> {
        let whole = self.at >= flow.stream(self.stream).len();
        let may_complete = match self.kind {
            FaultKind::Flip | FaultKind::TooLargeId | FaultKind::DoubledId => true,
            FaultKind::NeverConnects | FaultKind::LateChannels => false,
            // All has come. That the source goes before it has its answer may
            // be noticed, or not.
            _ if whole => true,
            // Where no description is to be expected, and in its place the
            // source closes, nobody can tell.
            _ => {
                self.stream == Stream::Main
                    && !scenario.source.return_path
                    && self.at > flow.device_state_at
            }
        };
        let may_fail = !(whole
            && match self.kind {
                FaultKind::Cut => self.stream != Stream::Main || !scenario.source.return_path,
                FaultKind::Silence => true,
                _ => false,
            });
        let named = match (self.kind, self.stream) {
            (FaultKind::Cut | FaultKind::Reset, Stream::Main) => error.starts_with("main stream"),
            (FaultKind::Cut | FaultKind::Reset, Stream::Channel(id)) => {
                error.starts_with(&format!("channel {id}:"))
                    || error.starts_with(&format!("channel {id},"))
                    || (self.at < INIT_BYTES && error.contains("channels connected"))
            }
            _ => !error.is_empty(),
        };
        let without_main = match self.kind {
            FaultKind::NeverConnects => scenario.source.form.main_awaits_channels,
            _ => self.stream == Stream::Main && self.at < MAGIC_BYTES,
        };
        match ending {
            Ending::Completed if may_complete => Ok(()),
            Ending::Failed if may_fail && named => Ok(()),
            Ending::NoMain if without_main => Ok(()),
            _ => Err(format!("{ending:?} after {self:?}: {error}")),
        }
    }

    /// True if completed runs have what was sent in spite of this fault, but
    /// for a page whose bytes it changed.
    pub(super) fn spares_memory(&self, flow: &Flow, page_bytes: usize) -> bool {
        self.kind != FaultKind::Flip
            || (self.stream == Stream::Main && self.at >= flow.device_state_at)
            || self.flipped(flow, page_bytes).is_some()
    }

    /// The page whose bytes this changed.
    pub(super) fn flipped(&self, flow: &Flow, page_bytes: usize) -> Option<Payload> {
        let flip = self.kind == FaultKind::Flip;
        flip.then(|| flow.payload_at(self.stream, self.at, page_bytes)).flatten()
    }
}

/// Any byte, and more often one where something begins or ends.
fn place(random: &mut Random, flow: &Flow, stream: Stream) -> usize {
    let len = flow.stream(stream).len();
    let near = match random.below(6) {
        0 | 1 => return random.below(len + 1),
        2 => random.below(INIT_BYTES + 16),
        3 => len,
        4 if stream == Stream::Main => flow.device_state_at + random.below(8),
        _ => match flow.payloads.len() {
            0 => random.below(len + 1),
            count => {
                let payload = flow.payloads[random.below(count)];
                // Behind the page, as often as before it.
                payload.at + random.below(2) * 4096
            }
        },
    };
    (near + random.below(7)).saturating_sub(3).min(len)
}

/// A main stream is one by these.
pub(super) const MAGIC_BYTES: usize = 4;
