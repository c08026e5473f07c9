//! Precopy, pass by pass, as QEMU makes it (migration/migration.c, migration/ram.c; 10.0).
//!
//! The first pass has all of RAM before it. A pass goes on until what is left is less than
//! `threshold = bandwidth * downtime-limit`, with the bandwidth of the last tenth of a second or
//! so. Then the bitmap is synced: what is left, and what the guest has written meanwhile. If that is
//! less than the threshold the guest is stopped and the rest goes without a limit; else the next
//! pass begins. So the guest of a quiet migration is stopped with most of `downtime-limit` still to
//! send, and never with nothing.

use super::{
    Costs, GIB, HEADER_BYTES, PACKET_PAGES, PAGE_BYTES, Question, Work, destination::Destination,
    question::DirtyTracking,
};

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// From `migrate` to `completed`, seconds. Without convergence as far as `passes` go.
    pub total_s: f64,
    /// The passes while the guest runs, in order.
    pub passes: Vec<Pass>,
    /// The guest's pause; none if precopy never gets there.
    pub pause: Option<Pause>,
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
}

/// What the guest's pause is made of, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pause {
    /// Stopping the processors, and the last sync.
    pub stop_and_sync_s: f64,
    /// The last pass, and what was on its way before it.
    pub last_pass_s: f64,
    /// Pages of the last pass.
    pub last_pass_pages: f64,
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
    /// `downtime-limit`, seconds.
    pub downtime_limit_s: f64,
}

/// Goes through the migration.
///
/// The question must have passed [`Question::check`].
#[must_use]
pub fn forecast(question: &Question, costs: &Costs) -> Forecast {
    let mut forecast = run(question, costs, None);
    if forecast.pause.is_none() {
        forecast.remedy = Some(remedy(question, costs, &forecast));
    }
    forecast
}

/// One migration; `bytes_per_second` in place of everything that limits it.
fn run(question: &Question, costs: &Costs, bytes_per_second: Option<f64>) -> Forecast {
    let speed = Speed { question, costs, bytes_per_second };
    let limit_s = question.source.downtime_limit_s;
    let sync_s = costs.sync_s_per_tib * question.guest.ram_bytes as f64 / TIB;
    let mut dirty = Dirty::all(question);
    let mut passes: Vec<Pass> = Vec::new();
    let mut clock_s = 0.0;
    loop {
        let pages = dirty.pages();
        let content = dirty.content();
        let (page_s, limit) = speed.live(content);
        let threshold_pages = content.bytes() / page_s * limit_s / PAGE_BYTES as f64;
        let step = Step { grain_s: grain_s(limit), page_s, burst_page_s: speed.last(content).0 };
        let (sent_pages, sending_s) = if passes.is_empty() {
            step.first(pages, threshold_pages)
        } else {
            step.later(pages, threshold_pages)
        };
        let duration_s = sending_s + sync_s;
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
        });
        clock_s += duration_s;
        let left = dirty.pages();
        if left < threshold_pages || left == 0.0 {
            break;
        }
        // Without an end the passes come nearer and nearer to one that repeats itself.
        if left >= before * (1.0 - STILL) || passes.len() == PASSES_MAX {
            let destination = Destination::of(question, costs, &passes, None);
            return Forecast { total_s: clock_s, passes, pause: None, remedy: None, destination };
        }
    }
    let (page_s, _) = speed.last(dirty.content());
    // Sockets are full where the network is the limit, and nearly empty where something else is.
    let is_link = passes.last().is_some_and(|pass| pass.limit == Limit::Link);
    let full_sockets = if is_link { f64::from(question.source.channels) } else { 0.0 };
    let on_its_way = costs.in_flight_bytes * full_sockets;
    let pause = Pause {
        stop_and_sync_s: costs.stop_s + sync_s,
        last_pass_s: dirty.pages() * page_s + on_its_way / speed.link_bytes_per_second(),
        last_pass_pages: dirty.pages(),
        resent_pages: dirty.again(),
        device_state_s: costs.device_state_s,
        answer_s: costs.answer_s,
    };
    let destination = Destination::of(question, costs, &passes, Some(&pause));
    Forecast {
        total_s: clock_s + pause.total_s(),
        passes,
        pause: Some(pause),
        remedy: None,
        destination,
    }
}

