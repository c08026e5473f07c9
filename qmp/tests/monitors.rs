//! Monitors on real sockets: who may connect when, what runs beside what, and how it ends.

mod program;

use std::{
    io::Read,
    net::TcpStream,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use landfall_qmp::{Bound, MonitorAddress, Server, ServerError};
use program::{Client, PATIENCE, Program, readable, without_time};
use serde_json::json;
use tempfile::TempDir;

/// A server with monitors on unix sockets.
struct Scene {
    program: Arc<Program>,
    told: Receiver<&'static str>,
    server: Server,
    paths: Vec<PathBuf>,
    _dir: TempDir,
}

impl Scene {
    fn new(monitors: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            (0..monitors).map(|index| dir.path().join(format!("qmp{index}"))).collect();
        let addresses: Vec<MonitorAddress> = paths
            .iter()
            .map(|path| format!("unix:{},server=on,wait=off", path.display()))
            .map(|address| address.parse().unwrap())
            .collect();
        let (program, told) = Program::new();
        let handler = Arc::clone(&program);
        let server = Server::start(&addresses, handler, &program.events).unwrap();
        Self { program, told, server, paths, _dir: dir }
    }

    fn client(&self) -> Client {
        Client::negotiated(&self.paths[0], true)
    }
}

fn start(address: &str, program: &Arc<Program>) -> Result<Server, ServerError> {
    let handler = Arc::clone(program);
    Server::start(&[address.parse().unwrap()], handler, &program.events)
}

#[test]
fn the_second_client_waits_and_is_greeted_anew_when_the_first_has_gone() {
    let scene = Scene::new(1);
    let first = scene.client();
    let mut second = Client::connect(&scene.paths[0]);
    assert!(second.is_silent());
    drop(first);
    assert!(second.line().starts_with("{\"QMP\": "));
    let reply = second.ask("{'execute':'query-status'}");
    assert!(reply.contains("Expecting capabilities negotiation"), "{reply}");
}

#[test]
fn half_a_command_of_one_client_does_not_reach_the_next() {
    let scene = Scene::new(1);
    scene.client().send("{'execute':'ec");
    let mut next = scene.client();
    assert_eq!(next.ask("{'execute':'echo'}"), "{\"return\": {}}");
}

#[test]
fn two_monitors_have_sessions_of_their_own_and_share_events() {
    let scene = Scene::new(2);
    let mut one = scene.client();
    let mut other = Client::connect(&scene.paths[1]);
    assert!(other.line().starts_with("{\"QMP\": "));
    scene.program.events.emit("UNHEARD", None);
    assert!(one.line().contains("UNHEARD"));
    other.send("{'execute':'qmp_capabilities'}");
    assert_eq!(other.line(), "{\"return\": {}}");
    for name in ["A", "B", "C"] {
        scene.program.events.emit(name, Some(json!({})));
    }
    for name in ["A", "B", "C"] {
        let event = one.line();
        assert!(event.contains(&format!("\"event\": \"{name}\", \"data\": {{}}")));
        assert_eq!(other.line(), event);
    }
}

#[test]
fn oob_commands_overtake_a_blocked_one_and_ordinary_ones_queue() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    client.send(
        "{'execute':'wait','id':1}{'execute':'echo','id':2}{'exec-oob':'migrate-pause','id':3}",
    );
    assert!(client.line().starts_with("{\"id\": 3, \"error\""));
    assert!(client.is_silent());
    client.send("{'exec-oob':'open-gate','id':4}");
    let lines: Vec<String> = (0..3).map(|_| client.line()).collect();
    let at = |id: u32| {
        lines.iter().position(|line| *line == format!("{{\"return\": {{}}, \"id\": {id}}}"))
    };
    assert!(at(4).is_some() && at(1) < at(2), "{lines:?}");
}

#[test]
fn nine_commands_are_taken_and_then_oob_waits_too() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    client.send("{'execute':'wait','id':0}");
    scene.program.await_waiting(1);
    for id in 1..=8 {
        client.send(format!("{{'execute':'echo','id':{id}}}"));
    }
    client.send("{'exec-oob':'migrate-pause','id':'oob'}");
    assert!(client.is_silent(), "the queue is full");
    scene.program.open_gate();
    let ids: Vec<String> = (0..10).map(|_| client.line()).collect();
    let ordinary = ids.iter().filter(|line| !line.contains("\"oob\""));
    let expected = (0..=8).map(|id| format!("{{\"return\": {{}}, \"id\": {id}}}"));
    assert!(ordinary.eq(expected.collect::<Vec<_>>().iter()), "{ids:?}");
}

