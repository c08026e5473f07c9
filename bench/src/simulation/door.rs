//! Connections that have not said what they are.

use landfall_receiver::{
    arrivals::{Arrivals, Verdict},
    wire::{INIT_BYTES, Init, MAIN_MAGIC, MULTIFD_MAGIC},
};

use super::{
    fault::{FaultKind, MAGIC_BYTES},
    flow::Until,
    random::Random,
    scenario::Scenario,
    shared::{Shared, Trouble},
    socket::{Last, Socket},
};
use crate::{encode::packet, script::Stream};

/// The door: who has come, and who is to come.
pub(super) struct Door<'a> {
    pub(super) newcomers: Vec<Newcomer<'a>>,
    /// Those who have said what they are, by their place in `newcomers`.
    pub(super) arrivals: Arrivals<usize>,
    /// Connections that were refused.
    pub(super) strays: u64,
    decided: bool,
    /// Connections that have not said what they are.
    left: usize,
}

/// A connection before it is anything.
pub(super) struct Newcomer<'a> {
    pub(super) who: Who,
    pub(super) data: &'a [u8],
    pub(super) socket: Socket,
    stage: Stage,
}

/// Whose connection it is: what the receiver has to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Main,
    Channel(u8),
    /// A channel that there must not be.
    Extra,
    Stray {
        after_main: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Knocks,
    Done,
}