/// What would let it end, found by trying.
fn remedy(question: &Question, costs: &Costs, stuck: &Forecast) -> Remedy {
    let last = stuck.passes.last().expect("there is a first pass");
    let now = last.bytes / last.duration_s;
    let ends_at = |speed: f64| run(question, costs, Some(speed)).pause.is_some();
    let bytes_per_second = ends_at(now * SEARCH_MAX).then(|| {
        // Not the present speed itself: that does not end, whoever holds it back.
        least(now, now * SEARCH_MAX, ends_at)
    });
    let ends_with = |rate: f64| {
        let mut calmer = *question;
        calmer.guest.dirty_bytes_per_second = rate;
        run(&calmer, costs, None).pause.is_some()
    };
    let rate = question.guest.dirty_bytes_per_second;
    let dirty_bytes_per_second = ends_with(0.0)
        .then(|| rate - least(0.0, rate, |less| ends_with(rate - less)))
        .filter(|rate| *rate > 0.0);
    let page_s = last.duration_s / last.sent_pages.max(1.0);
    let patience =
        last.left_pages * PAGE_BYTES as f64 * page_s * last.sent_pages / last.bytes.max(1.0);
    Remedy { bytes_per_second, dirty_bytes_per_second, downtime_limit_s: patience }
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

/// What is left is looked at between two steps only.
struct Step {
    /// How long one is.
    grain_s: f64,
    /// Seconds for a page.
    page_s: f64,
    /// Seconds for a page within a step: under `max-bandwidth` a step's pages go at full speed, and
    /// then nothing until its end.
    burst_page_s: f64,
}

impl Step {
    fn pages(&self) -> f64 {
        self.grain_s / self.page_s
    }

    /// Pages that the first pass sends, and how long that takes. It has many steps, so on average
    /// it is half a step late.
    fn first(&self, pages: f64, threshold: f64) -> (f64, f64) {
        // The bandwidth, and with it the threshold, is known after a tenth of a second.
        let least = RATE_PERIOD_S / self.page_s;
        let sent = (pages - threshold + self.pages() / 2.0).max(least).min(pages);
        (sent, sent * self.page_s)
    }

    /// As [`Self::first`], of a later pass: whole steps, until what is left is below the threshold.
    /// With its last page a pass is over, whatever is left of the step.
    fn later(&self, pages: f64, threshold: f64) -> (f64, f64) {
        let needed = ((pages - threshold) / self.pages()).floor() + 1.0;
        let sent = (needed.max(1.0) * self.pages()).min(pages);
        let steps = (sent / self.pages()).floor();
        let rest = sent - steps * self.pages();
        (sent, steps * self.grain_s + rest * self.burst_page_s)
    }
}

fn grain_s(limit: Limit) -> f64 {
    if limit == Limit::MaxBandwidth { RATE_PERIOD_S } else { ITERATION_S }
}

/// Of pages on their way: the share of zero pages, and of those that are sent again.
#[derive(Clone, Copy)]
struct Mix {
    zero_share: f64,
    again_share: f64,
}

impl Mix {
    /// Bytes of a page on average, its part of the packet's header included.
    fn bytes(self) -> f64 {
        let header = HEADER_BYTES as f64 / PACKET_PAGES as f64;
        (1.0 - self.zero_share) * PAGE_BYTES as f64 + header
    }
}

/// How long a page takes.
struct Speed<'a> {
    question: &'a Question,
    costs: &'a Costs,
    bytes_per_second: Option<f64>,
}

