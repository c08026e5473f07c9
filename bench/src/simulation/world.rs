//! One migration: who takes the next turn, until it has ended.

use landfall_pagepool::{BlockName, BlockRequest};
use landfall_receiver::{
    error::{Family, RunError},
    main_stream::End,
    stats::ChannelPhase,
    wire::{BlockInfo, Reply},
};

use super::{
    Migration,
    attached::Attached,
    broken::Broken,
    door::{self, Door},
    flow::Flow,
    judge,
    memory::Memory,
    random::Random,
    scenario::Scenario,
    shared::{Shared, Trouble, misbehaved},
    walk::{Did, State, Walk},
};
use crate::plan::Plan;

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The receiver has everything.
    Completed,
    /// With an error.
    Failed,
    /// No main stream ever came: the receiver still waits for one.
    NoMain,
}

/// Runs one migration and judges it.
pub(super) fn run(
    scenario: &Scenario,
    plan: &Plan,
    flow: &Flow,
    random: &mut Random,
    memory: &mut Memory,
) -> Result<Migration, String> {
    let extra = door::extra(scenario, random);
    let shared = Shared::new(scenario, flow);
    let mut world = World {
        shared: &shared,
        door: Door::new(&shared, &extra),
        walk: Walk::new(&flow.main, scenario.keep),
        attached: Vec::new(),
        gone: Vec::new(),
        closed: false,
        turns: 0,
        memory,
    };
    let result = world.run(random);
    for channel in &mut world.attached {
        channel.drain(&shared, random);
    }
    let World { door, mut walk, memory, turns, .. } = world;
    let result = result.and_then(|(ending, error)| {
        judge::judge(&shared, plan, &mut walk, ending, error.as_ref())?;
        Ok(ending)
    });
    let zero_written = |block| shared.sum(|counters| counters.zero_written.get(), block);
    let migration = result.map(|ending| Migration {
        fault: scenario.fault.map(|fault| fault.kind),
        ending,
        channels: scenario.source.channels,
        bytes: flow.bytes(),
        resent: flow.model.blocks.iter().map(|b| b.pages.normal + b.pages.zero - b.unique).sum(),
        sync_points: flow.model.sync_points.len() as u64,
        cleared: (0..flow.model.blocks.len()).map(zero_written).sum(),
        strays: door.strays,
        turns,
    });
    let Shared { ram, twin, .. } = shared;
    if let Some(ram) = ram.into_inner().filter(|_| scenario.keep) {
        memory.pool.reclaim(ram);
    }
    if let Some(twin) = twin.into_inner() {
        memory.twin.reclaim(twin);
    }
    migration
}

struct World<'a, 'm> {
    shared: &'a Shared<'a>,
    door: Door<'a>,
    walk: Walk<'a>,
    attached: Vec<Attached<'a>>,
    /// Actors that have found a fault and do nothing more.
    gone: Vec<usize>,
    /// A source that was silent where it may be has closed main.
    closed: bool,
    turns: u64,
    memory: &'m mut Memory,
}

