//! Covering sets: few rows in which every combination of two (or three) values
//! of different dimensions occurs, unless the constraints forbid it.
//!
//! Greedy, one row at a time: a row starts from a combination still missing and
//! takes, dimension after dimension in a random order, the value that adds most
//! missing combinations; of some such rows the best is kept. Same seed, same set.

use std::collections::BTreeSet;

use fastrand::Rng;

/// The values chosen so far, by dimension.
pub(crate) type Partial = [Option<usize>];

/// Says whether the values chosen so far may stand together. Must only answer
/// no for what no further choice can mend.
pub(crate) type Allowed<'a> = &'a dyn Fn(&Partial) -> bool;

/// `strength` values of different dimensions: (dimension, value), ascending.
type Combination = Vec<(usize, usize)>;

/// Rows that cover every allowed combination of `strength` values.
/// `levels[d]` is how many values dimension `d` has. Where any value does, the
/// `favoured` one (dimension, value) is taken.
pub(crate) fn covering_set(
    levels: &[usize],
    strength: usize,
    allowed: Allowed<'_>,
    favoured: Option<(usize, usize)>,
    seed: u64,
) -> Vec<Vec<usize>> {
    let space = Space { levels, strength, allowed, favoured };
    let mut random = Rng::with_seed(seed);
    let mut missing = combinations(levels, strength, allowed);
    let mut rows = Vec::new();
    while let Some(first) = missing.first().cloned() {
        let row = (0..CANDIDATES)
            .map(|_| candidate(&space, &first, &missing, &mut random))
            .max_by_key(|row| covered_by(row, strength).intersection(&missing).count())
            .expect("there is at least one candidate");
        for combination in covered_by(&row, strength) {
            missing.remove(&combination);
        }
        rows.push(row);
    }
    rows
}

/// Every combination that some allowed row holds.
pub(crate) fn combinations(
    levels: &[usize],
    strength: usize,
    allowed: Allowed<'_>,
) -> BTreeSet<Combination> {
    let mut found = BTreeSet::new();
    for dimensions in subsets(levels.len(), strength) {
        let mut values = vec![0; strength];
        loop {
            let combination: Combination =
                dimensions.iter().copied().zip(values.iter().copied()).collect();
            if is_completable(&mut start_from(&combination, levels.len()), levels, allowed) {
                found.insert(combination);
            }
            if !advance(&mut values, &dimensions, levels) {
                break;
            }
        }
    }
    found
}

/// The combinations a whole row holds.
pub(crate) fn covered_by(row: &[usize], strength: usize) -> BTreeSet<Combination> {
    subsets(row.len(), strength)
        .into_iter()
        .map(|dimensions| dimensions.into_iter().map(|d| (d, row[d])).collect())
        .collect()
}

/// What a covering set is asked for.
struct Space<'a> {
    levels: &'a [usize],
    strength: usize,
    allowed: Allowed<'a>,
    favoured: Option<(usize, usize)>,
}

fn candidate(
    space: &Space<'_>,
    first: &Combination,
    missing: &BTreeSet<Combination>,
    random: &mut Rng,
) -> Vec<usize> {
    let levels = space.levels;
    let mut row = start_from(first, levels.len());
    for dimension in shuffled(levels.len(), random) {
        if row[dimension].is_some() {
            continue;
        }
        let mut best: Option<((usize, bool), usize)> = None;
        for value in shuffled(levels[dimension], random) {
            row[dimension] = Some(value);
            if !is_completable(&mut row.clone(), levels, space.allowed) {
                continue;
            }
            let gain = gain(&row, dimension, space.strength, missing);
            let rank = (gain, space.favoured == Some((dimension, value)));
            if best.is_none_or(|(most, _)| rank > most) {
                best = Some((rank, value));
            }
        }
        row[dimension] = best.map(|(_, value)| value);
    }
    row.into_iter().map(|value| value.expect("a completable row can be completed")).collect()
}

/// The numbers `0..count` in a random order.
fn shuffled(count: usize, random: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    random.shuffle(&mut order);
    order
}

