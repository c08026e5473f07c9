//! Who is held against whom, and what comes of it.

use super::{Contender, Cost, Outcome, Sender, Series, paired::Ratio};

/// One of landfall's series, divided by another.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// landfall's, by its place in [`Outcome::series`].
    pub ours: usize,
    /// What it is divided by.
    pub theirs: usize,
    /// CPU seconds per GiB.
    pub cpu: Ratio,
    /// The same, with what starting up took.
    pub cpu_with_startup: Ratio,
    /// Seconds per GiB.
    pub wall: Ratio,
}

/// landfall's source, divided by the one that was given, into the same receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldSource {
    /// The series that landfall sent to, by its place in [`Outcome::series`].
    pub ours: usize,
    /// The same receiver with the given source.
    pub theirs: usize,
    /// The source's CPU seconds per GiB.
    pub cpu: Ratio,
    /// Seconds per GiB.
    pub wall: Ratio,
}

/// What a page more costs, from the sizes of one contender's guests.
#[derive(Clone, Debug, PartialEq)]
pub struct Slope {
    /// The contender's series with the smallest guest, by its place in [`Outcome::series`].
    pub series: usize,
    /// Destination CPU time for each page more, ns, round by round: the least squares over the
    /// sizes.
    pub ns_per_page: Vec<f64>,
}

/// Every comparison of landfall with another: with QEMU and the ceilings where guest and channels
/// are the same; with the first landfall of the same guest; with itself and the first size.
#[must_use]
pub fn held(outcome: &Outcome) -> Vec<Held> {
    let all = &outcome.series;
    let mut pairs = Vec::new();
    for (ours, series) in all.iter().enumerate().filter(|(_, one)| one.contender.is_landfall()) {
        let us = &series.contender;
        let is_alike = |theirs: &usize| {
            let them = &all[*theirs].contender;
            let alike = |one: &Contender| (one.ram_bytes, one.channels, one.source);
            !them.is_landfall() && alike(them) == alike(us)
        };
        let first = |is: &dyn Fn(&Series) -> bool| (0..ours).find(|&theirs| is(&all[theirs]));
        pairs.extend((0..all.len()).filter(is_alike).map(|theirs| (ours, theirs)));
        let alike = |one: &Contender| (one.is_landfall(), one.ram_bytes, one.source);
        let own = first(&|one| alike(&one.contender) == alike(us));
        let smaller = first(&|one| one.contender.is_another_size_of(us));
        pairs.extend(own.into_iter().chain(smaller).map(|theirs| (ours, theirs)));
    }
    let held = |(ours, theirs): (usize, usize)| Held {
        ours,
        theirs,
        cpu: ratio(&all[ours], &all[theirs], |cost| cost.cpu_s),
        cpu_with_startup: ratio(&all[ours], &all[theirs], Cost::whole_s),
        wall: ratio(&all[ours], &all[theirs], |cost| cost.wall_s),
    };
    pairs.into_iter().map(held).collect()
}

/// Every receiver that landfall has sent to, and the given source as well.
#[must_use]
pub fn held_sources(outcome: &Outcome) -> Vec<HeldSource> {
    let all = &outcome.series;
    let sent_by_us = |(_, one): &(usize, &Series)| one.contender.source == Sender::Landfall;
    let held = |(ours, series): (usize, &Series)| {
        let is_other = |one: &Series| one.contender.is_sent_to_by_another_than(&series.contender);
        let theirs = all.iter().position(is_other)?;
        Some(HeldSource {
            ours,
            theirs,
            cpu: ratio(series, &all[theirs], |cost| cost.source_s),
            wall: ratio(series, &all[theirs], |cost| cost.wall_s),
        })
    };
    all.iter().enumerate().filter(sent_by_us).filter_map(held).collect()
}

/// The slopes of all contenders that ran with three sizes or more.
#[must_use]
pub fn slopes(outcome: &Outcome) -> Vec<Slope> {
    let all = &outcome.series;
    let mut slopes = Vec::new();
    for (place, first) in all.iter().enumerate() {
        let is_size = |one: &&Series| one.contender.is_another_size_of(&first.contender);
        if all[..place].iter().any(|one| is_size(&one)) {
            continue;
        }
        let sizes: Vec<&Series> = all.iter().filter(is_size).collect();
        if sizes.len() < SIZES_MIN {
            continue;
        }
        let rounds = sizes.iter().map(|one| one.runs.len()).min().unwrap_or(0);
        let ns_per_page = (0..rounds).map(|round| {
            let point = |one: &&Series| {
                let pages = (one.contender.ram_bytes / PAGE_BYTES) as f64;
                (pages, one.runs[round].cost.cpu_s * 1e9)
            };
            slope(&sizes.iter().map(point).collect::<Vec<_>>())
        });
        slopes.push(Slope { series: place, ns_per_page: ns_per_page.collect() });
    }
    slopes
}

