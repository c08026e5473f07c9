//! Forms of the main stream: XBZRLE, compressed pages, blocks that x-ignore-shared leaves out,
//! iterables beside ram. First into a destination as simple as can be, then over a socket into a
//! receiver: every page must be what the seed promises.

mod naive;

use std::collections::HashSet;
use std::sync::Arc;

use landfall_bench::encode::ram::PageItem;
use landfall_bench::form::ZeroForm;
use landfall_bench::guest::PageRef;
use landfall_bench::script::Op;
use landfall_bench::send::{End, Progress, SendOptions, Target, send};
use landfall_bench::{Plan, SourceConfig, Version, verify};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Migration, Receiver, ReceiverConfig};
use landfall_receiver::report::query_receiver;
use naive::checked::{check, small};
use naive::main_stream::Event;

/// All page items of main in their order, with their blocks.
fn items(plan: &Plan) -> Vec<(u16, PageItem, PageRef)> {
    let of = |op| match op {
        Op::MainPages(pages) => {
            pages.items.into_iter().map(|(item, page)| (pages.block, item, page)).collect()
        }
        _ => Vec::new(),
    };
    plan.script().flat_map(of).collect()
}

#[test]
fn xbzrle_sends_what_changed_of_pages_that_a_later_round_has_sent_before() {
    let mut config = small(12, 0);
    (config.xbzrle, config.patched_share) = (true, 0.7);
    (config.rounds, config.dirty_share) = (6, 0.5);
    let (plan, arrived) = check(config);
    assert!(arrived.ram.counts.xbzrle > 500, "{:?}", arrived.ram.counts);
    let mut cached = HashSet::new();
    let mut overflows = 0;
    for (block, item, page) in items(&plan) {
        let is_cached = cached.contains(&(block, page.page));
        match item {
            PageItem::Xbzrle { bytes } => assert!(is_cached && bytes <= 4096, "{page:?}"),
            PageItem::Full => overflows += u64::from(is_cached),
            PageItem::Zero => {}
            PageItem::CompressPage { .. } => panic!("{page:?} is compressed"),
        }
        if page.generation > 0 {
            cached.insert((block, page.page));
        }
    }
    assert!(overflows > 200, "{overflows} pages changed as a whole");
}

#[test]
fn a_page_that_did_not_change_is_not_sent_again_under_xbzrle() {
    let mut config = small(13, 0);
    (config.rounds, config.zero_share, config.form.zero) = (5, 1.0, ZeroForm::FullPages);
    let all = Plan::new(config.clone()).expect("possible").sent();
    config.xbzrle = true;
    let (plan, _) = check(config);
    // A page that no cache knows is sent, and never again.
    let dirty = |block: u16, page| (1..5).any(|round| plan.guest().is_dirty(block, page, round));
    let once = (0..3).map(|block| {
        (0..plan.guest().pages(block)).filter(|&page| dirty(block, page)).count() as u64
    });
    assert_eq!(plan.sent().resent, once.sum::<u64>());
    assert!(plan.sent().resent < all.resent);
}

#[test]
fn compressed_pages_are_streams_of_their_own_behind_the_first_page_of_a_block() {
    let mut config = small(14, 0);
    (config.compress, config.compressible_share, config.zero_share) = (true, 0.5, 0.0);
    let (plan, arrived) = check(config.clone());
    let mut last = None;
    for (block, item, page) in items(&plan) {
        let is_compressed = matches!(item, PageItem::CompressPage { .. });
        assert_eq!(is_compressed, last == Some(block), "{page:?}");
        last = Some(block);
    }
    let came_in: Vec<usize> = (arrived.main.events.iter())
        .filter_map(|event| match event {
            Event::Compressed { came_in, .. } => Some(*came_in),
            _ => None,
        })
        .collect();
    assert_eq!(came_in.len() as u64, plan.sent().compressed_on_main);
    let small = came_in.iter().filter(|&&bytes| bytes < 1000).count();
    let larger = came_in.iter().filter(|&&bytes| bytes > 4096).count();
    assert!(small > 300 && larger > 300, "{small} small, {larger} larger than a page");
    // Behind the first round XBZRLE takes over.
    (config.xbzrle, config.patched_share, config.rounds) = (true, 0.8, 5);
    let (plan, arrived) = check(config);
    assert!(arrived.ram.counts.xbzrle > 100);
    let late = |(_, item, page): &(u16, PageItem, PageRef)| {
        page.generation > 0 && matches!(item, PageItem::CompressPage { .. })
    };
    assert!(!items(&plan).iter().any(late));
}

#[test]
fn x_ignore_shared_announces_every_address_and_leaves_shared_blocks_out() {
    for channels in [0, 3] {
        let mut config = small(15, channels);
        config.x_ignore_shared = true;
        config.blocks[0].shared = true;
        let (plan, arrived) = check(config);
        let (name, value) = &arrived.main.subsections[0];
        assert_eq!(
            (name.as_str(), &value[5..]),
            ("configuration/capabilities", &b"x-ignore-shared"[..])
        );
        let addresses = Event::Addresses(vec![0, 3 << 20, 4 << 20]);
        assert!(arrived.main.events.contains(&addresses), "{addresses:?}");
        let untouched = |block: usize| arrived.ram.blocks[block].1.iter().all(|&byte| byte == 0xee);
        assert!(untouched(0) && !untouched(1));
        assert_eq!(plan.sent().unique, (1 << 20 | 128 << 10) / 4096);
    }
}

