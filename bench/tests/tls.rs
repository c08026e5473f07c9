//! Synthetic sources under TLS into a receiver over real sockets, and those that
//! it must not let in.

#[path = "../../tests/real_qemu/certificates.rs"]
mod certificates;
#[path = "faults_parts/host.rs"]
mod host;
#[path = "mask_parts/masks.rs"]
mod masks;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use landfall_bench::encode::compressed::Compression;
use landfall_bench::script::Stream;
use landfall_bench::send::{
    ClientTls, Cut, End, Fault, NO_ANSWER, Outcome, Progress, SendOptions, Target, TlsVersion, send,
};
use landfall_bench::{Plan, SourceConfig, Version};
use landfall_pagepool::{Hugepages, MemoryConfig};
use landfall_receiver::error::Family;
use landfall_receiver::listen::Address;
use landfall_receiver::receiver::{Incoming, Migration, Receiver, ReceiverConfig};
use landfall_receiver::status::Status;
use landfall_receiver::tls::{Authz, TlsServer, X509Credentials, X509Options};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use certificates::{Authority, CLIENT_NAME, Whose};
use host::{failed, is_whole, plan, receiver};

/// A run under TLS that waits for its source, and where.
fn listen(receiver: &Receiver, dir: &Path, channels: Option<u8>) -> (Arc<Migration>, u16) {
    let migration = start(receiver, dir, channels, "tcp:127.0.0.1:0", None);
    let port = migration.socket_address[0]["port"].as_str().expect("a port");
    let port = port.parse().expect("a number");
    (migration, port)
}

/// A run under TLS from `uri`, or from a descriptor that is handed over.
fn start(
    receiver: &Receiver,
    dir: &Path,
    channels: Option<u8>,
    uri: &str,
    handed_over: Option<OwnedFd>,
) -> Arc<Migration> {
    let credentials = X509Credentials::load(&X509Options::new(dir)).expect("credentials");
    let authz = Authz::Simple { identity: CLIENT_NAME.into() };
    let tls = Some(TlsServer::new(&credentials, Some(authz)));
    let incoming = Incoming { channels, tls, ..Incoming::default() };
    let address = Address::parse(uri).expect("an address");
    let handed_over = Mutex::new(handed_over);
    let mut take = |_: &str| handed_over.lock().expect("nobody panics here").take();
    receiver.start(&[address], incoming, &mut take).expect("it can begin")
}

/// Sends `plan` with the certificates in `dir`.
fn run(
    plan: &Plan,
    port: u16,
    dir: &Path,
    version: Option<TlsVersion>,
    faults: Vec<Fault>,
) -> Outcome {
    let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
    send_to(&target, plan, dir, version, faults)
}

fn send_to(
    target: &Target,
    plan: &Plan,
    dir: &Path,
    version: Option<TlsVersion>,
    faults: Vec<Fault>,
) -> Outcome {
    let tls = Some(ClientTls::load(dir, "127.0.0.1", version).expect("credentials"));
    let reply_timeout = Some(Duration::from_secs(60));
    let options = SendOptions { reply_timeout, faults, tls, ..Default::default() };
    send(plan, target, &options, &Progress::new())
}

#[test]
fn every_form_arrives_whole_under_both_versions() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    let receiver = receiver(Duration::from_secs(20));
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for (channels, compression, binary, machine) in [
            (0, Compression::None, Version::new(10, 0), "pc-q35-10.0"),
            (1, Compression::None, Version::new(7, 2), "pc-q35-7.2"),
            (4, Compression::None, Version::new(10, 0), "pc-q35-10.0"),
            (4, Compression::Zstd, Version::new(10, 0), "pc-q35-10.0"),
            (3, Compression::Zlib, Version::new(7, 2), "pc-q35-7.2"),
        ] {
            let label = format!("{version:?}, {channels} channels, {compression:?}, {machine}");
            let plan = plan(12, channels, |config| {
                config.speak_as(binary, machine).expect("a machine");
                config.compression = compression;
            });
            for derived in [false, true] {
                let count = (!derived).then_some(channels);
                let (migration, port) = listen(&receiver, dir.path(), count);
                let outcome = run(&plan, port, dir.path(), Some(version), vec![]);
                is_whole(&plan, &migration, &outcome, &label);
                let agreed = migration.run.tls().expect("it is under TLS").clone();
                let wanted = if version == TlsVersion::V1_2 { "TLSv1.2" } else { "TLSv1.3" };
                assert_eq!(agreed.version, wanted, "{label}");
                assert_eq!(agreed.client.as_deref(), Some(CLIENT_NAME), "{label}");
                assert_eq!(migration.run.strays.load(Relaxed), 0, "{label}");
            }
        }
    }
}

