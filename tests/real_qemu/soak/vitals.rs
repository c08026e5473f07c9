//! How the receiver's process fares: memory, descriptors, threads.

use std::fmt;
use std::fs;

use serde_json::Value;

/// A process, looked at after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vitals {
    /// Resident memory in KiB, guest memory included.
    rss_kib: u64,
    /// Anonymous resident memory in KiB without guest memory: the pool, and what
    /// was mapped beside it for the last guest, which chance made so large.
    anon_kib: u64,
    fds: u64,
    threads: u64,
}

impl Vitals {
    /// Looks at process `id`, whose last run reported this.
    pub(super) fn of(id: u32, report: &Value) -> Result<Self, String> {
        let path = format!("/proc/{id}/status");
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next())
                .and_then(|word| word.parse::<u64>().ok())
                .ok_or_else(|| format!("{path} has no {name}"))
        };
        let path = format!("/proc/{id}/fd");
        let fds = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?.count() as u64;
        let guest_kib = report["memory"]["bytes"].as_u64().ok_or("no memory in the report")? >> 10;
        Ok(Self {
            rss_kib: number("VmRSS")?,
            anon_kib: number("RssAnon")?.saturating_sub(guest_kib),
            fds,
            threads: number("Threads")?,
        })
    }

    /// Whether it has no more descriptors and threads than at any time `before`.
    pub(super) fn is_settled(&self, before: &[Self]) -> bool {
        before.is_empty()
            || before.iter().any(|one| self.fds <= one.fds)
                && before.iter().any(|one| self.threads <= one.threads)
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            f,
            "rss {:.1} MiB, anon {:.2} MiB, {} fds, {} threads",
            mib(self.rss_kib),
            mib(self.anon_kib),
            self.fds,
            self.threads
        )
    }
}

/// Holds the last quarter of a process's life against the first: the median of
/// its memory may have grown by no more than [`ANON_GROWTH_MAX_KIB`], in a short
/// life by [`WARM_UP_MAX_KIB`], and it never has more descriptors or threads. Says
/// what was seen.
pub(super) fn check_flat(all: &[Vitals]) -> Result<String, String> {
    let quarter = (all.len() / 4).max(1);
    let (Some(first), Some(last)) =
        (all.get(..quarter), all.len().checked_sub(quarter).map(|from| &all[from..]))
    else {
        return Err("nothing was seen of the process".to_owned());
    };
    let most = |of: fn(&Vitals) -> u64, part: &[Vitals]| part.iter().map(of).max().unwrap_or(0);
    let median = |part: &[Vitals]| {
        let mut sorted: Vec<u64> = part.iter().map(|one| one.anon_kib).collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    let anon = (median(first), median(last));
    let fds = (most(|one| one.fds, first), most(|one| one.fds, last));
    let threads = (most(|one| one.threads, first), most(|one| one.threads, last));
    let seen = format!(
        "max RSS {} MiB; first and last quarter: anonymous memory {} and {} KiB, fds {} and {}, \
         threads {} and {}",
        most(|one| one.rss_kib, all) >> 10,
        anon.0,
        anon.1,
        fds.0,
        fds.1,
        threads.0,
        threads.1,
    );
    let growth_max_kib =
        if quarter >= WARM_UP_RUNS { ANON_GROWTH_MAX_KIB } else { WARM_UP_MAX_KIB };
    if anon.1 > anon.0 + growth_max_kib || fds.1 > fds.0 || threads.1 > threads.0 {
        return Err(format!("not flat: {seen}"));
    }
    Ok(seen)
}

/// What memory may grow by once it is warm. A page lost in every run is more than
/// this within an hour.
const ANON_GROWTH_MAX_KIB: u64 = 2048;
/// What the allocator comes to keep at first: threads come and go with each run,
/// and which of its arenas serves which of them is chance.
const WARM_UP_MAX_KIB: u64 = 8192;
/// After so many runs it has come to keep that: within the first quarter of a life
/// four times as long.
const WARM_UP_RUNS: usize = 100;

#[cfg(test)]
fn flat(count: usize) -> Vec<Vitals> {
    vec![Vitals { rss_kib: 130_000, anon_kib: 2_000, fds: 14, threads: 6 }; count]
}

#[test]
fn a_process_that_stays_as_it_is_is_flat_and_its_largest_moment_is_told() {
    for count in [1, 2, 8, 1000] {
        let mut all = flat(count);
        all[count / 2].rss_kib = 300 << 10;
        assert!(check_flat(&all).unwrap().contains("max RSS 300 MiB"), "{count}");
    }
    assert!(check_flat(&[]).is_err());
}

#[test]
fn a_little_lost_in_each_run_is_found() {
    type Lose = fn(&mut Vitals, u64);
    let losses: [Lose; 3] = [
        |one, run| one.anon_kib += 4 * run,
        |one, run| one.fds += run / 100,
        |one, run| one.threads += run / 100,
    ];
    for (index, lose) in losses.into_iter().enumerate() {
        let mut all = flat(1000);
        for (run, one) in (0..).zip(&mut all) {
            lose(one, run);
        }
        assert!(check_flat(&all).is_err(), "loss {index}");
    }
}

#[test]
fn the_own_process_has_descriptors_a_thread_and_memory() {
    let report = serde_json::json!({ "memory": { "bytes": 0 } });
    let own = Vitals::of(std::process::id(), &report).unwrap();
    assert!(own.fds >= 3 && own.threads >= 1 && own.rss_kib >= own.anon_kib && own.anon_kib > 0);
    let less = Vitals { fds: own.fds - 1, ..own };
    assert!(own.is_settled(&[]) && own.is_settled(&[own]) && !own.is_settled(&[less]));
}