impl Speed<'_> {
    /// While the guest runs: seconds for a page, and who says so.
    fn live(&self, mix: Mix) -> (f64, Limit) {
        let unlimited = self.last(mix);
        let limit = self.question.source.max_bandwidth as f64;
        // Packets that the channels have not sent yet are not counted yet: in every period one of
        // each channel comes on top, and half of the one that was one too many.
        let uncounted = f64::from(self.question.source.channels) + 0.5;
        let packet_bytes = mix.bytes() * PACKET_PAGES as f64;
        let limited = mix.bytes() / (limit + uncounted * packet_bytes / RATE_PERIOD_S);
        if self.bytes_per_second.is_none() && limit > 0.0 && limited > unlimited.0 {
            (limited, Limit::MaxBandwidth)
        } else {
            unlimited
        }
    }

    /// In the last pass.
    fn last(&self, mix: Mix) -> (f64, Limit) {
        if let Some(speed) = self.bytes_per_second {
            return (mix.bytes() / speed, Limit::Link);
        }
        let normal = 1.0 - mix.zero_share;
        let pace = self.costs.pace;
        let source =
            (normal * pace.ns_per_normal_page + mix.zero_share * pace.ns_per_zero_page) / 1e9;
        let cpu_s = self.costs.receiver.cpu_s(&Work {
            normal_gib: normal * PAGE_BYTES as f64 / GIB,
            packets: 1.0 / PACKET_PAGES as f64,
            zero_pages: mix.zero_share,
            sync_packets: 0.0,
            resent_pages: mix.again_share,
        });
        // A channel has one reader, so more of these than channels are of no use.
        let readers = self.question.readers.min(self.question.source.channels);
        let all = [
            (mix.bytes() / self.link_bytes_per_second(), Limit::Link),
            (source, Limit::Source),
            (cpu_s / f64::from(readers), Limit::Receiver),
        ];
        all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("three of them")
    }

    fn link_bytes_per_second(&self) -> f64 {
        self.question.network.payload_bytes_per_second()
    }
}

/// Pages that have to be sent: in the working set, and outside of it, where nothing is written and
/// a page is sent once.
struct Dirty {
    inside: Share,
    outside: Share,
    /// Pages among both that no pass has sent.
    unsent: f64,
    /// Nothing of the first pass is left.
    is_later: bool,
    tracking: DirtyTracking,
}

/// Pages, and how many of them are zero.
#[derive(Clone, Copy, Default)]
struct Share {
    pages: f64,
    zero: f64,
}

impl Share {
    /// A part of it.
    fn part(self, share: f64) -> Self {
        Self { pages: self.pages * share, zero: self.zero * share }
    }

    fn less(self, other: Self) -> Self {
        Self { pages: (self.pages - other.pages).max(0.0), zero: (self.zero - other.zero).max(0.0) }
    }
}

/// What a pass has sent.
struct Sent {
    inside: Share,
    outside: Share,
    /// Pages of both that an earlier pass has sent.
    again: f64,
}

impl Sent {
    fn zero(&self) -> f64 {
        self.inside.zero + self.outside.zero
    }
}

impl Dirty {
    /// All of RAM. Zero pages are outside of the working set as long as there is room.
    fn all(question: &Question) -> Self {
        let guest = question.guest;
        let inside = guest.working_set_bytes as f64 / PAGE_BYTES as f64;
        let all = guest.ram_bytes as f64 / PAGE_BYTES as f64;
        let outside = all - inside;
        let zero = all * guest.zero_share;
        // Where nothing is written the working set is memory like any other.
        let zero_outside = if guest.dirty_bytes_per_second > 0.0 {
            zero.min(outside)
        } else {
            zero * outside / all
        };
        Self {
            inside: Share { pages: inside, zero: zero - zero_outside },
            outside: Share { pages: outside, zero: zero_outside },
            unsent: all,
            is_later: false,
            tracking: question.source.tracking,
        }
    }

    fn pages(&self) -> f64 {
        self.inside.pages + self.outside.pages
    }

