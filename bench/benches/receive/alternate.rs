//! Contenders in turn, and the table of what they took.

use landfall_bench::compare::{Ratio, median};
use landfall_pagepool::{BlockName, BlockRequest, Hugepages, MemoryConfig, Pool, RamBlocks};

use crate::contender::Contender;
use crate::run::{Cost, run};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Bytes of guest RAM, received once a run.
    pub(crate) ram_bytes: u64,
    /// How often everybody runs.
    pub(crate) rounds: usize,
    /// On hugepages, where a contender asks for them.
    pub(crate) hugepages: bool,
}

/// Runs everybody in turn and prints a table; ratios are to the first.
pub(crate) fn alternate(question: &str, contenders: &[Contender], amount: Amount) {
    if contenders.is_empty() {
        return;
    }
    let Amount { ram_bytes, rounds, hugepages } = amount;
    let pages = |huge| if huge { Hugepages::Huge2M } else { Hugepages::Off };
    let mut huge =
        contenders.iter().any(|one| !one.base_pages).then(|| memory(ram_bytes, pages(hugepages)));
    let mut base =
        contenders.iter().any(|one| one.base_pages).then(|| memory(ram_bytes, pages(false)));
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        // Who goes first changes, so that nobody always has the warmer machine.
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let memory = if contenders[at].base_pages { &mut base } else { &mut huge };
            let memory = memory.as_mut().expect("mapped above");
            memory.turns += usize::from(contenders[at].places());
            costs[at].push(run(&contenders[at], &memory.ram[0], memory.turns, round == 0));
        }
    }
    println!("\n{question}: {} MiB, {rounds} rounds", ram_bytes >> 20);
    println!(
        "{:40} {:>8} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6}  ratio",
        "", "CPU s/GiB", "threads", "source", "GiB/s", "sleeps", "calls", "compl", "short"
    );
    for (contender, own) in contenders.iter().zip(&costs) {
        let middle = |figure: &dyn Fn(&Cost) -> f64| median(own.iter().map(figure));
        let per_packet = |figure: fn(&Cost) -> u64| {
            middle(&|cost: &Cost| figure(cost) as f64 / cost.packets as f64)
        };
        let ratio = Ratio::of(own.iter().map(used), costs[0].iter().map(used));
        println!(
            "{:40} {:8.4} {:7.4} {:7.4} {:6.2} {:6.2} {:6.2} {:6.2} {:6.2}  {ratio}",
            contender.name,
            middle(&used),
            middle(&|cost| cost.ring_threads_s / cost.gib),
            middle(&|cost| cost.source_s / cost.gib),
            middle(&|cost| cost.gib / cost.wall_s),
            per_packet(|cost| cost.sleeps),
            per_packet(|cost| cost.counts.calls),
            per_packet(|cost| cost.counts.completions),
            per_packet(|cost| cost.counts.short),
        );
    }
}

/// CPU seconds per GiB, the kernel's threads of a ring included where they did anything.
fn used(cost: &Cost) -> f64 {
    let threads = if cost.ring_threads_s > NOTHING_S { cost.ring_threads_s } else { 0.0 };
    (cost.cpu_s + threads) / cost.gib
}

/// One RAM block, all of it lent.
struct Memory {
    ram: RamBlocks,
    /// Runs that placed pages in it.
    turns: usize,
    _pool: Pool,
}

fn memory(bytes: u64, hugepages: Hugepages) -> Memory {
    let config = MemoryConfig { pool_bytes: bytes, hugepages, ..MemoryConfig::default() };
    let mut pool = Pool::open(&config, &|_, _| {}).expect("memory");
    let name = BlockName::parse(b"pc.ram").expect("a name");
    let ram = pool.carve(&[BlockRequest { name, bytes }], 4096, &|_, _| {}).expect("a block");
    ram[0].lend(0..ram[0].pages());
    Memory { ram, turns: 0, _pool: pool }
}

/// What starting and ending threads costs outside their own clocks.
const NOTHING_S: f64 = 0.002;
