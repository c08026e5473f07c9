//! What landfall refuses: with which exit code, and what it says.

use crate::{Destination, landfall, send, text};

#[test]
fn wrong_command_lines_exit_with_2() {
    for arguments in [
        &["receive"][..],
        &["receive", "tcp:127.0.0.1:0", "--nonsense"],
        &["receive", "bogus:1"],
        &["receive", "defer"],
        &["receive", "tcp:127.0.0.1:0", "--multifd", "256"],
        &["receive", "tcp:127.0.0.1:0", "--hugepages", "4M"],
        &["receive", "tcp:127.0.0.1:0", "--stall-timeout", "0"],
        &["receive", "rdma:127.0.0.1:4444"],
        &["send", "nowhere"],
        &["verify", "/nonexistent/a", "/nonexistent/b"],
    ] {
        let output = landfall(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn options_that_cannot_be_had_together_are_refused_with_the_reason() {
    let stdout = "standard output is the monitor's";
    let dropped = "pages are dropped";
    let twice = "is given twice";
    for (more, says) in [
        (&["--sink", "discard", "--dump", "/nonexistent/d"][..], dropped),
        (&["--sink", "discard", "--mem-path", "/nonexistent/d"], dropped),
        (&["--sink", "discard", "--digest"], dropped),
        (&["--qmp", "stdio", "--json", "-"], stdout),
        (&["--qmp", "stdio", "--json-lines", "-"], stdout),
        (&["--json", "-", "--json-lines", "-"], "--json - cannot be used with --json-lines -"),
        (&["--qmp", "unix:/nonexistent/q,server=on", "--qmp", "unix:/nonexistent/q,server"], twice),
        (&["--qmp", "stdio", "--qmp", "stdio"], twice),
    ] {
        let refused = landfall(&[&["receive", "tcp:127.0.0.1:0"], more].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(says), "{more:?}: {said}");
    }
}

#[test]
fn what_this_host_cannot_exits_with_3_and_the_line_that_mends_it() {
    let pool =
        ["receive", "tcp:127.0.0.1:0", "--hugepages", "1G", "--pool", "8T", "--max-ram", "9T"];
    let output = landfall(&pool);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let log = text(&output.stderr);
    assert!(log.contains("nr_hugepages") || log.contains("does not exist"), "{log}");
    let output = landfall(&["receive", "tcp:127.0.0.1:0", "--mem-path", "/proc/nowhere"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

#[test]
fn a_monitor_that_cannot_listen_is_told_before_the_pool_is_mapped() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let monitor = format!("tcp:127.0.0.1:{port},server=on,wait=off");
    let output = landfall(&["receive", "defer", "--qmp", &monitor, "--pool", "64M"]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("Failed to bind QMP monitor"), "{log}");
    assert!(!log.contains("guest memory"), "{log}");
}

#[test]
fn a_place_that_a_report_cannot_go_to_is_told_before_memory_is_mapped() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("file"), "old").expect("a file");
    let receive = ["receive", "tcp:127.0.0.1:0", "--pool", "64M"];
    let plan = ["plan", "--ram", "4T", "--link", "200G"];
    for (command, option, path, says) in [
        (&receive[..], "--json", at("none/x.json"), "No such file or directory"),
        (&receive, "--json", at(""), "Is a directory"),
        (&receive, "--json-lines", at("none/x"), "No such file or directory"),
        (&receive, "--json-lines", at(""), "Is a directory"),
        (&receive, "--dump", at("file"), "Not a directory"),
        (&receive, "--dump", at("file/below"), "Not a directory"),
        (&plan, "--json", at("none/x.json"), "No such file or directory"),
        (&plan, "--json", at(""), "Is a directory"),
    ] {
        let output = landfall(&[command, &[option, &path]].concat());
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{option} {path}: {log}");
        assert!(log.contains(&format!("writing {path}: {says}")), "{option} {path}: {log}");
        assert_eq!(log.lines().count(), 1, "nothing was begun: {log}");
        assert_eq!(text(&output.stdout), "", "nothing was answered");
    }
    assert_eq!(std::fs::read_to_string(at("file")).expect("the file"), "old");
    assert_eq!(std::fs::read_dir(directory.path()).expect("the directory").count(), 1);
}

#[test]
fn a_guest_larger_than_max_ram_fails_the_run_and_says_both_sizes() {
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--multifd", "1", "--max-ram", "8M"]);
    let sent = send(&destination.uri, &["--multifd", "1"]);
    assert_ne!(sent.status.code(), Some(0));
    let (code, _, log) = destination.end();
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("--max-ram, 8388608 bytes"), "{log}");
}

#[test]
fn what_no_source_sends_is_refused_with_the_reason() {
    for (more, says) in [
        (&["tcp:h:1", "--xbzrle"][..], "multifd excludes xbzrle"),
        (&["tcp:h:1", "--xbzrle", "--image", "/f"], "--image"),
        (&["tcp:h:1", "--compress", "--speak", "7.2"], "multifd excludes compress"),
        (&["tcp:h:1", "--compress", "--multifd", "0"], "up to 9.0, --speak is 10.0"),
        (&["tcp:h:1", "--block", "--speak", "11.1"], "up to 9.0, --speak is 11.1"),
        (&["tcp:h:1", "--x-ignore-shared", "--postcopy-ram"], "excludes x-ignore-shared"),
        (&["file:/nonexistent/f"], "Migration requires multi-channel URIs (e.g. tcp)"),
        (&["exec:true", "--multifd", "1"], "--multifd is 1, allowed is 0"),
        (&["exec:true", "--multifd", "0", "--switchover-ack"], "excludes switchover-ack"),
        (&["file:/f", "--multifd", "0", "--tls-creds", "/c"], "TLS need an answer"),
        (&["file:/f,offset=x"], "file URI has bad offset x"),
        (&["fd:99", "--multifd", "0"], "fd:99: it is not open, or was not inherited"),
        (
            &["fd:1", "--multifd", "0"],
            "fd:1: it is not open, or was not inherited; allowed is a descriptor from 3 on",
        ),
        (&["fd:name", "--multifd", "0"], "fd:name is no number"),
        (&["rdma:h:1"], "exec:COMMAND and fd:N"),
    ] {
        let refused = landfall(&[&["send"], more].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(says), "{more:?}: {said}");
    }
}

#[test]
fn a_destination_that_cannot_be_sent_to_is_named_and_nothing_is_told_of_rates() {
    for (more, says) in [
        (&["file:/nonexistent/f", "--multifd", "0"][..], "file:/nonexistent/f: No such file"),
        (&["file:/dev/full", "--multifd", "0"], "main: file:/dev/full: No space left on device"),
        (&["tcp:127.0.0.1:1"], "main: cannot connect to tcp:127.0.0.1:1: Connection refused"),
        (&["unix:/nonexistent/s"], "main: cannot connect to unix:/nonexistent/s: No such file"),
    ] {
        let failed = landfall(&[&["send"], more].concat());
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{more:?}: {said}");
        assert!(said.contains(says), "{more:?}: {said}");
        assert_eq!(text(&failed.stdout), "", "{more:?}");
    }
    let ended = landfall(&["send", "exec:exit 7", "--multifd", "0"]);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("main: exec:exit 7: the command ended with exit status: 7"), "{said}");
}

#[test]
fn an_image_that_cannot_be_read_is_refused_before_the_destination_hears_of_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("told so");
    let uri = format!("tcp:{}", listener.local_addr().expect("an address"));
    for (path, says) in [
        ("/proc", "landfall: image /proc: it is a directory, allowed are regular files"),
        ("/nonexistent/i", "landfall: image /nonexistent/i: No such file"),
    ] {
        let refused = landfall(&["send", &uri, "--image", path]);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{said}");
        assert!(listener.accept().is_err(), "{path}: it has connected");
    }
}

#[test]
fn zero_copy_is_refused_with_what_excludes_it() {
    for more in [
        &["--multifd", "0"][..],
        &["--compression", "zlib"],
        &["--tls-creds", "/nonexistent"],
        &["--image", "/nonexistent"],
        &["--mapped-ram"],
    ] {
        let refused = landfall(&[&["send", "tcp:127.0.0.1:1", "--zero-copy"], more].concat());
        assert_eq!(refused.status.code(), Some(2), "{more:?}: {}", text(&refused.stderr));
    }
}

#[test]
fn a_cpu_that_is_not_there_is_refused_with_those_that_are() {
    if landfall_receiver::receiver::allowed_cpus().contains(&1023) {
        return;
    }
    for command in [&["demo"][..], &["receive", "tcp:127.0.0.1:0"]] {
        let refused = landfall(&[command, &["--cpus", "0,1023"]].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("--cpus 0,1023: CPU 1023 is not there, or not for"), "{said}");
        assert!(said.contains("; allowed are "), "{said}");
    }
}
