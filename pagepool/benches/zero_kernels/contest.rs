//! The kernel that was chosen against its contestants: alternating, in one run, medians of ratios.

use std::hint::black_box;
use std::time::Instant;

use landfall_pagepool::ZeroKernel;

use crate::contestants::{Contestant, Page, SUM};

/// Prints what the chosen kernel reaches of each contestant in `pages`, all of which are zero; a
/// wrong answer panics.
pub(crate) fn hold(place: &str, chosen: ZeroKernel, pages: &[Page], passes: usize, turns: usize) {
    let against = [vec![SUM], of_this_architecture(chosen)].concat();
    let mut rates: Vec<(f64, Vec<f64>)> = Vec::new();
    for turn in 0..turns {
        let ours = |page: &Page| chosen.is_zero_slice(page);
        let theirs = |index: usize| rate(pages, passes, against[index].is_zero);
        // Who goes first changes from turn to turn.
        let order = (0..against.len()).map(|index| (index + turn) % against.len());
        let mut of_turn = vec![0.0; against.len()];
        let before = rate(pages, passes, ours);
        for index in order {
            of_turn[index] = theirs(index);
        }
        rates.push((f64::midpoint(before, rate(pages, passes, ours)), of_turn));
    }
    let ours = median(rates.iter().map(|(ours, _)| *ours));
    println!("{place}: {} {ours:.1} GiB/s", chosen.name());
    for (index, Contestant { name, .. }) in against.iter().enumerate() {
        let theirs = median(rates.iter().map(|(_, of_turn)| of_turn[index]));
        let ratio = median(rates.iter().map(|(ours, of_turn)| ours / of_turn[index]));
        println!("    {name:<16} {theirs:>6.1} GiB/s, ours {ratio:.2} times that");
    }
}

#[cfg(target_arch = "x86_64")]
fn of_this_architecture(chosen: ZeroKernel) -> Vec<Contestant> {
    use crate::x86_64::{SSE2_LOOP, compiled, sums};
    [vec![SSE2_LOOP], compiled(chosen.name()), sums()].concat()
}

#[cfg(not(target_arch = "x86_64"))]
fn of_this_architecture(_: ZeroKernel) -> Vec<Contestant> {
    Vec::new()
}

/// GiB/s of looking at all pages so many times.
fn rate(pages: &[Page], passes: usize, is_zero: impl Fn(&Page) -> bool) -> f64 {
    let start = Instant::now();
    for _ in 0..passes {
        let zero = pages.iter().filter(|page| black_box(&is_zero)(page)).count();
        assert_eq!(zero, pages.len(), "all pages are zero");
    }
    let gib = (passes * size_of_val(pages)) as f64 / (1u64 << 30) as f64;
    gib / start.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
