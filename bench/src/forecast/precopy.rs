//! Precopy, pass by pass, as QEMU makes it (migration/migration.c, migration/ram.c; 10.0).
//!
//! The first pass has all of RAM before it. A pass goes on until what is left is less than
//! `threshold = bandwidth * downtime-limit`, with the bandwidth of the last tenth of a second or
//! so. Then the bitmap is synced: what is left, and what the guest has written meanwhile. If that is
//! less than the threshold the guest is stopped and the rest goes without a limit; else the next
//! pass begins. So the guest of a quiet migration is stopped with most of `downtime-limit` still to
//! send, and never with nothing.

mod chance;
mod dirty;
mod speed;
mod step;

use super::{
    Costs, PAGE_BYTES, Question, destination::Destination, question::DOWNTIME_LIMIT_S_MAX,
};
use chance::Chance;
use dirty::Dirty;
use speed::Speed;
use step::{RATE_PERIOD_S, Step};

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// From `migrate` to `completed`, seconds. Without convergence as far as `passes` go.
    pub total_s: f64,
    /// The passes while the guest runs, in order.
    pub passes: Vec<Pass>,
    /// The guest's pause; none if precopy never gets there.
    pub pause: Option<Pause>,
    /// How far it depends on chance; none if precopy does not get to the pause.
    pub outcomes: Option<Outcomes>,
    /// Of all ways in which chance may have it, the share that gets to the pause, 0 to 1. With half of
    /// them the answer is that it does.
    pub ends_share: f64,
    /// What would let precopy end, where it does not.
    pub remedy: Option<Remedy>,
    /// What the destination needs.
    pub destination: Destination,
}

/// From one sync of the bitmap to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// When it begins, seconds after `migrate`.
    pub start_s: f64,
    /// How long it takes, the sync at its end included, seconds.
    pub duration_s: f64,
    /// Pages that it sends, zero pages included.
    pub sent_pages: f64,
    /// Zero pages among them.
    pub zero_pages: f64,
    /// Pages among them that an earlier pass has sent.
    pub resent_pages: f64,
    /// Bytes of packets.
    pub bytes: f64,
    /// Pages that the sync at its end finds to be sent.
    pub left_pages: f64,
    /// Below so many pages the guest would have been stopped.
    pub threshold_pages: f64,
    /// Who said how fast it goes.
    pub limit: Limit,
    /// In what share of the time nothing comes, since `max-bandwidth` has been reached.
    pub rest_share: f64,
}

impl Pass {
    /// Its stretches of 100 ms, each by the share of it that is a rest.
    #[must_use]
    pub fn rests(&self) -> f64 {
        self.duration_s / RATE_PERIOD_S * self.rest_share
    }
}

/// What the guest's pause is made of, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pause {
    /// Stopping the processors, and the last sync.
    pub stop_and_sync_s: f64,
    /// The last pass, and what was on its way before it.
    pub last_pass_s: f64,
    /// Pages of the last pass, zero pages included.
    pub last_pass_pages: f64,
    /// Zero pages among them.
    pub zero_pages: f64,
    /// Pages among them that an earlier pass has sent.
    pub resent_pages: f64,
    /// The device state.
    pub device_state_s: f64,
    /// The answer on the return path.
    pub answer_s: f64,
}

impl Pause {
    /// All of it: QEMU's `downtime`.
    #[must_use]
    pub fn total_s(&self) -> f64 {
        self.stop_and_sync_s + self.last_pass_s + self.device_state_s + self.answer_s
    }
}

/// The same migration again and again, as often as it ends: the steps between which the source looks
/// at what is left fall otherwise, and it counts a packet more or less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcomes {
    /// From `migrate` to `completed`, seconds.
    pub total_s: Spread,
    /// Passes, that of the pause included.
    pub rounds: Spread,
    /// The guest's pause, seconds.
    pub pause_s: Spread,
}