impl<'a> Door<'a> {
    /// The connections of a scenario; `extra` is Init of one too many.
    pub(super) fn new(shared: &Shared<'a>, extra: &'a [u8]) -> Self {
        let scenario = shared.scenario;
        let mut newcomers = Vec::new();
        let mut add = |who, data: &'a [u8], limit: usize, last| {
            let pieces = scenario.pieces[newcomers.len() % scenario.pieces.len()];
            let socket = Socket { taken: 0, limit, last, pieces };
            newcomers.push(Newcomer { who, data, socket, stage: Stage::Away });
        };
        let end_of = |stream, last| {
            let whole = (shared.flow.stream(stream).len(), last);
            scenario.fault.and_then(|fault| fault.end_of(stream, shared.flow)).unwrap_or(whole)
        };
        let last = if scenario.source.return_path { Last::Silence } else { Last::Closed };
        let (limit, last) = end_of(Stream::Main, last);
        add(Who::Main, &shared.flow.main, limit, last);
        for (data, id) in shared.flow.channels.iter().zip(0..) {
            let (limit, last) = end_of(Stream::Channel(id), Last::Closed);
            add(Who::Channel(id), data, limit, last);
        }
        for stray in &scenario.strays {
            let last = if stray.closes { Last::Closed } else { Last::Silence };
            let who = Who::Stray { after_main: stray.after_main };
            add(who, &stray.bytes, stray.bytes.len(), last);
        }
        if !extra.is_empty() {
            add(Who::Extra, extra, extra.len(), Last::Silence);
        }
        let left = newcomers.len();
        Self { newcomers, arrivals: Arrivals::new(None), strays: 0, decided: false, left }
    }

    /// Gives one connection a turn; true if anything happened.
    pub(super) fn step(
        &mut self,
        index: usize,
        shared: &Shared<'_>,
        random: &mut Random,
    ) -> Result<bool, Trouble> {
        match self.newcomers[index].stage {
            Stage::Done => Ok(false),
            Stage::Away if !self.may_come(index, shared.scenario) => Ok(false),
            Stage::Away => {
                self.newcomers[index].stage = Stage::Knocks;
                Ok(true)
            }
            Stage::Knocks => self.look(index, shared, random),
        }
    }

    /// True once everybody has said what they are, or was refused.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// True if nobody knocks, and nobody will unless something else happens.
    pub(super) fn is_quiet(&self, shared: &Shared<'_>) -> bool {
        self.newcomers.iter().enumerate().all(|(index, newcomer)| match newcomer.stage {
            Stage::Done => true,
            Stage::Away => !self.may_come(index, shared.scenario),
            Stage::Knocks => {
                let Socket { taken, last, .. } = newcomer.socket;
                let silent = taken == self.limit(index, shared) && last == Last::Silence;
                silent && !newcomer.has_said_what_it_is()
            }
        })
    }

    /// How many bytes of main can come now, if nothing is wrong with it.
    pub(super) fn main_limit(&self, shared: &Shared<'_>) -> usize {
        let late = shared.scenario.fault.is_some_and(|f| f.kind == FaultKind::LateChannels);
        let mut limit = shared.flow.main.len();
        if late && !self.all_channels_are(|stage| stage == Stage::Done) {
            // The run does not end before they are here.
            limit = shared.flow.device_state_at;
        }
        for gate in &shared.flow.gates {
            let open = match gate.until {
                Until::Channels => late || self.all_channels_are(|stage| stage != Stage::Away),
                Until::Ack => shared.is_acked(),
            };
            if !open {
                limit = limit.min(gate.at);
            }
        }
        limit
    }

    /// The channels of the run have been chosen.
    pub(super) fn decided(&mut self, strays: usize) {
        self.decided = true;
        self.strays += strays as u64;
    }

    /// Nobody waits for a main stream any more: it says what was missing.
    pub(super) fn main_is_gone(&self) -> bool {
        !self.arrivals.has_main()
    }

    fn all_channels_are(&self, so: impl Fn(Stage) -> bool) -> bool {
        let channels = |newcomer: &&Newcomer<'_>| matches!(newcomer.who, Who::Channel(_));
        self.newcomers.iter().filter(channels).all(|newcomer| so(newcomer.stage))
    }

    fn may_come(&self, index: usize, scenario: &Scenario) -> bool {
        let fault = scenario.fault.map(|fault| (fault.kind, fault.stream));
        match self.newcomers[index].who {
            Who::Channel(id) => match fault {
                Some((FaultKind::NeverConnects, stream)) => stream != Stream::Channel(id),
                Some((FaultKind::LateChannels, _)) => self.decided,
                _ => true,
            },
            Who::Stray { after_main: true } => self.arrivals.has_main(),
            Who::Stray { after_main: false } | Who::Main | Who::Extra => true,
        }
    }

    fn limit(&self, index: usize, shared: &Shared<'_>) -> usize {
        let newcomer = &self.newcomers[index];
        match newcomer.who {
            Who::Main => newcomer.socket.limit.min(self.main_limit(shared)),
            _ => newcomer.socket.limit,
        }
    }

    /// Reads of a connection what it takes to say what it is.
    fn look(
        &mut self,
        index: usize,
        shared: &Shared<'_>,
        random: &mut Random,
    ) -> Result<bool, Trouble> {
        let limit = self.limit(index, shared);
        let newcomer = &mut self.newcomers[index];
        let socket = &mut newcomer.socket;
        let magic = newcomer.data[..socket.taken].first_chunk();
        let wanted = match magic.map(|bytes| u32::from_be_bytes(*bytes)) {
            None => MAGIC_BYTES,
            Some(MAIN_MAGIC) => {
                newcomer.stage = Stage::Done;
                let verdict = self.arrivals.add_main(index, 0);
                return self.judge(verdict);
            }
            Some(MULTIFD_MAGIC) if socket.taken < INIT_BYTES => INIT_BYTES,
            Some(MULTIFD_MAGIC) => {
                newcomer.stage = Stage::Done;
                let bytes = newcomer.data.first_chunk().expect("as many have been read");
                let verdict = match Init::parse(bytes) {
                    Ok(init) => self.arrivals.add_channel(init, index, 0),
                    Err(error) => Verdict::Stray(error.to_string()),
                };
                return self.judge(verdict);
            }
            Some(_) => {
                newcomer.stage = Stage::Done;
                return self.judge(Verdict::Stray("unknown magic".to_owned()));
            }
        };
        let most = (wanted - socket.taken).min(limit - socket.taken);
        let bytes = socket.piece(random, most);
        socket.taken += bytes;
        if bytes == 0 && socket.taken == socket.limit && socket.last != Last::Silence {
            newcomer.stage = Stage::Done;
            return self.judge(Verdict::Stray("closed".to_owned()));
        }
        Ok(bytes > 0)
    }

    fn judge(&mut self, verdict: Verdict) -> Result<bool, Trouble> {
        self.left -= 1;
        match verdict {
            Verdict::Ours => Ok(true),
            Verdict::Stray(_) => {
                self.strays += 1;
                Ok(true)
            }
            Verdict::Fatal(error) => Err(error.into()),
        }
    }
}

impl Newcomer<'_> {
    /// True if what has been read of it tells: it only has to be looked at.
    fn has_said_what_it_is(&self) -> bool {
        let taken = self.socket.taken;
        match self.data[..taken].first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) {
            None => false,
            Some(MULTIFD_MAGIC) => taken >= INIT_BYTES,
            Some(_) => true,
        }
    }
}

/// Init of the channel that a fault adds; empty if it adds none.
pub(super) fn extra(scenario: &Scenario, random: &mut Random) -> Vec<u8> {
    let channels = scenario.source.channels;
    let id = match scenario.fault.map(|fault| fault.kind) {
        Some(FaultKind::TooLargeId) if channels < 255 => {
            random.within(channels.into(), 254.min(usize::from(channels) + 3)) as u8
        }
        Some(FaultKind::DoubledId) => random.below(channels.into()) as u8,
        _ => return Vec::new(),
    };
    packet::init(&scenario.source.uuid, id).to_vec()
}
