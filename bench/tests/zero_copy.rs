//! Synthetic sources that send pages without a copy, or a few bytes at a time: what arrives must be
//! what the seed promises all the same.

#[path = "faults_parts/host.rs"]
mod host;

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
    time::Duration,
};

use landfall_bench::{
    form::ZeroForm,
    script::Stream,
    send::{Cut, End, Fault, Progress, SendOptions, Target, send},
};
use landfall_receiver::error::Family::Misbehaved;

use host::{failed, is_whole, listen, plan, receiver, run};

fn zero_copy() -> SendOptions {
    let reply_timeout = Some(Duration::from_secs(60));
    SendOptions { zero_copy: true, reply_timeout, ..SendOptions::default() }
}

fn tcp(port: u16) -> Target {
    Target::Tcp { host: "127.0.0.1".to_owned(), port }
}

#[test]
fn memory_is_whole_and_a_connection_whose_kernel_copies_goes_on_without() {
    let receiver = receiver(Duration::from_secs(20));
    // Pages merged into one piece, thinned and permuted, and zero pages in full.
    for (zero_share, zero) in [(0.0, ZeroForm::InPackets), (0.4, ZeroForm::InPackets)]
        .into_iter()
        .chain([(0.4, ZeroForm::FullPages)])
    {
        let label = format!("{zero:?}, {zero_share}");
        let plan = plan(48, 2, |config| {
            (config.zero_share, config.zero_run) = (zero_share, 3);
            config.form.zero = zero;
        });
        let (migration, port) = listen(&receiver, Some(2));
        let outcome = send(&plan, &tcp(port), &zero_copy(), &Progress::new());
        is_whole(&plan, &migration, &outcome, &label);
        // On loopback the kernel always copies, and says so.
        let used = outcome.zero_copy;
        assert!(used.sends > 0 && used.done == used.sends, "{label}: {used:?}");
        assert_eq!((used.copied, used.given_up), (used.sends, 2), "{label}");
        let packets = plan.sent().packets;
        assert!(used.sends < packets, "{label}: {used:?} of {packets} packets");
    }
}

#[test]
fn without_the_option_nothing_is_sent_so() {
    let receiver = receiver(Duration::from_secs(20));
    let plan = plan(8, 2, |_| {});
    let (migration, port) = listen(&receiver, Some(2));
    let outcome = run(&plan, port, None, vec![], &Progress::new());
    is_whole(&plan, &migration, &outcome, "plain");
    assert_eq!(outcome.zero_copy, Default::default());
}

#[test]
fn a_channel_cut_inside_a_packet_fails_the_run_without_a_copy_too() {
    let receiver = receiver(Duration::from_secs(20));
    let plan = plan(16, 2, |_| {});
    for how in [Cut::Close, Cut::Reset] {
        let (migration, port) = listen(&receiver, Some(2));
        let fault = Fault::Cut { stream: Stream::Channel(1), after_bytes: 1_234_567, how };
        let options = SendOptions { faults: vec![fault], ..zero_copy() };
        let outcome = send(&plan, &tcp(port), &options, &Progress::new());
        assert_ne!(outcome.end, End::Completed, "{how:?}");
        assert_eq!(failed(&migration, "cut").family, Misbehaved, "{how:?}");
    }
}

#[test]
fn a_destination_that_goes_away_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let plan = plan(64, 2, |config| config.return_path = false);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut sockets: Vec<TcpStream> =
                (0..3).map(|_| listener.accept().expect("a connection").0).collect();
            // In the middle of what is on its way.
            let mut some = vec![0; 100_000];
            for socket in &mut sockets {
                let _ = socket.read(&mut some);
            }
        });
        let outcome = send(&plan, &tcp(port), &zero_copy(), &Progress::new());
        assert!(matches!(outcome.end, End::ConnectionLost { .. }), "{outcome:?}");
    });
}

#[test]
fn a_socket_that_has_no_zero_copy_is_refused_with_the_reason() {
    let (ours, theirs): (Vec<OwnedFd>, Vec<OwnedFd>) = (0..2)
        .map(|_| UnixStream::pair().expect("a pair"))
        .map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b)))
        .unzip();
    let plan = plan(1, 1, |config| config.return_path = false);
    let outcome = send(&plan, &Target::connected(ours), &zero_copy(), &Progress::new());
    let End::ConnectionLost { stream, error } = outcome.end else { panic!("{outcome:?}") };
    assert_eq!(stream, Stream::Channel(0));
    assert!(error.contains("zero-copy"), "{error}");
    drop(theirs);
}

#[test]
fn sends_that_take_a_part_go_on_where_they_ended() {
    let receiver = receiver(Duration::from_secs(20));
    for (channels, zero_copy) in [(0, false), (2, false), (2, true)] {
        let label = format!("{channels} channels, zero copy {zero_copy}");
        let plan = plan(12, channels, |config| config.return_path = false);
        let (migration, port) = listen(&receiver, Some(channels));
        // Sockets that never wait take what there is room for.
        let connected = (0..=channels).map(|_| {
            let socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            socket.set_nonblocking(true).expect("told so");
            OwnedFd::from(socket)
        });
        let options = SendOptions { zero_copy, ..SendOptions::default() };
        let target = Target::connected(connected.collect::<Vec<_>>());
        let outcome = send(&plan, &target, &options, &Progress::new());
        is_whole(&plan, &migration, &outcome, &label);
    }
}