/// How many missing combinations the value just put at `dimension` adds.
fn gain(
    row: &Partial,
    dimension: usize,
    strength: usize,
    missing: &BTreeSet<Combination>,
) -> usize {
    let chosen: Vec<(usize, usize)> = row
        .iter()
        .enumerate()
        .filter(|(d, _)| *d != dimension)
        .filter_map(|(d, value)| value.map(|value| (d, value)))
        .collect();
    let own = (dimension, row[dimension].expect("the value was just put"));
    subsets(chosen.len(), strength - 1)
        .into_iter()
        .filter(|others| {
            let mut combination: Combination = others.iter().map(|&i| chosen[i]).collect();
            combination.push(own);
            combination.sort_unstable();
            missing.contains(&combination)
        })
        .count()
}

fn start_from(combination: &Combination, dimensions: usize) -> Vec<Option<usize>> {
    let mut row = vec![None; dimensions];
    for &(dimension, value) in combination {
        row[dimension] = Some(value);
    }
    row
}

/// Whether values for the open dimensions exist; leaves `row` as it was.
fn is_completable(row: &mut [Option<usize>], levels: &[usize], allowed: Allowed<'_>) -> bool {
    if !allowed(row) {
        return false;
    }
    let Some(open) = row.iter().position(Option::is_none) else {
        return true;
    };
    let found = (0..levels[open]).any(|value| {
        row[open] = Some(value);
        is_completable(row, levels, allowed)
    });
    row[open] = None;
    found
}

/// Every ascending choice of `size` numbers below `count`.
fn subsets(count: usize, size: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..size {
        all = all
            .into_iter()
            .flat_map(|chosen: Vec<usize>| {
                let from = chosen.last().map_or(0, |last| last + 1);
                (from..count).map(move |next| {
                    let mut longer = chosen.clone();
                    longer.push(next);
                    longer
                })
            })
            .collect();
    }
    all
}

/// Counts `values` up like an odometer; false when it has come round.
fn advance(values: &mut [usize], dimensions: &[usize], levels: &[usize]) -> bool {
    for (value, &dimension) in values.iter_mut().zip(dimensions) {
        *value += 1;
        if *value < levels[dimension] {
            return true;
        }
        *value = 0;
    }
    false
}

/// Rows tried for each row kept: more than this hardly shortens the set.
const CANDIDATES: usize = 24;

#[test]
fn a_set_of_strength_two_covers_every_pair_of_an_unconstrained_space() {
    let levels = [3, 2, 4, 2];
    let rows = covering_set(&levels, 2, &|_| true, None, 1);
    let covered: BTreeSet<_> = rows.iter().flat_map(|row| covered_by(row, 2)).collect();
    // 3·2 + 3·4 + 3·2 + 2·4 + 2·2 + 4·2 pairs.
    assert_eq!(covered.len(), 44);
    assert!((12..=14).contains(&rows.len()), "12 is the least possible, got {}", rows.len());
}

#[test]
fn a_forbidden_pair_is_in_no_row_and_everything_else_is_covered() {
    let levels = [3, 3, 3];
    let allowed = |row: &Partial| !(row[0] == Some(1) && row[2] == Some(2));
    for strength in [2, 3] {
        let rows = covering_set(&levels, strength, &allowed, None, 7);
        assert!(rows.iter().all(|row| !(row[0] == 1 && row[2] == 2)));
        let covered: BTreeSet<_> = rows.iter().flat_map(|row| covered_by(row, strength)).collect();
        assert_eq!(covered, combinations(&levels, strength, &allowed));
    }
}

#[test]
fn a_pair_that_only_a_forbidden_third_value_would_complete_is_no_combination() {
    // Dimension 2 has one value only, and it forbids value 0 of dimension 0.
    let allowed = |row: &Partial| !(row[0] == Some(0) && row[2] == Some(0));
    let found = combinations(&[2, 2, 1], 2, &allowed);
    assert!(found.iter().all(|combination| !combination.contains(&(0, 0))));
}

#[test]
fn the_same_seed_gives_the_same_set() {
    let levels = [4, 3, 5, 2, 2];
    assert_eq!(
        covering_set(&levels, 2, &|_| true, None, 3),
        covering_set(&levels, 2, &|_| true, None, 3)
    );
}