/// What a figure is on average, and between what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The average: what is expected.
    pub mean: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of all `values`, one at least.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<_> = values.collect();
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Who holds back a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The network.
    Link,
    /// The parameter `max-bandwidth`.
    MaxBandwidth,
    /// The source, as assumed; or whatever was the limit when the calibration was taken.
    Source,
    /// The CPUs of the destination's readers.
    Receiver,
}

/// Each alone would let precopy end; none where even that would not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remedy {
    /// Bytes per second of payload, from end to end.
    pub bytes_per_second: Option<f64>,
    /// Bytes written per second.
    pub dirty_bytes_per_second: Option<f64>,
    /// `downtime-limit`, seconds; none above the most that QEMU takes.
    pub downtime_limit_s: Option<f64>,
}

/// Goes through the migration, as often as there are [`Outcomes`]; of these the answer shows the
/// one whose pause is nearest to the average.
///
/// The question must have passed [`Question::check`].
#[must_use]
pub fn forecast(question: &Question, costs: &Costs) -> Forecast {
    let ways = Chance::all().map(|chance| run(question, costs, None, chance));
    let (ending, endless): (Vec<_>, Vec<_>) = ways.partition(|one| one.pause.is_some());
    let ends_share = ending.len() as f64 / (ending.len() + endless.len()) as f64;
    if ends_share < 0.5 {
        let mut shown = run(question, costs, None, Chance::AVERAGE);
        if shown.pause.is_some() {
            shown = endless.into_iter().next().expect("half of the ways and more");
        }
        shown.remedy = Some(remedy(question, costs, &shown));
        return Forecast { ends_share, ..shown };
    }
    let all: Vec<_> = ending
        .into_iter()
        .filter_map(|forecast| forecast.pause.map(|pause| (pause.total_s(), forecast)))
        .collect();
    let pause_s = Spread::of(all.iter().map(|(pause_s, _)| *pause_s));
    let outcomes = Outcomes {
        total_s: Spread::of(all.iter().map(|(_, forecast)| forecast.total_s)),
        rounds: Spread::of(all.iter().map(|(_, forecast)| forecast.passes.len() as f64 + 1.0)),
        pause_s,
    };
    let far = |pause_s: f64| (pause_s - outcomes.pause_s.mean).abs();
    let (_, shown) = all
        .into_iter()
        .min_by(|(a, _), (b, _)| far(*a).total_cmp(&far(*b)))
        .expect("half of the ways, and there are some");
    Forecast { outcomes: Some(outcomes), ends_share, ..shown }
}

