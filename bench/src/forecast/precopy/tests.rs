//! What holds of any forecast, whatever its costs.

use super::*;
use crate::forecast::{DirtyTracking, Guest, Network, Pace, ReceiverCosts, SourceSettings};

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
                    assert!(before.is_infinite(), "a faster link ends it no more: {question:?}");
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
    assert!((16_384.0..16_384.0 + forecast.passes[0].threshold_pages).contains(&last), "{last}");
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
        patient.source.downtime_limit_s = remedy.downtime_limit_s.expect("a limit") * 1.05;
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
    // 5.6 packets of 0.5 MiB in each 100 ms come on top, 0.8 more or less.
    assert!((124.0..133.0).contains(&rate), "{rate} MiB/s");
    // 26 to 38 MiB at the link's 1.1 GiB/s.
    let pause = forecast.pause.expect("it ends").last_pass_s;
    assert!((0.023..0.034).contains(&pause), "{pause}");
}

#[test]
fn packets_beyond_max_bandwidth_grow_with_the_channels_but_not_for_ever() {
    let of = |channels| Chance::AVERAGE.beyond_the_limit(0, channels, 10.0, 0.5);
    for (channels, packets) in
        [(1, 1.45), (2, 2.3), (4, 3.77), (8, 6.04), (32, 12.02), (255, 17.31)]
    {
        assert!((of(channels) - packets).abs() < 0.01, "{channels} channels: {}", of(channels));
    }
    let all: Vec<_> = Chance::all().map(|one| one.beyond_the_limit(0, 8, 10.0, 0.5)).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    assert!((mean - of(8)).abs() < 0.1, "{mean}");
}

#[test]
fn what_waits_in_sockets_takes_no_time_of_its_own() {
    let mut question = question();
    question.guest.dirty_bytes_per_second = 0.0;
    question.guest.ram_bytes = 4 << 30;
    question.guest.working_set_bytes = 4 << 30;
    let empty = forecast(&question, &costs());
    let full = forecast(&question, &Costs { in_flight_bytes: (3 * MIB) as f64, ..costs() });
    // 24 MiB at 1.1 GiB/s are sent before the guest is stopped, and arrive afterwards.
    let later = full.outcomes.expect("it ends").pause_s.mean
        - empty.outcomes.expect("it ends").pause_s.mean;
    assert!((0.018..0.025).contains(&later), "{later}");
    assert!((full.total_s - empty.total_s).abs() < 0.01, "{} {}", full.total_s, empty.total_s);
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
fn zero_pages_of_the_last_pass_are_none_with_data() {
    let mut question = question();
    question.guest.dirty_bytes_per_second = 0.0;
    question.guest.zero_share = 0.6;
    // Nearly all of it is left for the pause.
    question.source.downtime_limit_s = 1000.0;
    let forecast = forecast(&question, &costs());
    let pause = forecast.pause.expect("it ends");
    assert!((pause.zero_pages / pause.last_pass_pages - 0.6).abs() < 1e-9, "{pause:?}");
    let (gib, pages) = (64.0 * 0.4, f64::from(16 << 20));
    let ReceiverCosts { s_per_gib, ns_per_packet, ns_per_run, .. } = ReceiverCosts::LOOPBACK;
    // Four pages of ten have data, and before six of ten of these there is a zero page.
    let runs = pages * 0.4 * 0.6;
    let all = s_per_gib * gib + (ns_per_packet * pages / 128.0 + ns_per_run * runs) / 1e9;
    let found = forecast.destination.cpu_s;
    assert!((found / all - 1.0).abs() < 0.001, "{found} for {all}");
}

#[test]
fn max_bandwidth_costs_the_destination_its_rests() {
    let mut question = question();
    question.guest.dirty_bytes_per_second = 0.0;
    let free = forecast(&question, &costs());
    question.source.max_bandwidth = 100 * MIB;
    let held = forecast(&question, &costs());
    let stretches = held.passes[0].duration_s / 0.1;
    let more = held.destination.cpu_s - free.destination.cpu_s;
    // The link passes 1.1 GiB/s, so nine tenths of each stretch are a rest.
    let share = more / (stretches * costs().rest_s);
    assert!((0.87..0.91).contains(&share), "{share}");
    question.source.max_bandwidth = 2000 * MIB;
    assert_eq!(forecast(&question, &costs()), free, "the link is slower");
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

#[test]
fn where_the_steps_fall_decides_a_pause_by_no_more_than_a_step_and_what_is_counted() {
    let mut question = question();
    question.guest.dirty_bytes_per_second = 0.0;
    question.source.max_bandwidth = 100 * MIB;
    let forecast = forecast(&question, &costs());
    let pause = forecast.outcomes.expect("it ends").pause_s;
    // A step is 13.75 MiB, a third of what may be left: 27 to 41 MiB, a packet or two more or less.
    let step_s = 13.75 * MIB as f64 / question.network.payload_bytes_per_second();
    let between = pause.most - pause.least;
    assert!((step_s..step_s * 1.6).contains(&between), "{between} of {step_s}");
    assert!((pause.least + pause.most - 2.0 * pause.mean).abs() < step_s / 4.0, "{pause:?}");
    let shown = forecast.pause.expect("it ends").total_s();
    assert!((shown - pause.mean).abs() < step_s / 50.0, "{shown} is shown of {pause:?}");
}

#[test]
fn the_same_question_has_the_same_answer() {
    assert_eq!(forecast(&question(), &costs()), forecast(&question(), &costs()));
}

#[test]
fn what_ends_by_chance_alone_says_how_often() {
    let mut question = question();
    question.guest.dirty_bytes_per_second = (3000 * MIB) as f64;
    let remedy = forecast(&question, &costs()).remedy.expect("it never ends");
    let border = remedy.dirty_bytes_per_second.expect("a rate");
    let mut shares = std::collections::BTreeSet::new();
    // From what always ends to what never does.
    for percent in 80..120_u32 {
        question.guest.dirty_bytes_per_second = border * f64::from(percent) / 100.0;
        let forecast = forecast(&question, &costs());
        let share = forecast.ends_share;
        assert_eq!(forecast.pause.is_some(), share >= 0.5, "{share}");
        assert_eq!(forecast.outcomes.is_some(), share >= 0.5, "{share}");
        assert_eq!(forecast.remedy.is_none(), share >= 0.5, "{share}");
        shares.insert((share * 256.0) as u32);
    }
    assert!(shares.contains(&0) && shares.contains(&256), "{shares:?}");
    assert!(shares.iter().any(|share| (1..256).contains(share)), "{shares:?}");
}

#[test]
fn a_downtime_limit_that_qemu_does_not_take_is_no_remedy() {
    let mut question = question();
    question.network.link_bits_per_second = 1e6;
    question.guest.dirty_bytes_per_second = 20e9;
    let remedy = forecast(&question, &costs()).remedy.expect("it never ends");
    assert_eq!(remedy.downtime_limit_s, None);
}