#[test]
fn who_must_not_come_in_stays_outside_and_the_source_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let ours = Authority::new("ours");
    ours.write_all(&at("server"));
    let wrong = Authority::new("wrong");
    ours.write_ca(&at("stranger"));
    wrong.write(&at("stranger"), Whose::Client);
    ours.write_ca(&at("expired"));
    ours.write(&at("expired"), Whose::ExpiredClient);
    ours.write_ca(&at("nobody"));
    wrong.write_all(&at("other"));
    let receiver = receiver(Duration::from_millis(1500));
    let alone = plan(1, 0, |_| {});
    let plan = plan(4, 2, |_| {});
    let (migration, port) = listen(&receiver, &at("server"), Some(2));
    let strays = |wanted: u64, label: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while migration.run.strays.load(Relaxed) < wanted {
            assert!(Instant::now() < deadline, "{label} is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(migration.run.strays.load(Relaxed), wanted, "{label}");
        assert_eq!(migration.run.error(), None, "{label}");
    };
    let mut count = 0;
    for who in ["stranger", "expired", "nobody", "other"] {
        // One connection each: under TLS 1.3 a client goes on before it is refused.
        let outcome = run(&alone, port, &at(who), None, vec![]);
        assert!(
            matches!(outcome.end, End::ConnectionLost { .. } | End::Unanswered),
            "{who}: {outcome:?}"
        );
        count += 1;
        strays(count, who);
    }
    for (what, bytes) in [
        ("a source without TLS", &b"QEVM\0\0\0\x03\x07\0\0\0\x0b"[..]),
        ("a web browser", b"GET / HTTP/1.1\r\n\r\n"),
        ("a hello that is none", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"),
        ("an alert at once", b"\x15\x03\x01\x00\x02\x02\x28"),
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        socket.write_all(bytes).expect("it is taken");
        count += 1;
        strays(count, what);
        // The alert may come first, then the end.
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
    }
    // One falls silent in the middle of its hello, one says nothing, one goes.
    let half = half_a_hello(port);
    let silent = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    drop(TcpStream::connect(("127.0.0.1", port)).expect("it listens"));
    strays(count + 1, "who went at once");
    let outcome = run(&plan, port, &at("server"), None, vec![]);
    is_whole(&plan, &migration, &outcome, "beside who is silent");
    drop((half, silent));
}

#[test]
fn a_socket_that_was_handed_over_is_under_tls_and_nobody_is_waited_for_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    Authority::new("ours").write_all(&at("ours"));
    Authority::new("others").write_all(&at("others"));
    let receiver = receiver(Duration::from_secs(20));
    let plan = plan(8, 0, |_| {});
    let sockets = || UnixStream::pair().expect("a pair");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let (reads, writes) = sockets();
        let migration = start(&receiver, &at("ours"), Some(0), "fd:mig", Some(reads.into()));
        let target = Target::stream(writes.into());
        let outcome = send_to(&target, &plan, &at("ours"), Some(version), vec![]);
        is_whole(&plan, &migration, &outcome, &format!("{version:?}"));
        let agreed = migration.run.tls().expect("it is under TLS").client.clone();
        assert_eq!(agreed.as_deref(), Some(CLIENT_NAME));
    }
    let says = |migration: Arc<Migration>, label: &str| {
        assert!(migration.wait_for(Duration::from_secs(10)), "{label} is waited for");
        migration.wait().error.clone().expect(label).text
    };
    let (reads, writes) = sockets();
    let migration = start(&receiver, &at("ours"), Some(0), "fd:mig", Some(reads.into()));
    let _ = send_to(&Target::stream(writes.into()), &plan, &at("others"), None, vec![]);
    let text = says(migration, "another's source");
    assert!(text.contains(" is no migration: TLS handshake: "), "{text}");

    let (reads, mut writes) = sockets();
    let migration = start(&receiver, &at("ours"), Some(0), "fd:mig", Some(reads.into()));
    writes.write_all(b"QEVM\0\0\0\x03").expect("it is taken");
    let text = says(migration, "a source in the clear");
    assert!(text.contains("this run is under TLS, set tls-creds on the source"), "{text}");
}

