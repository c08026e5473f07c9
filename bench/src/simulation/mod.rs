//! Whole migrations in memory: the receiver's own state machines under a
//! network and a kernel that do whatever they may do.
//!
//! A seed decides everything: the guest, the source's form, how the receiver
//! is set up, strangers that connect, one fault or none, and in which order
//! things happen. Nothing here has a thread, a socket, a ring or a clock.
//!
//! ```text
//! scenario ▶ flow: the bytes of every stream, and what must come of them
//!          ▶ world: whose turn is it?
//!              door     connections say what they are         (Arrivals)
//!              walk     main, event by event                  (MainStream, Rounds, MainPages)
//!              attached one channel and its receives          (Channel, SyncPoints)
//!          ▶ judge: RAM, counts, bitmaps, the one error
//! ```
//!
//! What may happen is what TCP, io_uring and QEMU allow: streams wait for each
//! other in no order, a receive brings any part of what was asked for, pages
//! land in RAM before anybody is told, a short receive cancels the one linked
//! behind it. After a run that failed the same memory takes another one, which
//! must be right.
//!
//! The simulation itself is tested by [`Broken`]: receivers that are wrong in
//! one way each, every one of which it must find.

mod attached;
mod broken;
mod door;
mod fault;
mod flow;
mod guest;
mod judge;
mod memory;
mod model;
mod random;
mod scenario;
mod shared;
mod socket;
mod walk;
mod world;

pub use broken::Broken;
pub use fault::FaultKind;
pub use memory::Memory;
pub use world::Ending;

use crate::plan::Plan;

use random::Random;
use scenario::Scenario;

/// What a seed's migrations were, to show that all was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulated {
    /// Each migration in its order: all but the last had a fault.
    pub migrations: Vec<Migration>,
}

/// One migration, told for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// What was done to it.
    pub fault: Option<FaultKind>,
    /// How it ended.
    pub ending: Ending,
    /// Multifd channels.
    pub channels: u8,
    /// Bytes on all streams.
    pub bytes: u64,
    /// Pages sent again.
    pub resent: u64,
    /// Sync points of multifd.
    pub sync_points: u64,
    /// Zero pages for which memory was cleared.
    pub cleared: u64,
    /// Connections that were refused.
    pub strays: u64,
    /// Turns that somebody took.
    pub turns: u64,
}

/// Runs the migrations of `seed`, on `memory` that earlier seeds have used.
/// The first of them has a receiver that is `broken` in some way, if told so.
///
/// # Errors
/// What is wrong, in words.
pub fn simulate(
    seed: u64,
    broken: Option<Broken>,
    memory: &mut Memory,
) -> Result<Simulated, String> {
    let mut random = Random::new(seed);
    let mut simulated = Simulated::default();
    let mut broken = broken;
    loop {
        let may_fail = simulated.migrations.len() < FAULTS_MAX;
        let migration = migrate(&mut random, broken.take(), may_fail, memory)
            .map_err(|wrong| format!("migration {}: {wrong}", simulated.migrations.len()))?;
        simulated.migrations.push(migration);
        if migration.fault.is_none() && !random.one_in(8) {
            return Ok(simulated);
        }
    }
}

fn migrate(
    random: &mut Random,
    broken: Option<Broken>,
    may_fail: bool,
    memory: &mut Memory,
) -> Result<Migration, String> {
    let mut scenario = Scenario::invent(random, broken);
    let shown = |scenario: &Scenario| format!("{scenario:?}");
    let plan = Plan::new(scenario.source.clone())
        .map_err(|error| format!("not a source: {error}\n{}", shown(&scenario)))?;
    let mut flow = memory.take_flow();
    flow.fill(&plan);
    scenario.invent_fault(random, &flow, may_fail);
    scenario.fault.iter().for_each(|fault| fault.apply(&mut flow));
    let result = world::run(&scenario, &plan, &flow, random, memory)
        .map_err(|wrong| format!("{wrong}\n{}", shown(&scenario)));
    memory.give_flow(flow);
    result
}

/// Migrations of a seed that may have a fault: then one without ends it.
const FAULTS_MAX: usize = 2;
