//! The questions, each a list of contenders; the first is what the others are held against.

use crate::contender::{Contender, Design, Join, RING, RingSetup, SOCKET, SocketSetup, Source};
use crate::copy::Copy;
use crate::stream::Order;

/// Every question and its name.
pub(crate) fn all() -> Vec<(&'static str, Vec<Contender>)> {
    vec![
        ("joins", joins(Order::Runs(128), Source::Written)),
        ("joins-fast-source", joins(Order::Runs(128), Source::Referred)),
        ("joins-mixed", joins(Order::Mixed, Source::Written)),
        ("runs", runs(Source::Written)),
        ("runs-fast-source", runs(Source::Referred)),
        ("copies", copies()),
        ("walks", walks()),
        ("ring-flags", ring_flags()),
        ("socket-options", socket_options()),
        ("channels", channels()),
    ]
}

/// How the header joins the pages, and copies in user space.
fn joins(order: Order, source: Source) -> Vec<Contender> {
    let one = |name, design| Contender { name, design, order, source, ..LINKED };
    vec![
        one("linked", Design::Ring(Join::Linked)),
        one("linked, quiet pages", Design::Ring(Join::Quiet)),
        one("separate", Design::Ring(Join::Separate)),
        one("fused", Design::Ring(Join::Fused)),
        one("blocking", Design::Blocking { fused: false }),
        one("blocking, fused", Design::Blocking { fused: true }),
        one("copied from 64 KiB", Design::Copied(64 << 10, Copy::Cached)),
        one("copied from 256 KiB", Design::Copied(256 << 10, Copy::Cached)),
        one("copied from 512 KiB", Design::Copied(512 << 10, Copy::Cached)),
        one("streamed from 64 KiB", Design::Copied(64 << 10, Copy::Streaming)),
        one("streamed from 128 KiB", Design::Copied(128 << 10, Copy::Streaming)),
        one("streamed from 256 KiB", Design::Copied(256 << 10, Copy::Streaming)),
        one("streamed from 512 KiB", Design::Copied(512 << 10, Copy::Streaming)),
        one("multishot, 16 of 64 KiB, streamed", Design::Multishot(16, 64 << 10, Copy::Streaming)),
        one("bare", Design::Bare),
    ]
}

/// How the pages lie: scattered by the kernel, or copied in user space.
fn runs(source: Source) -> Vec<Contender> {
    let orders = [
        ("128 pages", Order::Runs(128)),
        ("16 pages", Order::Runs(16)),
        ("4 pages", Order::Runs(4)),
        ("2 pages", Order::Runs(2)),
        ("1 page, descending", Order::Runs(1)),
        ("1 page, ascending", Order::Unmerged),
        ("1 page, anywhere", Order::Scattered),
        ("mixed", Order::Mixed),
        ("2 KiB", Order::Pieces(2048)),
        ("1 KiB", Order::Pieces(1024)),
    ];
    let fused = Design::Ring(Join::Fused);
    let scattered =
        orders.map(|(name, order)| Contender { name, design: fused, order, source, ..LINKED });
    let copied = [
        ("128 pages, streamed", Order::Runs(128)),
        ("1 page, descending, streamed", Order::Runs(1)),
        ("1 page, anywhere, streamed", Order::Scattered),
        ("mixed, streamed", Order::Mixed),
        ("2 KiB, streamed", Order::Pieces(2048)),
        ("1 KiB, streamed", Order::Pieces(1024)),
    ]
    .map(|(name, order)| {
        let design = Design::Copied(128 << 10, Copy::Streaming);
        Contender { name, design, order, source, ..LINKED }
    });
    scattered.into_iter().chain(copied).collect()
}

/// What a copy through a small buffer saves, and where.
fn copies() -> Vec<Contender> {
    let streamed = Design::Copied(128 << 10, Copy::Streaming);
    let one = |name, design, order| Contender { name, design, order, ..LINKED };
    vec![
        one("linked", LINKED.design, Order::Runs(128)),
        one("streamed from 128 KiB", streamed, Order::Runs(128)),
        one("received into 128 KiB alone", Design::Copied(128 << 10, Copy::Left), Order::Runs(128)),
        one("received into 512 KiB alone", Design::Copied(512 << 10, Copy::Left), Order::Runs(128)),
        one("bare", Design::Bare, Order::Runs(128)),
        one("1 page, linked", LINKED.design, Order::Runs(1)),
        one("1 page, streamed", streamed, Order::Runs(1)),
        one("mixed, linked", LINKED.design, Order::Mixed),
        one("mixed, streamed", streamed, Order::Mixed),
        one("2 KiB, linked", LINKED.design, Order::Pieces(2048)),
        one("2 KiB, streamed", streamed, Order::Pieces(2048)),
        one("1 KiB, linked", LINKED.design, Order::Pieces(1024)),
        one("1 KiB, streamed", streamed, Order::Pieces(1024)),
    ]
}

