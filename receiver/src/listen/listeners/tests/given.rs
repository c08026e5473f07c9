//! Descriptors handed over, commands and files.

use nix::sys::socket::{MsgFlags, send};

use super::*;

/// Binds `fd:mig` with this descriptor handed over under that name.
fn hand_over(descriptor: OwnedFd) -> Result<Listeners, ListenError> {
    let mut store = Some(descriptor);
    Listeners::bind(
        &[Address::parse("fd:mig").unwrap()],
        &mut |name| {
            assert_eq!(name, "mig");
            store.take()
        },
        &FdSets::default(),
    )
}

#[test]
fn a_listening_descriptor_is_a_listener() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut listeners = hand_over(socket.into()).unwrap();
    assert!(listeners.multi_channel());
    assert_eq!(listeners.inet_addresses(), [address]);
    assert!(listeners.accept().unwrap().is_none(), "it no longer blocks");
    let client = TcpStream::connect(address).unwrap();
    assert_eq!(accepted(&mut listeners).peer, Peer::Inet(client.local_addr().unwrap()));
}

#[test]
fn a_connected_descriptor_a_pipe_and_a_file_are_one_stream() {
    let (ours, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"stream").unwrap();
    let (read_end, mut write_end) = std::io::pipe().unwrap();
    write_end.write_all(b"stream").unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"stream").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    for (descriptor, peer) in
        [(OwnedFd::from(ours), "unix"), (read_end.into(), "fd:mig"), (file.into(), "fd:mig")]
    {
        let mut listeners = hand_over(descriptor).unwrap();
        assert!(!listeners.multi_channel());
        assert_eq!(listeners.poll_fds().len(), 1, "readable: there is data");
        assert_eq!(listeners.socket_addresses(), json!([]));
        let accepted = listeners.accept().unwrap().expect("the stream");
        assert_eq!(accepted.peer.to_string(), peer);
        let mut text = [0; 6];
        std::fs::File::from(accepted.descriptor).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"stream");
        assert!(listeners.accept().unwrap().is_none());
        assert!(listeners.poll_fds().is_empty());
    }
}

#[test]
fn descriptors_that_no_stream_can_come_from_are_refused() {
    assert_eq!(refusal("fd:nosuch"), "File descriptor named 'nosuch' has not been found");
    assert_eq!(refusal("fd:1"), "File descriptor named '1' has not been found");
    assert_eq!(refusal("fd:987654"), "File descriptor named '987654' has not been found");
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let why = hand_over(datagram.into()).unwrap_err().to_string();
    assert_eq!(why, "fd:mig is a socket, but not a stream socket");
    let (_read_end, write_end) = std::io::pipe().unwrap();
    assert_eq!(
        hand_over(write_end.into()).unwrap_err().to_string(),
        "fd:mig is open for writing only"
    );
}

#[test]
fn a_commands_output_and_a_file_from_its_offset_are_streams() {
    let read = |uri: &str| {
        let mut listeners = open(&[uri]).unwrap();
        let Accepted { descriptor, peer } = listeners.accept().unwrap().expect("the stream");
        assert_eq!(peer.to_string(), uri);
        let mut text = String::new();
        std::fs::File::from(descriptor).read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read("exec:printf '%s' migration"), "migration");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "header and stream").unwrap();
    assert_eq!(read(&format!("file:{},offset=11", file.path().display())), "stream");
    assert_eq!(
        refusal("file:/nonexistent/x"),
        "Could not open '/nonexistent/x': No such file or directory"
    );
    assert_eq!(refusal("file:/"), "Could not open '/': Is a directory");
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn what_is_said_to_a_command_comes_on_its_standard_input() {
    let mut listeners = open(&["exec:read -r said; printf '%s' \"$said\""]).unwrap();
    let Accepted { descriptor, .. } = listeners.accept().unwrap().expect("the stream");
    // As the return path says it.
    send(descriptor.as_raw_fd(), b"PONG\n", MsgFlags::MSG_NOSIGNAL).unwrap();
    let mut text = String::new();
    std::fs::File::from(descriptor).read_to_string(&mut text).unwrap();
    assert_eq!(text, "PONG");
}

#[test]
fn a_command_that_will_not_end_is_ended() {
    let started = Instant::now();
    let mut listeners = open(&["exec:exec sleep 600"]).unwrap();
    drop(listeners.accept().unwrap());
    drop(listeners);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn one_stream_stands_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = format!("file:{}", file.path().display());
    for uris in [["tcp:127.0.0.1:0", &file], [&file, "tcp:127.0.0.1:0"], [&file, &file]] {
        let error = open(&uris).expect_err("two ways").to_string();
        assert!(error.contains("is the whole migration"), "{uris:?}: {error}");
    }
}