#[test]
fn without_oob_nothing_is_read_while_a_command_runs() {
    let scene = Scene::new(1);
    let mut client = Client::negotiated(&scene.paths[0], false);
    client.send("{'execute':'wait','id':1}{'execute':'echo','id':2} %");
    scene.program.await_waiting(1);
    assert!(client.is_silent());
    scene.program.open_gate();
    assert_eq!(client.line(), "{\"return\": {}, \"id\": 1}");
    assert_eq!(client.line(), "{\"return\": {}, \"id\": 2}");
    assert!(client.line().contains("stray '%'"));
}

#[test]
fn a_command_blocked_on_one_monitor_does_not_block_another() {
    let scene = Scene::new(2);
    let mut blocked = scene.client();
    blocked.send("{'execute':'wait'}");
    scene.program.await_waiting(1);
    let mut other = Client::negotiated(&scene.paths[1], false);
    assert_eq!(other.ask("{'execute':'echo'}"), "{\"return\": {}}");
    scene.program.open_gate();
    assert_eq!(blocked.line(), "{\"return\": {}}");
}

#[test]
fn a_client_that_leaves_during_its_command_makes_room_for_the_next() {
    let scene = Scene::new(1);
    let mut first = scene.client();
    first.send("{'execute':'wait','id':'old'}{'execute':'echo','id':'old'}");
    scene.program.await_waiting(1);
    drop(first);
    let mut next = Client::connect(&scene.paths[0]);
    assert!(next.line().starts_with("{\"QMP\": "));
    next.send("{'execute':'qmp_capabilities','id':'new'}");
    assert!(next.is_silent(), "the old command still has the dispatcher");
    scene.program.open_gate();
    assert_eq!(next.line(), "{\"return\": {}, \"id\": \"new\"}");
}

#[test]
fn what_is_sent_before_a_hang_up_is_run() {
    let scene = Scene::new(1);
    let mut client = Client::connect(&scene.paths[0]);
    client.send("{'execute':'qmp_capabilities'}{'execute':'quit'}");
    drop(client);
    assert_eq!(scene.told.recv_timeout(PATIENCE), Ok("quit"));
}

#[test]
fn a_client_that_only_stops_sending_reads_all_its_replies() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    client.send("{'execute':'echo','id':1}{'execute':'echo','id':2}");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.line(), "{\"return\": {}, \"id\": 1}");
    assert_eq!(client.line(), "{\"return\": {}, \"id\": 2}");
    assert_eq!(client.line_or_end(), None);
}

#[test]
fn quit_is_an_event_then_a_reply_then_the_action_then_the_end() {
    for quit in ["{'execute':'quit','id':1}", "{'exec-oob':'quit-oob','id':1}"] {
        let scene = Scene::new(1);
        let mut client = scene.client();
        client.send(quit);
        assert_eq!(scene.told.recv_timeout(PATIENCE), Ok("quit"));
        scene.server.stop();
        assert_eq!(
            without_time(&client.line()),
            "{\"timestamp\": {\"seconds\": 0, \"microseconds\": 0}, \"event\": \"SHUTDOWN\", \
             \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}"
        );
        assert_eq!(client.line(), "{\"return\": {}, \"id\": 1}");
        assert_eq!(client.line_or_end(), None);
        assert!(!scene.paths[0].exists());
    }
}

#[test]
fn a_descriptor_is_named_used_once_and_outlives_its_client() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    let fd = readable("one");
    client.send_fds("{'execute':'getfd','arguments':{'fdname':'a'}}", &[fd.as_fd()]);
    assert_eq!(client.line(), "{\"return\": {}}");
    drop(client);
    let mut client = scene.client();
    assert_eq!(
        client.ask("{'execute':'read-fd','arguments':{'name':'a'}}"),
        "{\"return\": \"one\"}"
    );
    assert!(client.ask("{'execute':'read-fd','arguments':{'name':'a'}}").contains("no a"));
    assert_eq!(
        client.ask("{'execute':'closefd','arguments':{'fdname':'a'}}"),
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"File descriptor named 'a' not found\"}}"
    );
}

#[test]
fn descriptors_keep_to_their_commands_when_commands_are_sent_ahead() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    for name in ["a", "b", "c"] {
        let fd = readable(name);
        let command = format!("{{'execute':'getfd','arguments':{{'fdname':'{name}'}}}}");
        client.send_fds(&command, &[fd.as_fd()]);
    }
    for _ in 0..3 {
        assert_eq!(client.line(), "{\"return\": {}}");
    }
    for name in ["a", "b", "c"] {
        let reply = client.ask(format!("{{'execute':'read-fd','arguments':{{'name':'{name}'}}}}"));
        assert_eq!(reply, format!("{{\"return\": \"{name}\"}}"));
    }
}