#[test]
fn a_disk_beside_ram_is_in_the_sections_before_its() {
    let mut config = small(16, 2);
    config.speak_as(Version::new(7, 2), "pc-q35-7.2").expect("a version");
    config.disk = true;
    let (_, arrived) = check(config);
    let sections: Vec<&Event> = (arrived.main.events.iter())
        .filter(|event| matches!(event, Event::Disk(..) | Event::Eos(_)))
        .collect();
    for pair in sections.chunks(2) {
        let [Event::Disk(disk, _), Event::Eos(ram)] = pair else { panic!("{pair:?}") };
        assert_eq!(disk, ram, "sections of one kind");
    }
    let [first, part, .., end] = &sections.iter().step_by(2).copied().collect::<Vec<_>>()[..]
    else {
        panic!("{sections:?}");
    };
    assert_eq!(**first, Event::Disk(1, vec![]));
    assert_eq!(**part, Event::Disk(2, vec![(0, true), (1 << 20, false)]));
    assert_eq!(**end, Event::Disk(3, vec![(0, true)]));
}

fn receiver() -> Receiver {
    let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
    let config = ReceiverConfig { memory, ..ReceiverConfig::default() };
    Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).expect("io_uring")
}

/// A guest of 24 MiB without multifd, as `change` has it, into the receiver: every page and every
/// count.
fn arrives(receiver: &Receiver, seed: u64, change: impl FnOnce(&mut SourceConfig)) -> Arrival {
    let mut config = SourceConfig::new(seed, 24 << 20, 0);
    config.blocks.truncate(3);
    (config.rounds, config.dirty_share) = (5, 0.5);
    change(&mut config);
    let plan = Plan::new(config).expect("possible");
    let address = Address::parse("tcp:127.0.0.1:0").expect("an address");
    let migration =
        receiver.start(&[address], Incoming::default(), &mut |_| None).expect("listens");
    let port = migration.socket_address[0]["port"].as_str().expect("a port");
    let target: Target = format!("tcp:127.0.0.1:{port}").parse().expect("a target");
    let outcome = send(&plan, &target, &SendOptions::default(), &Progress::new());
    let ended = migration.wait();
    assert_eq!(ended.error, None, "seed {seed}");
    assert_eq!(outcome.end, End::Completed, "seed {seed}");
    let ram = ended.received.ram.as_ref().expect("a completed run has RAM");
    let read = |block: u16, offset: u64, out: &mut [u8]| {
        ram[usize::from(block)].read(offset, out);
        Ok(())
    };
    verify(&plan, 1, read).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let sent = plan.sent();
    let report = query_receiver(&migration);
    for (name, count) in [
        ("normal-pages", sent.pages.normal),
        ("zero-pages", sent.pages.zero),
        ("unique-pages", sent.unique),
        ("resent-pages", sent.resent),
        ("xbzrle-pages", sent.xbzrle),
    ] {
        assert_eq!(report["pages"][name], count, "{name}, seed {seed}");
    }
    assert_eq!(report["wire"]["main-bytes"], sent.main_bytes, "seed {seed}");
    Arrival { plan, migration }
}

struct Arrival {
    plan: Plan,
    migration: Arc<Migration>,
}

#[test]
fn xbzrle_arrives_whole_with_every_page_size_that_it_is_for() {
    let receiver = receiver();
    for (seed, page_bytes) in (21..).zip([4096, 8192, 16384]) {
        for (zero, patched) in [(ZeroForm::OnMain, 0.75), (ZeroForm::FullPages, 1.0)] {
            let Arrival { plan, .. } = arrives(&receiver, seed, |config| {
                (config.page_bytes, config.target_page_bits) = (page_bytes, page_bytes != 4096);
                (config.xbzrle, config.patched_share) = (true, patched);
                config.form.zero = zero;
            });
            assert!(plan.sent().xbzrle > 300, "{} of {page_bytes} bytes", plan.sent().xbzrle);
        }
    }
}

#[test]
fn compressed_pages_arrive_whole_at_every_level_and_before_xbzrle() {
    let receiver = receiver();
    for (level, xbzrle) in [(0, false), (1, false), (6, true), (9, false)] {
        let Arrival { plan, .. } = arrives(&receiver, 30 + u64::from(level), |config| {
            config.speak_as(Version::new(7, 2), "pc-q35-7.2").expect("a version");
            (config.compress, config.level, config.compressible_share) = (true, level, 0.5);
            (config.xbzrle, config.patched_share) = (xbzrle, 0.75);
        });
        let sent = plan.sent();
        assert!(sent.compressed_on_main > 3000, "{}", sent.compressed_on_main);
        assert_eq!(sent.xbzrle > 0, xbzrle);
    }
}

#[test]
fn what_x_ignore_shared_leaves_out_stays_as_it_is_and_the_rest_arrives() {
    let Arrival { plan, migration } = arrives(&receiver(), 41, |config| {
        config.x_ignore_shared = true;
        config.blocks[0].shared = true;
    });
    let ram = migration.run.ram().expect("it has RAM");
    let mut page = [1; 4096];
    for index in 0..plan.guest().pages(0) {
        ram[0].read(index * 4096, &mut page);
        assert!(page.iter().all(|&byte| byte == 0), "page {index} was written");
    }
    assert_eq!(plan.sent().unique, plan.guest().pages(1) + plan.guest().pages(2));
}

#[test]
fn iterables_beside_ram_are_passed_over() {
    let receiver = receiver();
    for (disk, dirty_bitmaps) in [(true, false), (false, true), (true, true)] {
        arrives(&receiver, 50, |config| {
            config.speak_as(Version::new(8, 2), "pc-q35-8.2").expect("a version");
            (config.disk, config.dirty_bitmaps) = (disk, dirty_bitmaps);
        });
    }
}