/// landfall's slopes divided by the others': places in `slopes`, and the ratio.
#[must_use]
pub fn held_slopes(outcome: &Outcome, slopes: &[Slope]) -> Vec<(usize, usize, Ratio)> {
    let is_ours = |slope: &Slope| outcome.series[slope.series].contender.is_landfall();
    let mut held = Vec::new();
    for (ours, us) in slopes.iter().enumerate().filter(|(_, slope)| is_ours(slope)) {
        for (theirs, them) in slopes.iter().enumerate().filter(|(_, slope)| !is_ours(slope)) {
            let (us, them) = (us.ns_per_page.iter(), them.ns_per_page.iter());
            held.push((ours, theirs, Ratio::of(us.copied(), them.copied())));
        }
    }
    held
}

fn ratio(ours: &Series, theirs: &Series, figure: impl Fn(&Cost) -> f64) -> Ratio {
    let per_gib = |series: &Series| -> Vec<f64> {
        let gib = series.contender.ram_gib();
        series.runs.iter().map(|run| figure(&run.cost) / gib).collect()
    };
    Ratio::of(per_gib(ours).into_iter(), per_gib(theirs).into_iter())
}

/// The slope of the line nearest to some points, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let above: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    above / below
}

const PAGE_BYTES: u64 = 4096;
const SIZES_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::super::{MemorySetup, Receiver, Run};
    use super::*;

    fn series(receiver: Receiver, channels: u8, ram_mib: u64, cpu_s: &[f64]) -> Series {
        let contender = Contender {
            receiver,
            memory: MemorySetup::Hugepages,
            channels,
            readers: 2,
            ram_bytes: ram_mib << 20,
            source: Sender::Given,
        };
        let run = |&cpu_s: &f64| Run {
            cost: Cost { cpu_s, startup_s: 1.0, wall_s: 2.0, ..Cost::default() },
            ..Run::default()
        };
        let runs = cpu_s.iter().map(run).collect();
        Series { contender, runs, commands: serde_json::Value::Null }
    }

    fn places(outcome: &Outcome) -> Vec<(usize, usize)> {
        held(outcome).iter().map(|held| (held.ours, held.theirs)).collect()
    }

    #[test]
    fn landfall_is_held_against_its_equals_and_against_its_own_first() {
        let outcome = Outcome {
            series: vec![
                series(Receiver::Qemu, 8, 1024, &[2.0]),
                series(Receiver::Landfall, 8, 1024, &[1.0]),
                series(Receiver::Landfall, 255, 1024, &[1.1]),
                series(Receiver::Landfall, 8, 2048, &[3.0]),
            ],
            ..Outcome::default()
        };
        assert_eq!(places(&outcome), [(1, 0), (2, 1), (3, 1)]);
        let held = held(&outcome);
        let medians = held.iter().map(|held| held.cpu.median()).collect::<Vec<_>>();
        // The last per GiB: twice the guest, thrice the time.
        assert_eq!(medians, [0.5, 1.1, 1.5]);
        assert_eq!(held[0].cpu_with_startup.median(), 2.0 / 3.0);
    }

    #[test]
    fn landfalls_source_is_held_against_the_given_one_into_the_same_receiver() {
        let sent = |source, channels, source_s| {
            let mut series = series(Receiver::CeilingBlocking, channels, 1024, &[1.0]);
            series.contender.source = source;
            series.runs[0].cost.source_s = source_s;
            series
        };
        let outcome = Outcome {
            series: vec![
                sent(Sender::Given, 2, 0.4),
                sent(Sender::Landfall, 8, 0.3),
                sent(Sender::Given, 8, 0.6),
            ],
            ..Outcome::default()
        };
        let [one] = &held_sources(&outcome)[..] else { panic!("one pair") };
        assert_eq!((one.ours, one.theirs, one.cpu.median()), (1, 2, 0.5));
        assert!(held(&outcome).is_empty(), "no landfall has received");
    }

    #[test]
    fn a_slope_leaves_out_what_a_run_costs_once() {
        // 1 GiB is 262144 pages: 5 ns each and 0.25 s beside, and 10 ns each with none.
        let cpu = |gib: u64, ns: f64, once: f64| (gib * 262_144) as f64 * ns / 1e9 + once;
        let of = |receiver, ns, once| {
            [2u64, 4, 8, 16].map(|gib| series(receiver, 2, gib << 10, &[cpu(gib, ns, once); 6]))
        };
        let all = of(Receiver::Qemu, 10.0, 0.0).into_iter();
        let all = all.chain(of(Receiver::Landfall, 5.0, 0.25)).collect();
        let outcome = Outcome { series: all, ..Outcome::default() };
        let slopes = slopes(&outcome);
        let rounded = |slope: &Slope| (slope.series, (slope.ns_per_page[5] * 1e6).round() / 1e6);
        assert_eq!(slopes.iter().map(rounded).collect::<Vec<_>>(), [(0, 10.0), (4, 5.0)]);
        let [(1, 0, ratio)] = &held_slopes(&outcome, &slopes)[..] else { panic!("one pair") };
        assert!((ratio.median() - 0.5).abs() < 1e-9);
    }
}
