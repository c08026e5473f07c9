//! Sockets opened and connected to, on this host.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use super::*;

mod given;

fn open(uris: &[&str]) -> Result<Listeners, ListenError> {
    let addresses: Vec<_> = uris.iter().map(|uri| Address::parse(uri).expect(uri)).collect();
    Listeners::bind(&addresses, &mut |_| None, &FdSets::default())
}

fn refusal(uri: &str) -> String {
    open(&[uri]).expect_err(uri).to_string()
}

/// The connection that a client has already made.
fn accepted(listeners: &mut Listeners) -> Accepted {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(accepted) = listeners.accept().unwrap() {
            return accepted;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no connection came");
}

fn has_ipv6() -> bool {
    let found = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !found {
        println!("SKIPPED: this host has no IPv6 loopback");
        assert!(
            std::env::var_os("LANDFALL_REQUIRE_ALL").is_none_or(|all| all != "1"),
            "IPv6 loopback is required"
        );
    }
    found
}

#[test]
fn port_0_becomes_a_real_port_that_is_shown_and_answers() {
    let mut listeners = open(&["tcp:127.0.0.1:0"]).unwrap();
    let address = listeners.inet_addresses()[0];
    assert_ne!(address.port(), 0);
    assert_eq!(
        listeners.socket_addresses().to_string(),
        format!(
            r#"[{{"port":"{}","ipv4":true,"host":"127.0.0.1","type":"inet"}}]"#,
            address.port()
        )
    );
    assert_eq!(listeners.poll_fds().len(), 1);
    assert!(listeners.accept().unwrap().is_none(), "nobody has connected");

    let mut client = TcpStream::connect(address).unwrap();
    let Accepted { descriptor, peer } = accepted(&mut listeners);
    assert_eq!(peer.to_string(), client.local_addr().unwrap().to_string());
    assert_eq!(peer.ip(), Some(Ipv4Addr::LOCALHOST.into()));
    let flags = FdFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK), "the stream blocks");
    let mut stream = TcpStream::from(descriptor);
    assert!(stream.nodelay().unwrap());
    client.write_all(b"QEVM").unwrap();
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"QEVM");
}

#[test]
fn an_empty_host_listens_on_both_families_on_one_port() {
    if !has_ipv6() {
        return;
    }
    let mut listeners = open(&["tcp::0"]).unwrap();
    let addresses = listeners.inet_addresses();
    let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(ips, ["::", "0.0.0.0"]);
    let port = addresses[0].port();
    assert_eq!(addresses[1].port(), port);
    let shown = listeners.socket_addresses();
    assert_eq!(
        shown[0],
        json!({"port": port.to_string(), "ipv6": true, "host": "::", "type": "inet"})
    );
    assert_eq!(
        shown[1],
        json!({"port": port.to_string(), "ipv4": true, "host": "0.0.0.0", "type": "inet"})
    );

    let four = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert_eq!(accepted(&mut listeners).peer, Peer::Inet(four.local_addr().unwrap()));
    let six = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    assert_eq!(accepted(&mut listeners).peer, Peer::Inet(six.local_addr().unwrap()));
}

#[test]
fn the_wildcard_with_both_families_named_is_one_socket_that_shows_ipv4_peers_as_such() {
    if !has_ipv6() {
        return;
    }
    let mut listeners = open(&["tcp:[::]:0,ipv4=on,ipv6=on"]).unwrap();
    assert_eq!(listeners.poll_fds().len(), 1);
    let client =
        TcpStream::connect((Ipv4Addr::LOCALHOST, listeners.inet_addresses()[0].port())).unwrap();
    assert_eq!(accepted(&mut listeners).peer, Peer::Inet(client.local_addr().unwrap()));
}

#[test]
fn several_addresses_are_served_in_turn() {
    let mut listeners = open(&["tcp:127.0.0.1:0", "tcp:127.0.0.1:0"]).unwrap();
    let addresses = listeners.inet_addresses();
    let _clients: Vec<_> =
        [0, 0, 1].iter().map(|&i| TcpStream::connect(addresses[i]).unwrap()).collect();
    let local = |accepted: Accepted| TcpStream::from(accepted.descriptor).local_addr().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let order: Vec<_> = (0..3).map(|_| local(accepted(&mut listeners))).collect();
    assert_eq!(order, [addresses[0], addresses[1], addresses[0]]);
}

#[test]
fn a_range_skips_the_ports_that_are_taken() {
    let (taken, next) = loop {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        if port < 65_000 {
            break (taken, port + 1);
        }
    };
    let port = taken.local_addr().unwrap().port();
    let listeners = open(&[&format!("tcp:127.0.0.1:{port},to={}", port + 400)]).unwrap();
    assert!(listeners.inet_addresses()[0].port() >= next);

    let why = refusal(&format!("tcp:127.0.0.1:{port}"));
    let expected =
        format!("Failed to find an available port: Address already in use (tcp:127.0.0.1:{port})");
    assert_eq!(why, expected);
    assert_eq!(refusal(&format!("tcp:127.0.0.1:{port},to={port}")), expected);
}