#[test]
fn what_is_no_socket_cannot_be_under_tls_and_is_refused_on_both_sides() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    let path = dir.path().join("saved");
    std::fs::write(&path, b"QEVM\0\0\0\x03").expect("written");
    let receiver = receiver(Duration::from_secs(20));
    let (pipe, writes) = std::io::pipe().expect("a pipe");
    let uris = [format!("file:{}", path.display()), "fd:mig".into()];
    for (uri, handed_over) in uris.into_iter().zip([None, Some(pipe.into())]) {
        let migration = start(&receiver, dir.path(), Some(0), &uri, handed_over);
        assert!(migration.wait_for(Duration::from_secs(10)), "{uri} is waited for");
        let error = migration.wait().error.clone().expect("it fails");
        let found = "is no socket, and TLS needs answers: unset tls-creds on both sides";
        assert!(error.text.starts_with(&uri[..5]) && error.text.ends_with(found), "{error}");
        assert_eq!(error.family, Family::Unsupported);
    }
    let plan = plan(1, 0, |config| config.return_path = false);
    match send_to(&Target::stream(writes.into()), &plan, dir.path(), None, vec![]).end {
        End::ConnectionLost { error, .. } => assert_eq!(error, NO_ANSWER),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handshake_that_rests_anywhere_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    // What a stall would take is much longer than all that is waited for here.
    let receiver = receiver(Duration::from_secs(60));
    for (version, channels) in [(TlsVersion::V1_3, 8), (TlsVersion::V1_2, 0)] {
        let (migration, port) = listen(&receiver, dir.path(), Some(channels));
        let resting: Vec<TcpStream> = (0..6).map(|_| half_a_hello(port)).collect();
        let silent = Shaken::new(port, dir.path(), 0);
        // One has said half of the magic number, one half of its Init, both under TLS.
        let said = [2, 20].map(|bytes| Shaken::new(port, dir.path(), bytes));
        let plan = plan(8, channels, |_| {});
        assert_eq!(migration.run.strays.load(Relaxed), 0, "they are all there");
        let begin = Instant::now();
        let outcome = run(&plan, port, dir.path(), Some(version), vec![]);
        is_whole(&plan, &migration, &outcome, "beside who rests");
        let seconds = begin.elapsed().as_secs_f64();
        println!("{channels} channels beside nine who rest: {seconds:.3} s");
        assert!(seconds < 15.0, "{channels} channels waited for others: {seconds} s");
        // They were there until the end, and none was taken for a part of the run.
        assert_eq!(migration.run.strays.load(Relaxed), 9);
        drop((resting, silent, said));
    }
}

/// A connection that stops in the middle of its first record.
fn half_a_hello(port: u16) -> TcpStream {
    let mut half = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").expect("it is taken");
    half
}

/// A connection that has made its handshake.
struct Shaken {
    _socket: TcpStream,
    _tls: ClientConnection,
}

impl Shaken {
    /// It says the first `bytes` of an Init, and then no more.
    fn new(port: u16, dir: &Path, bytes: usize) -> Self {
        let certificates = |name: &str| {
            let read = CertificateDer::pem_file_iter(dir.join(name)).expect("a file");
            read.collect::<Result<Vec<_>, _>>().expect("certificates")
        };
        let mut roots = RootCertStore::empty();
        roots.add(certificates("ca-cert.pem").remove(0)).expect("a CA");
        let key = PrivateKeyDer::from_pem_file(dir.join("client-key.pem")).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates("client-cert.pem"), key)
            .expect("a certificate");
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("it shakes hands");
        }
        let init = b"\x11\x22\x33\x44\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0";
        tls.writer().write_all(&init[..bytes]).expect("room");
        while tls.wants_write() {
            tls.write_tls(&mut socket).expect("it is taken");
        }
        Self { _socket: socket, _tls: tls }
    }
}

#[test]
fn who_falls_silent_in_its_handshake_is_let_go_after_the_stall_timeout() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    let receiver = receiver(Duration::from_millis(300));
    let (migration, port) = listen(&receiver, dir.path(), Some(0));
    let mut half = half_a_hello(port);
    half.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).expect("it is closed");
    assert_eq!(migration.run.strays.load(Relaxed), 1);
    let plan = plan(1, 0, |_| {});
    let outcome = run(&plan, port, dir.path(), None, vec![]);
    is_whole(&plan, &migration, &outcome, "the source");
}

#[test]
fn a_channel_that_ends_inside_a_packet_fails_the_run_and_the_next_completes() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    let receiver = receiver(Duration::from_secs(20));
    for (what, stream, how) in [
        ("a channel closes", Stream::Channel(1), Cut::Close),
        ("a channel is reset", Stream::Channel(1), Cut::Reset),
        ("main closes", Stream::Main, Cut::Close),
    ] {
        let plan = plan(12, 2, |_| {});
        let (migration, port) = listen(&receiver, dir.path(), Some(2));
        let after_bytes = if stream == Stream::Main { 500 } else { 700_000 };
        let faults = vec![Fault::Cut { stream, after_bytes, how }];
        let _ = run(&plan, port, dir.path(), None, faults);
        let error = failed(&migration, what);
        assert_eq!(error.family, Family::Misbehaved, "{what}: {error}");
        drop(migration);
        let (next, port) = listen(&receiver, dir.path(), Some(2));
        let outcome = run(&plan, port, dir.path(), None, vec![]);
        is_whole(&plan, &next, &outcome, &format!("the run after {what}"));
    }
}