/// One migration; `bytes_per_second` in place of everything that limits it.
fn run(
    question: &Question,
    costs: &Costs,
    bytes_per_second: Option<f64>,
    chance: Chance,
) -> Forecast {
    let speed = Speed { question, costs, bytes_per_second };
    let limit_s = question.source.downtime_limit_s;
    let sync_s = costs.sync_s_per_tib * question.guest.ram_bytes as f64 / TIB;
    let mut dirty = Dirty::all(question);
    let mut passes: Vec<Pass> = Vec::new();
    let mut clock_s = 0.0;
    loop {
        let pages = dirty.pages();
        let content = dirty.content();
        let (page_s, limit) = speed.live(content, pages, passes.len(), chance);
        let counted = chance.counted(passes.len(), question.source.channels, page_s, limit);
        let threshold_pages = content.bytes() / page_s * counted * limit_s / PAGE_BYTES as f64;
        let step = Step::new(limit, page_s, speed.last(content).0);
        let (sent_pages, sending_s) = if passes.is_empty() {
            step.first(pages, threshold_pages, chance.late())
        } else {
            step.later(pages, threshold_pages)
        };
        // What fits into the sockets is sent at once.
        let ahead_s = if passes.is_empty() { speed.in_sockets_s(limit, chance) } else { 0.0 };
        let duration_s = (sending_s - ahead_s).max(step.grain_s()) + sync_s;
        let sent = dirty.send(sent_pages);
        let before = passes.last().map_or(f64::INFINITY, |pass: &Pass| pass.left_pages);
        dirty.write(question, &sent, duration_s);
        passes.push(Pass {
            start_s: clock_s,
            duration_s,
            sent_pages,
            zero_pages: sent.zero(),
            resent_pages: sent.again,
            bytes: content.bytes() * sent_pages,
            left_pages: dirty.pages(),
            threshold_pages,
            limit,
            rest_share: step.rest_share(),
        });
        clock_s += duration_s;
        let left = dirty.pages();
        if left < threshold_pages || left == 0.0 {
            break;
        }
        // Without an end the passes come nearer and nearer to one that repeats itself.
        if left >= before * (1.0 - STILL) || passes.len() == PASSES_MAX {
            let destination = Destination::of(question, costs, &passes, None);
            return Forecast {
                total_s: clock_s,
                passes,
                pause: None,
                outcomes: None,
                ends_share: 0.0,
                remedy: None,
                destination,
            };
        }
    }
    let (page_s, _) = speed.last(dirty.content());
    let last = passes.last().expect("there is a first pass");
    let pause = Pause {
        stop_and_sync_s: costs.stop_s + sync_s,
        last_pass_s: costs.rest_s * last.rest_share
            + dirty.pages() * page_s
            + speed.in_sockets_s(last.limit, chance),
        last_pass_pages: dirty.pages(),
        zero_pages: dirty.content().zero_share * dirty.pages(),
        resent_pages: dirty.again(),
        device_state_s: costs.device_state_s,
        answer_s: costs.answer_s,
    };
    let destination = Destination::of(question, costs, &passes, Some(&pause));
    Forecast {
        total_s: clock_s + pause.total_s(),
        passes,
        pause: Some(pause),
        outcomes: None,
        ends_share: 1.0,
        remedy: None,
        destination,
    }
}

/// What would let it end, found by trying.
fn remedy(question: &Question, costs: &Costs, stuck: &Forecast) -> Remedy {
    let last = stuck.passes.last().expect("there is a first pass");
    let now = last.bytes / last.duration_s;
    let ends_at = |speed: f64| run(question, costs, Some(speed), Chance::AVERAGE).pause.is_some();
    let bytes_per_second = ends_at(now * SEARCH_MAX).then(|| {
        // Not the present speed itself: that does not end, whoever holds it back.
        least(now, now * SEARCH_MAX, ends_at)
    });
    let ends_with = |rate: f64| {
        let mut calmer = *question;
        calmer.guest.dirty_bytes_per_second = rate;
        run(&calmer, costs, None, Chance::AVERAGE).pause.is_some()
    };
    let rate = question.guest.dirty_bytes_per_second;
    let dirty_bytes_per_second = ends_with(0.0)
        .then(|| rate - least(0.0, rate, |less| ends_with(rate - less)))
        .filter(|rate| *rate > 0.0);
    let page_s = last.duration_s / last.sent_pages.max(1.0);
    let patience =
        last.left_pages * PAGE_BYTES as f64 * page_s * last.sent_pages / last.bytes.max(1.0);
    let downtime_limit_s = Some(patience).filter(|limit_s| *limit_s <= DOWNTIME_LIMIT_S_MAX);
    Remedy { bytes_per_second, dirty_bytes_per_second, downtime_limit_s }
}

/// The least value between two, the upper of which is enough, to a thousandth of the upper.
fn least(mut low: f64, mut high: f64, is_enough: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

const TIB: f64 = (1_u64 << 40) as f64;
/// Two passes are the same where they differ by less.
const STILL: f64 = 1e-3;
/// No migration has so many.
const PASSES_MAX: usize = 10_000;
/// How much faster than now a network is tried.
const SEARCH_MAX: f64 = 1e4;

#[cfg(test)]
mod tests;
