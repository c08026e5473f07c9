//! The questions, each a list of contenders; the first is what the others are held against.

use std::time::Duration;

use crate::contender::{
    Contender, Design, Join, Patience, RING, RingSetup, SOCKET, SocketSetup, Source,
};
use crate::copy::Copy;
use crate::stream::Order;

/// Every question and its name.
pub(crate) fn all() -> Vec<(&'static str, Vec<Contender>)> {
    vec![
        ("joins", joins(Order::Runs(128), Source::Written)),
        ("joins-fast-source", joins(Order::Runs(128), Source::Referred)),
        ("joins-mixed", joins(Order::Mixed, Source::Written)),
        ("marks", marks(Order::Runs(128), Source::Written)),
        ("marks-worked", marks(Order::Runs(128), WORKED)),
        ("marks-mixed", marks(Order::Mixed, Source::Written)),
        ("marks-mixed-worked", marks(Order::Mixed, WORKED)),
        ("runs", runs(Source::Written)),
        ("runs-fast-source", runs(Source::Referred)),
        ("copies", copies()),
        ("walks", walks()),
        ("ring-flags", ring_flags()),
        ("socket-options", socket_options()),
        ("channels-8", channels(8)),
        ("channels-64", channels(64)),
        ("channels-255", channels(255)),
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

/// Low-water marks against receives that wait for all (`MSG_WAITALL`), that never wait, and reads as they
/// come.
fn marks(order: Order, source: Source) -> Vec<Contender> {
    let one = |name, design| Contender { name, design, order, source, ..LINKED };
    vec![
        one("linked", Design::Ring(Join::Linked)),
        one("fused", Design::Ring(Join::Fused)),
        one("mark of the pages", Design::LowWater(None)),
        one("mark of the pages, patience", PATIENT),
        one("mark of 2 packets", woken_for(2)),
        one("mark of 4 packets", woken_for(4)),
        one("mark of 8 packets", woken_for(8)),
        one("blocking", Design::Blocking { fused: false }),
        one("spinning", Design::Spinning),
        one("streamed from 128 KiB", Design::Copied(128 << 10, Copy::Streaming)),
        one("bare", Design::Bare),
    ]
}

/// Options of the socket, with marks as the receiver sets them. A fixed `SO_RCVLOWAT` is not among
/// them: nobody is woken for the end of a packet that is shorter than the mark.
fn socket_options() -> Vec<Contender> {
    let one = |name, socket| Contender { name, socket, design: PATIENT, ..LINKED };
    let buffer = |bytes| SocketSetup { receive_buffer: Some(bytes), ..SOCKET };
    vec![
        one("the system's own", SOCKET),
        one("buffer 256 KiB", buffer(256 << 10)),
        one("buffer 1 MiB", buffer(1 << 20)),
        one("buffer 4 MiB", buffer(4 << 20)),
        one("buffer 16 MiB", buffer(16 << 20)),
        one("cubic", SocketSetup { cubic: true, ..SOCKET }),
        one("busy poll 50 µs", SocketSetup { busy_poll: Some(50), ..SOCKET }),
    ]
}

/// So many channels: rings on one and two threads, and a thread for each.
fn channels(channels: usize) -> Vec<Contender> {
    let one = |name, threads, design| Contender { name, channels, threads, design, ..LINKED };
    vec![
        one("1 ring", 1, PATIENT),
        one("1 ring, linked", 1, Design::Ring(Join::Linked)),
        one("2 rings", 2, PATIENT),
        one("2 rings, linked", 2, Design::Ring(Join::Linked)),
        one("a thread for each", channels, Design::Blocking { fused: false }),
    ]
}

/// As the receiver does it.
const PATIENT: Design =
    Design::LowWater(Some(Patience { packets: 1, most: Duration::from_micros(500) }));

/// As the receiver, for 4.
const fn woken_for(packets: usize) -> Design {
    Design::LowWater(Some(Patience { packets, most: Duration::from_millis(3) }))
}

/// One channel, full packets, a sender that only writes.
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

/// A sender that is slower than the receiver.
const WORKED: Source = Source::Worked(Duration::from_micros(100));