#[test]
fn buffers_of_tls_are_lent_from_the_budget_of_staging_memory_and_given_back() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    const MAIN: u64 = 256 << 10;
    const CHANNEL: u64 = 128 << 10;
    let zlib = |config: &mut SourceConfig| config.compression = Compression::Zlib;
    // A budget for so much and a byte less than the next thing takes.
    for (staging_max, channels, compressed, who, wanted, lent) in [
        (MAIN - 1, 0, false, "main stream under TLS", MAIN, 0),
        (MAIN + CHANNEL - 1, 1, false, "channel ", CHANNEL, MAIN),
        (MAIN + 3 * CHANNEL - 1, 3, false, "channel ", CHANNEL, MAIN + 2 * CHANNEL),
        // The next is a decoder.
        (MAIN + CHANNEL + 1000, 1, true, "channel 0, ", 0, MAIN + CHANNEL),
    ] {
        let label = format!("{channels} channels in {staging_max} bytes");
        let memory = MemoryConfig { hugepages: Hugepages::Off, ..MemoryConfig::default() };
        let config = ReceiverConfig { memory, readers: Some(1), staging_max, ..Default::default() };
        let receiver = Receiver::new(config, Arc::new(|_, _| {}), &|_, _| {}).expect("it can");
        let plan = plan(4, channels, |config| {
            if compressed {
                zlib(config)
            }
        });
        for _ in 0..2 {
            let (migration, port) = listen(&receiver, dir.path(), Some(channels));
            let _ = run(&plan, port, dir.path(), None, vec![]);
            let error = migration.wait().error.clone().expect(&label);
            assert_eq!(*migration.run.status(), Status::Failed, "{label}");
            assert_eq!(error.family, Family::Environment, "{label}: {error}");
            let text = &error.text;
            let found = format!("{lent} of {staging_max} are in use: raise --staging-max");
            assert!(text.starts_with(who) && text.contains(&found), "{label}: {text}");
            let asked = format!(": {wanted} more bytes of staging memory are needed, ");
            assert!(wanted == 0 || text.contains(&asked), "{label}: {text}");
            assert_eq!(migration.run.terms.staging.lent(), 0, "{label}");
        }
        // What fits comes whole, on the same receiver.
        if let Some(fewer) = channels.checked_sub(1).filter(|_| !compressed) {
            let plan = self::plan(4, fewer, |_| {});
            let (migration, port) = listen(&receiver, dir.path(), Some(fewer));
            let outcome = run(&plan, port, dir.path(), None, vec![]);
            is_whole(&plan, &migration, &outcome, &label);
            assert_eq!(migration.run.terms.staging.lent(), 0, "{label}");
        }
    }
}

#[test]
fn a_source_without_tls_is_told_apart_from_one_with_it() {
    let receiver = receiver(Duration::from_secs(20));
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    let plan = plan(1, 1, |_| {});
    let (migration, port) = host::listen(&receiver, Some(1));
    let outcome = run(&plan, port, dir.path(), None, vec![]);
    assert!(matches!(outcome.end, End::ConnectionLost { .. }), "{outcome:?}");
    assert_eq!(migration.run.strays.load(Relaxed), 1);
    let outcome = host::run(&plan, port, None, vec![], &Progress::new());
    is_whole(&plan, &migration, &outcome, "in the clear");
    assert_eq!(migration.run.tls(), None);
}

#[test]
fn all_channels_that_there_can_be_make_their_handshakes() {
    let dir = tempfile::tempdir().expect("a directory");
    Authority::new("ours").write_all(dir.path());
    let receiver = receiver(Duration::from_secs(60));
    let plan = plan(16, 255, |config| config.rounds = 2);
    let (migration, port) = listen(&receiver, dir.path(), Some(255));
    let outcome = run(&plan, port, dir.path(), None, vec![]);
    is_whole(&plan, &migration, &outcome, "255 channels");
    let phases = migration.run.phases();
    let connected_ms =
        phases.connected.unwrap_or(0).saturating_sub(phases.listen.unwrap_or(0)) / 1_000_000;
    println!("255 channels under TLS were connected {connected_ms} ms after listening");
}