    /// Pages among them that a pass has sent.
    fn again(&self) -> f64 {
        (self.pages() - self.unsent).max(0.0)
    }

    fn content(&self) -> Mix {
        let zero = self.inside.zero + self.outside.zero;
        let share = |pages: f64| if self.pages() > 0.0 { pages / self.pages() } else { 0.0 };
        Mix { zero_share: share(zero), again_share: share(self.again()) }
    }

    /// Takes pages away. The first pass meets both kinds alike; a later one goes on where the one
    /// before it stopped, and so meets first what that had not sent.
    fn send(&mut self, pages: f64) -> Sent {
        let share_of = |pages: f64, of: f64| if of > 0.0 { (pages / of).min(1.0) } else { 0.0 };
        let (inside, outside) = if self.is_later {
            let outside = pages.min(self.outside.pages);
            (share_of(pages - outside, self.inside.pages), share_of(outside, self.outside.pages))
        } else {
            let share = share_of(pages, self.pages());
            (share, share)
        };
        // What no pass has sent comes first, whichever of the two it is of.
        let again = (pages - self.unsent).max(0.0);
        self.unsent -= pages - again;
        let sent =
            Sent { inside: self.inside.part(inside), outside: self.outside.part(outside), again };
        self.inside = self.inside.less(sent.inside);
        self.outside = self.outside.less(sent.outside);
        self.is_later = true;
        sent
    }

    /// Adds what the guest has written in a pass. Of `w` pages that are written at random, `n`
    /// writes leave `w * exp(-n/w)` untouched.
    fn write(&mut self, question: &Question, sent: &Sent, duration_s: f64) {
        let guest = question.guest;
        let working_set = guest.working_set_bytes as f64 / PAGE_BYTES as f64;
        let writes = guest.dirty_bytes_per_second / PAGE_BYTES as f64 * duration_s;
        let each = writes / working_set;
        if each <= 0.0 {
            return;
        }
        let all_the_time = -(-each).exp_m1();
        let sent_share = match self.tracking {
            DirtyTracking::AtSync => all_the_time,
            // Watched from when it was sent: on average for half of the pass.
            DirtyTracking::BeforeSending => 1.0 + (-each).exp_m1() / each,
        };
        let clean = (working_set - self.inside.pages - sent.inside.pages).max(0.0);
        let written = sent.inside.pages * sent_share + clean * all_the_time;
        self.inside.pages = (self.inside.pages + written).min(working_set);
    }
}