#[test]
fn a_port_taken_on_one_family_is_taken() {
    if !has_ipv6() {
        return;
    }
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(refusal(&format!("tcp::{port}")).starts_with("Failed to find an available port"));
}

#[test]
fn addresses_that_are_not_this_hosts_are_the_commands_fault() {
    let why = open(&["tcp:192.0.2.1:5"]).unwrap_err();
    assert_eq!(
        why.to_string(),
        "Failed to bind socket to tcp:192.0.2.1:5: Cannot assign requested address"
    );
    assert!(!why.is_environment());
    assert!(refusal("tcp:127.0.0.1:0,mptcp=on").starts_with("mptcp is not supported"));
}

#[test]
fn keep_alive_reaches_the_accepted_connection() {
    for (uri, wanted) in
        [("tcp:127.0.0.1:0", false), ("tcp:127.0.0.1:0,keep-alive=on,keep-alive-idle=77", true)]
    {
        let mut listeners = open(&[uri]).unwrap();
        let _client = TcpStream::connect(listeners.inet_addresses()[0]).unwrap();
        let stream = accepted(&mut listeners).descriptor;
        assert_eq!(nix::sys::socket::getsockopt(&stream, sockopt::KeepAlive), Ok(wanted));
        let idle = nix::sys::socket::getsockopt(&stream, sockopt::TcpKeepIdle).unwrap();
        assert_eq!(idle == 77, wanted);
    }
}

#[test]
fn a_stale_unix_socket_is_replaced_and_removed_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("migrate");
    drop(UnixListener::bind(&path).unwrap()); // leaves its file
    assert!(path.exists());
    let uri = format!("unix:{}", path.display());
    let mut listeners = open(&[&uri]).unwrap();
    assert_eq!(
        listeners.socket_addresses().to_string(),
        format!(r#"[{{"path":"{}","type":"unix"}}]"#, path.display())
    );
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(accepted(&mut listeners).peer, Peer::Unix);
    drop(listeners);
    assert!(!path.exists(), "the socket's file goes with it");
}

#[test]
fn a_unix_socket_that_someone_else_put_there_meanwhile_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("migrate");
    let uri = format!("unix:{}", path.display());
    let first = open(&[&uri]).unwrap();
    let second = open(&[&uri]).unwrap();
    drop(first);
    assert!(path.exists(), "the second one's");
    drop(second);
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let why = refusal(&format!("unix:{}", path.display()));
    assert_eq!(why, format!("Failed to unlink socket {}: it is not a socket", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
    let why = refusal(&format!("unix:{}", directory.path().display()));
    assert_eq!(
        why,
        format!("Failed to unlink socket {}: Is a directory", directory.path().display())
    );
    let why = refusal("unix:/nonexistent/x");
    assert_eq!(why, "Failed to bind socket to /nonexistent/x: No such file or directory");
    let long = format!("/{}", "a".repeat(107));
    assert_eq!(refusal(&format!("unix:{long}")), format!("UNIX socket path '{long}' is too long"));
}

#[test]
fn abstract_names_are_listened_on_tight_and_padded() {
    for tight in [true, false] {
        let name = format!("landfall-{}-{tight}", std::process::id());
        let address = UnixAddress { path: name.clone().into(), abstract_name: true, tight };
        let mut listeners =
            Listeners::bind(&[Address::Unix(address)], &mut |_| None, &FdSets::default()).unwrap();
        assert_eq!(
            listeners.socket_addresses(),
            json!([{"abstract": true, "path": name, "type": "unix", "tight": tight}])
        );
        let mut bytes = name.into_bytes();
        if !tight {
            bytes.resize(107, 0);
        }
        use std::os::linux::net::SocketAddrExt;
        let target = std::os::unix::net::SocketAddr::from_abstract_name(&bytes).unwrap();
        let _client = UnixStream::connect_addr(&target).unwrap();
        assert_eq!(accepted(&mut listeners).peer, Peer::Unix);
    }
}

#[test]
fn vsock_listens_where_the_host_has_it_and_says_so_where_not() {
    match open(&["vsock:4294967295:54321"]) {
        Ok(listeners) => {
            let shown = json!([{"port": "54321", "cid": "4294967295", "type": "vsock"}]);
            assert_eq!(listeners.socket_addresses(), shown);
            assert!(
                refusal("vsock:4294967295:54321").starts_with("Failed to find an available port")
            );
        }
        Err(why) => {
            println!("SKIPPED: no vsock on this host: {why}");
            assert!(why.is_environment(), "{why}");
        }
    }
}

#[test]
fn nothing_stays_open_when_one_address_of_several_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("migrate");
    let good = format!("unix:{}", path.display());
    assert!(open(&[&good, "unix:/nonexistent/x"]).is_err());
    assert!(!path.exists());
    let defer = Listeners::bind(&[Address::Defer], &mut |_| None, &FdSets::default());
    assert_eq!(defer.unwrap_err().to_string(), "defer is no address to listen on");
}