/// Whether scattering costs because of iovecs, of places, or of address translation.
fn walks() -> Vec<Contender> {
    let orders = [
        ("128 pages", Order::Runs(128)),
        ("1 page, ascending", Order::Unmerged),
        ("1 page, descending", Order::Runs(1)),
        ("1 page, anywhere", Order::Scattered),
    ];
    let base = [
        ("128 pages, base pages", Order::Runs(128)),
        ("1 page, ascending, base pages", Order::Unmerged),
        ("1 page, descending, base pages", Order::Runs(1)),
        ("1 page, anywhere, base pages", Order::Scattered),
    ];
    let design = Design::Ring(Join::Fused);
    let huge = orders.map(|(name, order)| Contender { name, design, order, ..LINKED });
    let base =
        base.map(|(name, order)| Contender { name, design, order, base_pages: true, ..LINKED });
    huge.into_iter().chain(base).collect()
}

/// Set-up flags and registrations of the ring, with fused receives.
fn ring_flags() -> Vec<Contender> {
    let one = |name, ring| Contender { name, ring, design: Design::Ring(Join::Fused), ..LINKED };
    let plain = RingSetup { single_issuer: false, defer_taskrun: false, ..RING };
    vec![
        one("defer_taskrun", RING),
        one("none", plain),
        one("single_issuer", RingSetup { defer_taskrun: false, ..RING }),
        one("coop_taskrun", RingSetup { coop_taskrun: true, ..plain }),
        one("sqpoll on the reader's CPU", RingSetup { sqpoll: Some(0), ..plain }),
        one("sqpoll on the other CPU", RingSetup { sqpoll: Some(1), ..plain }),
        one("registered files", RingSetup { fixed_files: true, ..RING }),
        one("registered ring", RingSetup { ring_fd: true, ..RING }),
        one("both registered", RingSetup { fixed_files: true, ring_fd: true, ..RING }),
        one("poll_first", RingSetup { poll_first: true, ..RING }),
    ]
}

/// Options of the socket, with fused receives.
fn socket_options() -> Vec<Contender> {
    let one =
        |name, socket| Contender { name, socket, design: Design::Ring(Join::Fused), ..LINKED };
    let buffer = |bytes| SocketSetup { receive_buffer: Some(bytes), ..SOCKET };
    let low_water = |bytes| SocketSetup { low_water: Some(bytes), ..SOCKET };
    vec![
        one("as they are", SOCKET),
        one("buffer 512 KiB", buffer(256 << 10)),
        one("buffer 1 MiB", buffer(512 << 10)),
        one("buffer 2 MiB", buffer(1 << 20)),
        one("buffer 4 MiB", buffer(2 << 20)),
        one("buffer 16 MiB", buffer(8 << 20)),
        one("low water 1344 B", low_water(1344)),
        one("low water 64 KiB", low_water(64 << 10)),
        one("low water 256 KiB", low_water(256 << 10)),
        one("low water 512 KiB", low_water(512 << 10)),
        one("cubic", SocketSetup { cubic: true, ..SOCKET }),
        one("busy poll 50 µs", SocketSetup { busy_poll: Some(50), ..SOCKET }),
    ]
}

/// Many channels: rings on one and two threads, and a thread for each.
fn channels() -> Vec<Contender> {
    let ring = |name, channels, threads, join| Contender {
        name,
        channels,
        threads,
        design: Design::Ring(join),
        ..LINKED
    };
    let threads = |name, channels| Contender {
        name,
        channels,
        threads: channels,
        design: Design::Blocking { fused: true },
        ..LINKED
    };
    vec![
        ring("8 channels, 1 ring, linked", 8, 1, Join::Linked),
        ring("8 channels, 1 ring, fused", 8, 1, Join::Fused),
        ring("8 channels, 2 rings, fused", 8, 2, Join::Fused),
        threads("8 channels, 8 threads", 8),
        ring("64 channels, 1 ring, fused", 64, 1, Join::Fused),
        ring("64 channels, 2 rings, fused", 64, 2, Join::Fused),
        threads("64 channels, 64 threads", 64),
        ring("255 channels, 1 ring, linked", 255, 1, Join::Linked),
        ring("255 channels, 1 ring, fused", 255, 1, Join::Fused),
        ring("255 channels, 2 rings, fused", 255, 2, Join::Fused),
        threads("255 channels, 255 threads", 255),
    ]
}

/// As the receiver does it.
const LINKED: Contender = Contender {
    name: "linked",
    design: Design::Ring(Join::Linked),
    order: Order::Runs(128),
    ring: RING,
    socket: SOCKET,
    channels: 1,
    threads: 1,
    base_pages: false,
    source: Source::Written,
};
