//! Output that nobody takes: a reader that has gone is no fault, a full disk is one.

use std::process::{Command, Output, Stdio};

use crate::{PROGRAM, text};

fn into(stdout: impl Into<Stdio>, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .expect("landfall starts")
}

#[test]
fn what_was_found_is_the_exit_code_whether_anybody_reads_it_and_a_full_disk_is_3() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name).display().to_string();
        std::fs::write(&path, content).expect("a file");
        path
    };
    let (a, b) = (file("a", "one"), file("b", "two"));
    for (arguments, code) in [
        (&["plan", "--ram", "4T", "--link", "200G"][..], 0),
        (&["plan", "--ram", "4T", "--link", "200G", "--json", "-"], 0),
        (&["plan", "--ram", "64G", "--link", "10G", "--dirty-rate", "4G"], 1),
        (&["demo", "--ram", "16M"], 0),
        (&["compare", "--list"], 0),
        (&["compare", "--list", "-v"], 0),
        (&["verify", &a, &a], 0),
        (&["verify", &a, &b], 1),
        (&["receive", "exec:true"], 1),
        (&["receive", "exec:true", "--json", "-"], 1),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let unread = into(writer, arguments);
        let said = text(&unread.stderr);
        assert_eq!(unread.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("standard output"), "{arguments:?}: {said}");
        let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
        let lost = into(full, arguments);
        let said = text(&lost.stderr);
        assert_eq!(lost.status.code(), Some(3), "{arguments:?}: {said}");
        assert_eq!(said.matches("standard output: No space").count(), 1, "{arguments:?}: {said}");
    }
}

#[test]
fn nobody_needs_to_hear_what_is_said_beside_the_result() {
    for (arguments, code) in [
        (&["demo", "--ram", "16M"][..], 0),
        (&["receive", "exec:true", "-vv"], 1),
        (&["verify", "/nonexistent/a", "/nonexistent/b"], 2),
        (&["send", "unix:/nonexistent/s"], 1),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let both = writer.try_clone().expect("a descriptor");
        let mut command = Command::new(PROGRAM);
        let command = command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(both);
        assert_eq!(command.status().expect("landfall starts").code(), Some(code), "{arguments:?}");
    }
}