const TIB: f64 = (1_u64 << 40) as f64;
/// The source counts bandwidth, and keeps to `max-bandwidth`, in stretches of 100 ms.
const RATE_PERIOD_S: f64 = 0.1;
/// It sends for 50 ms before it looks at what is left.
const ITERATION_S: f64 = 0.05;
/// Two passes are the same where they differ by less.
const STILL: f64 = 1e-3;
/// No migration has so many.
const PASSES_MAX: usize = 10_000;
/// How much faster than now a network is tried.
const SEARCH_MAX: f64 = 1e4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::{Guest, Network, Pace, ReceiverCosts, SourceSettings};

    const MIB: u64 = 1 << 20;

    fn question() -> Question {
        Question {
            guest: Guest {
                ram_bytes: 64 << 30,
                zero_share: 0.0,
                dirty_bytes_per_second: (100 * MIB) as f64,
                working_set_bytes: 4 << 30,
            },
            source: SourceSettings {
                downtime_limit_s: 0.3,
                max_bandwidth: 0,
                channels: 8,
                tracking: DirtyTracking::BeforeSending,
            },
            network: Network { link_bits_per_second: 10e9, mtu: 1500 },
            readers: 8,
        }
    }

    fn costs() -> Costs {
        Costs::assumed_low(8)
    }

    #[test]
    fn a_guest_that_writes_nothing_takes_one_pass_and_pauses_for_most_of_the_downtime_limit() {
        let mut question = question();
        question.guest.dirty_bytes_per_second = 0.0;
        let forecast = forecast(&question, &costs());
        assert_eq!(forecast.passes.len(), 1);
        let pause = forecast.pause.expect("it ends").total_s();
        assert!((0.25..0.31).contains(&pause), "{pause}");
        let seconds = (64_u64 << 30) as f64 * 1.0026 / question.network.payload_bytes_per_second();
        assert!((forecast.total_s / seconds - 1.0).abs() < 0.01, "{} s", forecast.total_s);
    }

    #[test]
    fn every_page_is_sent_once_where_nothing_is_written() {
        let mut question = question();
        question.guest.dirty_bytes_per_second = 0.0;
        question.guest.zero_share = 0.4;
        let forecast = forecast(&question, &costs());
        let last = forecast.pause.expect("it ends").last_pass_pages;
        let pages = forecast.passes[0].sent_pages + last;
        assert!((pages - (16 << 20) as f64).abs() < 1.0, "{pages}");
    }

    #[test]
    fn more_bandwidth_never_takes_longer() {
        for tracking in [DirtyTracking::BeforeSending, DirtyTracking::AtSync] {
            for rate in [0, 50, 500, 5000] {
                let mut before = f64::INFINITY;
                for step in 0..60 {
                    let mut question = question();
                    question.source.tracking = tracking;
                    question.guest.dirty_bytes_per_second = (rate * MIB) as f64;
                    question.network.link_bits_per_second = 1e9 * 1.15_f64.powi(step);
                    let forecast = forecast(&question, &costs());
                    if forecast.pause.is_none() {
                        assert!(
                            before.is_infinite(),
                            "a faster link ends it no more: {question:?}"
                        );
                        continue;
                    }
                    // A pass less means a longer one before: half a pass may be lost by that.
                    let allowed = before + 0.15;
                    assert!(forecast.total_s <= allowed, "{} after {before}", forecast.total_s);
                    before = before.min(forecast.total_s);
                }
            }
        }
    }

    #[test]
    fn a_smaller_working_set_leaves_less_and_never_more_than_itself() {
        let mut before = 0.0;
        for mib in [16, 64, 256, 1024, 4096, 16384] {
            let mut question = question();
            question.guest.dirty_bytes_per_second = (2000 * MIB) as f64;
            question.guest.working_set_bytes = mib * MIB;
            question.source.max_bandwidth = 500 * MIB;
            let forecast = forecast(&question, &costs());
            let left = forecast.passes[0].left_pages;
            // What the pass itself had not sent is there whatever is written.
            let most = (mib * MIB / PAGE_BYTES) as f64 + forecast.passes[0].threshold_pages;
            assert!(left <= most, "{left} of {most}");
            assert!(left > before, "{mib} MiB: {left} after {before}");
            before = left;
        }
    }

    #[test]
    fn a_working_set_that_fits_the_downtime_limit_ends_at_any_rate() {
        let mut question = question();
        question.guest.working_set_bytes = 64 * MIB;
        question.guest.dirty_bytes_per_second = 1e12;
        let forecast = forecast(&question, &costs());
        let last = forecast.pause.expect("it ends").last_pass_pages;
        // The first pass leaves a rest of RAM, too.
        assert!(forecast.passes.len() <= 3, "{:?}", forecast.passes);
        assert!(
            (16_384.0..16_384.0 + forecast.passes[0].threshold_pages).contains(&last),
            "{last}"
        );
    }

    #[test]
    fn where_it_does_not_end_each_remedy_alone_lets_it_end() {
        for tracking in [DirtyTracking::BeforeSending, DirtyTracking::AtSync] {
            let mut question = question();
            question.source.tracking = tracking;
            question.guest.dirty_bytes_per_second = (3000 * MIB) as f64;
            let stuck = forecast(&question, &costs());
            assert_eq!(stuck.pause, None);
            let remedy = stuck.remedy.expect("told");
            let mut calmer = question;
            calmer.guest.dirty_bytes_per_second = remedy.dirty_bytes_per_second.expect("a rate");
            assert!(forecast(&calmer, &costs()).pause.is_some());
            calmer.guest.dirty_bytes_per_second *= 1.1;
            assert!(forecast(&calmer, &costs()).pause.is_none(), "it is the highest such rate");
            let mut faster = question;
            let payload = faster.network.payload_bytes_per_second();
            let factor = remedy.bytes_per_second.expect("a bandwidth") / payload;
            faster.network.link_bits_per_second *= factor * 1.01;
            let mut fast = costs();
            fast.pace = Pace { ns_per_normal_page: 0.0, ns_per_zero_page: 0.0 };
            fast.receiver = ReceiverCosts::LOOPBACK.times(0.0);
            assert!(forecast(&faster, &fast).pause.is_some());
            let mut patient = question;
            patient.source.downtime_limit_s = remedy.downtime_limit_s * 1.05;
            assert!(forecast(&patient, &costs()).pause.is_some(), "{remedy:?}");
        }
    }

    #[test]
    fn pages_watched_only_from_their_sending_on_are_sent_again_less_often() {
        let mut question = question();
        let kvm = forecast(&question, &costs());
        question.source.tracking = DirtyTracking::AtSync;
        let tcg = forecast(&question, &costs());
        assert!(kvm.passes[0].left_pages < tcg.passes[0].left_pages);
    }

    #[test]
    fn max_bandwidth_holds_back_all_but_the_pause() {
        let mut question = question();
        question.guest.dirty_bytes_per_second = 0.0;
        question.source.max_bandwidth = 100 * MIB;
        let forecast = forecast(&question, &costs());
        assert_eq!(forecast.passes[0].limit, Limit::MaxBandwidth);
        let rate = forecast.passes[0].bytes / forecast.passes[0].duration_s / MIB as f64;
        // 8.5 packets in each 100 ms come on top.
        assert!((142.0..143.0).contains(&rate), "{rate} MiB/s");
        // 36 to 43 MiB at the link's 1.1 GiB/s.
        let pause = forecast.pause.expect("it ends").last_pass_s;
        assert!((0.03..0.04).contains(&pause), "{pause}");
    }

    #[test]
    fn four_tebibytes_need_bitmaps_of_256_mebibytes() {
        let mut question = question();
        question.guest.ram_bytes = 4 << 40;
        assert_eq!(forecast(&question, &costs()).destination.bitmap_bytes, 256 << 20);
    }

    #[test]
    fn few_readers_are_the_limit_of_a_fast_link() {
        let mut question = question();
        question.network.link_bits_per_second = 200e9;
        question.readers = 1;
        let forecast = forecast(&question, &costs());
        assert_eq!(forecast.passes[0].limit, Limit::Receiver);
        assert!((0.99..1.01).contains(&forecast.destination.cores), "{:?}", forecast.destination);
    }

    #[test]
    fn pages_that_are_sent_again_are_all_that_exceed_ram() {
        let forecast = forecast(&question(), &costs());
        assert_eq!(forecast.passes[0].resent_pages, 0.0);
        let pause = forecast.pause.expect("it ends");
        let sent = forecast.passes.iter().map(|pass| pass.sent_pages).sum::<f64>();
        let again = forecast.passes.iter().map(|pass| pass.resent_pages).sum::<f64>();
        let all = sent + pause.last_pass_pages;
        let ram = (16 << 20) as f64;
        assert!(all > ram, "{all}");
        assert!((all - again - pause.resent_pages - ram).abs() < 1.0, "{all} {again} {pause:?}");
    }

    #[test]
    fn jumbo_frames_leave_more_for_pages() {
        let of = |mtu| Network { link_bits_per_second: 8.0, mtu }.payload_bytes_per_second();
        assert!((of(1500) - 1448.0 / 1538.0).abs() < 1e-9);
        assert!((of(9000) - 8948.0 / 9038.0).abs() < 1e-9);
    }
}