impl<'a> World<'a, '_> {
    /// Until the end, or the first error.
    fn run(&mut self, random: &mut Random) -> Result<(Ending, Option<RunError>), String> {
        let mut idle = 0;
        loop {
            let actors = self.actors();
            let actor = self.pick(random);
            let word = random.word();
            if word as u8 > self.shared.scenario.pace[actor % 8] {
                continue;
            }
            let burst = match word >> 60 {
                0 => 64,
                1..6 => 6,
                _ => 1,
            };
            let mut moved = self.turns(actor, burst, random);
            idle = if moved == Ok(false) { idle + 1 } else { 0 };
            if idle > 3 * actors {
                idle = 0;
                moved = self.anybody(random);
                if moved == Ok(false) {
                    match self.stuck() {
                        Some(Stuck::NoMain) => return Ok((Ending::NoMain, None)),
                        Some(Stuck::Stall(text)) => moved = Err(Stop::Error(misbehaved(text))),
                        Some(Stuck::Closes) => self.walk.close(),
                        None => {
                            return Err(format!("nothing moves, main is {:?}", self.walk.state));
                        }
                    }
                }
            }
            match moved {
                Ok(_) => {}
                Err(Stop::Wrong(text)) => return Err(text),
                Err(Stop::Error(error)) => {
                    self.gone.push(actor);
                    self.consequences(random)?;
                    return Ok((Ending::Failed, Some(error)));
                }
            }
            if let State::Ended(end) = self.walk.state {
                return self.finish(end);
            }
        }
    }

    /// The others do not hear of an error at once.
    fn consequences(&mut self, random: &mut Random) -> Result<(), String> {
        for _ in 0..random.below(24) {
            let actor = self.pick(random);
            if self.gone.contains(&actor) || matches!(self.walk.state, State::Ended(_)) {
                continue;
            }
            match self.turns(actor, 3, random) {
                Ok(_) => {}
                Err(Stop::Error(_)) => self.gone.push(actor),
                Err(Stop::Wrong(text)) => return Err(text),
            }
        }
        Ok(())
    }

    /// The main stream has ended: is the rest whole?
    fn finish(&mut self, end: End) -> Result<(Ending, Option<RunError>), String> {
        if !self.shared.is(Broken::MainGoesOn)
            && let Err(error) =
                self.walk.rounds.check_end(self.shared.sync(), self.shared.main.normal.get())
        {
            return Ok((Ending::Failed, Some(error)));
        }
        let expected = self.walk.stream.end_of_input().ok();
        if !self.shared.is(Broken::ForgedTail) && expected != Some(end) {
            return Err(format!("ended with {end:?}, the parser says {expected:?}"));
        }
        if self.walk.return_path {
            self.shared.say(Reply::Shut(u32::from(!self.shared.scenario.keep)));
        }
        Ok((Ending::Completed, None))
    }

    fn actors(&self) -> usize {
        1 + self.door.newcomers.len() + self.attached.len()
    }

    /// Any actor; of the door's only as long as somebody is there.
    fn pick(&self, random: &mut Random) -> usize {
        match self.door.is_done() {
            false => random.below(self.actors()),
            true => match random.below(1 + self.attached.len()) {
                0 => 0,
                channel => self.door.newcomers.len() + channel,
            },
        }
    }

    /// Everybody has a turn, if need be; true if anybody moved.
    fn anybody(&mut self, random: &mut Random) -> Result<bool, Stop> {
        for actor in 0..self.actors() {
            if self.turns(actor, 1, random)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Some turns for one actor; true if it moved.
    fn turns(&mut self, actor: usize, most: u32, random: &mut Random) -> Result<bool, Stop> {
        let mut moved = false;
        for _ in 0..most {
            if !self.turn(actor, random)? {
                break;
            }
            self.turns += 1;
            moved = true;
        }
        Ok(moved)
    }

    fn turn(&mut self, actor: usize, random: &mut Random) -> Result<bool, Stop> {
        let Some(other) = actor.checked_sub(1) else {
            return match self.walk.step(self.shared, &mut self.door, random)? {
                Did::Nothing => Ok(false),
                Did::Something => Ok(true),
                Did::Carve(blocks) => self.carve(&blocks).map(|()| true),
                Did::Attach(ours) => {
                    self.attach(&ours);
                    Ok(true)
                }
            };
        };
        match other.checked_sub(self.door.newcomers.len()) {
            None => Ok(self.door.step(other, self.shared, random)?),
            Some(channel) => Ok(self.attached[channel].step(self.shared, random)?),
        }
    }

    fn carve(&mut self, blocks: &[BlockInfo]) -> Result<(), Stop> {
        let requests = blocks.iter().map(|block| {
            let name = BlockName::parse(block.name.as_bytes())
                .map_err(|error| RunError::new(Family::Malformed, error.to_string()))?;
            Ok(BlockRequest { name, bytes: block.used_bytes })
        });
        let requests = requests.collect::<Result<Vec<_>, RunError>>().map_err(Stop::Error)?;
        let page_bytes = self.walk.page.get();
        let Memory { pool, twin, .. } = self.memory;
        let carved = match self.shared.scenario.keep {
            true => pool.carve(&requests, page_bytes, &|_, _| {}),
            false => pool.sketch(&requests, page_bytes),
        };
        let host = |error: &dyn std::fmt::Display| {
            Stop::Error(RunError::new(Family::Environment, error.to_string()))
        };
        let ram = carved.map_err(|error| host(&error))?;
        assert!(self.shared.ram.set(ram).is_ok(), "RAM blocks come once");
        if self.shared.is(Broken::LendForgotten) {
            let bits =
                twin.carve(&requests, page_bytes, &|_, _| {}).map_err(|error| host(&error))?;
            assert!(self.shared.twin.set(bits).is_ok(), "RAM blocks come once");
        }
        Ok(())
    }

    fn attach(&mut self, ours: &[usize]) {
        self.shared.set_channels(ours.len());
        for (id, &newcomer) in ours.iter().enumerate() {
            let newcomer = &self.door.newcomers[newcomer];
            let (data, socket) = (newcomer.data, newcomer.socket);
            self.attached.push(Attached::new(id, data, socket, self.walk.page, self.shared));
        }
    }

    /// Nobody can move. What a clock would say then.
    fn stuck(&mut self) -> Option<Stuck> {
        if self.shared.scenario.fault.is_none() && self.walk.return_path {
            return None;
        }
        if self.door.main_is_gone() {
            return Some(Stuck::NoMain);
        }
        let inside = self.attached.iter().position(|one| one.phase() == ChannelPhase::Inside);
        let stall = match self.walk.state {
            State::AwaitsChannels => "not all multifd channels connected".to_owned(),
            State::Derives(_) => "a multifd channel is missing".to_owned(),
            State::AwaitsSync => "not all channels have come to a sync point".to_owned(),
            State::Reads { at_boundary: false } => {
                let error = self.walk.stream.end_of_input().err();
                error.map_or_else(|| "main stream: stalled".to_owned(), |error| error.to_string())
            }
            _ => match inside {
                Some(channel) => format!("channel {channel}: stalled"),
                // Silence is legal here: the source may still go away.
                None if self.closed => return None,
                None => {
                    self.closed = true;
                    return Some(Stuck::Closes);
                }
            },
        };
        Some(Stuck::Stall(stall))
    }
}

/// What becomes of a run in which nobody can move.
enum Stuck {
    /// It waits for a source, as long as it takes.
    NoMain,
    /// It ends after its stall timeout.
    Stall(String),
    /// Its source closes main.
    Closes,
}

/// Why a run does not go on.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    Error(RunError),
    Wrong(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Error(error) => Self::Error(error),
            Trouble::Wrong(text) => Self::Wrong(text),
        }
    }
}
