//! A monitor that waits costs nothing, whatever it waits for. Alone in its process, whose CPU time it
//! measures.

mod program;

use std::{fs, net::Shutdown, sync::Arc, thread, time::Duration};

use landfall_qmp::Server;
use program::{Client, Program};

#[test]
fn waiting_costs_no_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let (program, _told) = Program::new();
    let handler = Arc::clone(&program);
    let address = format!("unix:{},server=on,wait=off", path.display());
    let _server = Server::start(&[address.parse().unwrap()], handler, &program.events).unwrap();
    assert_idle("for a client");
    let client = Client::negotiated(&path, true);
    assert_idle("for a command");
    drop(client);
    let mut client = Client::negotiated(&path, false);
    client.send("{'execute':'wait'}{'execute':'echo'}");
    program.await_waiting(1);
    assert_idle("for a command to end, with more to read");
    client.stream.shutdown(Shutdown::Both).unwrap();
    assert_idle("for a command to end whose client has hung up");
    program.open_gate();
}

fn assert_idle(what: &str) {
    let before = cpu_ticks();
    thread::sleep(Duration::from_millis(700));
    let spent = cpu_ticks() - before;
    assert!(spent < 10, "waiting {what}: {spent} ticks of 10 ms");
}

fn cpu_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    // proc(5): utime and stime, the 14th and 15th, of which the first two are cut off.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