#[test]
fn a_descriptor_may_come_with_part_of_its_command_and_is_refused_like_qemu_does() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    let fd = readable("x");
    client.send_fds("{'execute':'echo'}{'execute':'getfd',", &[fd.as_fd()]);
    client.send("'arguments':{'fdname':'a'}}");
    assert_eq!(client.line(), "{\"return\": {}}");
    assert_eq!(client.line(), "{\"return\": {}}");
    client.send_fds("{'execute':'getfd','arguments':{'fdname':'1'}}", &[fd.as_fd()]);
    assert!(client.line().contains("Parameter 'fdname' expects a name not starting with a digit"));
    let reply = client.ask("{'execute':'getfd','arguments':{'fdname':'b'}}");
    assert!(reply.contains("No file descriptor supplied via SCM_RIGHTS"), "{reply}");
}

#[test]
fn of_many_descriptors_the_first_counts_and_the_others_are_closed() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    let first = readable("first");
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut fds = vec![ours.as_fd(); 253];
    fds[0] = first.as_fd();
    client.send_fds("{'execute':'getfd','arguments':{'fdname':'a'}}", &fds);
    assert_eq!(client.line(), "{\"return\": {}}");
    drop(ours);
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "somebody still holds it");
    assert_eq!(
        client.ask("{'execute':'read-fd','arguments':{'name':'a'}}"),
        "{\"return\": \"first\"}"
    );
}

#[test]
fn we_connect_when_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("harness");
    let (program, _told) = Program::new();
    let address = format!("unix:{}", path.display());
    let refused = start(&address, &program).err().unwrap().to_string();
    assert!(refused.starts_with("Failed to connect QMP monitor to unix:"), "{refused}");
    let harness = UnixListener::bind(&path).unwrap();
    let server = start(&address, &program).unwrap();
    assert!(server.bound().is_empty());
    let mut client = Client::new(harness.accept().unwrap().0);
    client.negotiate(true);
    assert_eq!(client.ask("{'execute':'echo'}"), "{\"return\": {}}");
    server.stop();
    assert_eq!(client.line_or_end(), None);
    assert!(path.exists(), "the harness's socket is not ours to remove");
}

#[test]
fn inherited_descriptors_serve_connected_and_listening() {
    let (program, _told) = Program::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = start(&format!("fd:{}", ours.as_raw_fd()), &program).unwrap();
    let mut client = Client::new(theirs);
    client.negotiate(false);
    server.stop();
    assert_eq!(client.line_or_end(), None, "though the original is still open");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let listener = UnixListener::bind(&path).unwrap();
    let address = format!("fd={},server=on,wait=off", listener.as_raw_fd());
    let server = start(&address, &program).unwrap();
    assert_eq!(server.bound(), [Bound::Fd(listener.as_raw_fd())]);
    for _ in 0..2 {
        Client::negotiated(&path, true);
    }
}

#[test]
fn tcp_says_which_port_it_got() {
    let (program, _told) = Program::new();
    let server = start("tcp:127.0.0.1:0,server=on,wait=off", &program).unwrap();
    let [Bound::Tcp(address)] = server.bound()[..] else {
        panic!("{:?}", server.bound());
    };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut start = [0; 7];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"{\"QMP\":");
}

#[test]
fn a_start_that_cannot_have_all_addresses_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let (program, _told) = Program::new();
    let good = format!("unix:{},server=on", path.display());
    let bad = format!("unix:{}/no/such,server=on", dir.path().display());
    let start = |addresses: &[&String]| {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let handler = Arc::clone(&program);
        Server::start(&addresses, handler, &program.events).err().unwrap()
    };
    let error = start(&[&good, &bad]).to_string();
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(!path.exists());
    assert!(matches!(start(&[&good, &good]), ServerError::Twice(_)));
}

#[test]
fn waiting_for_clients_ends_when_each_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let (program, _told) = Program::new();
    let server = start(&format!("unix:{},server=on", path.display()), &program).unwrap();
    let clients = server.first_clients();
    assert!(!clients.wait(Some(Duration::from_millis(20))));
    let client = thread::spawn(move || Client::negotiated(&path, false));
    assert!(clients.wait(Some(PATIENCE)));
    client.join().unwrap();
    assert!(clients.wait(None), "it has had one");
}

#[test]
fn waiting_for_clients_ends_when_the_server_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (program, _told) = Program::new();
    let address = format!("unix:{},server=on", dir.path().join("q").display());
    let server = start(&address, &program).unwrap();
    let clients = server.first_clients();
    let wait = thread::spawn(move || clients.wait(Some(PATIENCE)));
    let begun = Instant::now();
    server.stop();
    assert!(!wait.join().unwrap());
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[test]
fn stopping_does_not_wait_for_ever_for_a_command() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    client.send("{'execute':'wait'}");
    scene.program.await_waiting(1);
    let begun = Instant::now();
    scene.server.stop();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(client.line_or_end(), None);
    scene.program.open_gate();
}

#[test]
fn a_handler_that_panics_breaks_the_connection_rather_than_hanging_it() {
    let scene = Scene::new(1);
    let mut client = scene.client();
    client.send("{'execute':'panic'}");
    assert_eq!(client.line_or_end(), None);
}
