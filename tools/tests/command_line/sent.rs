//! What `landfall send` can make, received: every page as the seed promises, whichever way it came.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Destination, PROGRAM, landfall, report, send, text};

#[test]
fn what_is_sent_arrives_in_the_run_directory_whichever_way_it_came() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let socket = format!("unix:{}", path("socket"));
    let ways = [
        ("configured", vec!["tcp:127.0.0.1:0", "--multifd", "3"], "3"),
        ("derived", vec!["tcp:127.0.0.1:0"], "3"),
        ("unix", vec![socket.as_str(), "--multifd", "2", "--readers", "1"], "2"),
        ("plain", vec!["tcp:localhost:0"], "0"),
    ];
    for (name, arguments, channels) in ways {
        let (run, json) = (path(name), path(&format!("{name}.json")));
        let more = ["--mem-path", &run, "--json", &json, "--digest"];
        let destination = Destination::start(&[&arguments[..], &more].concat());
        let sent = send(&destination.uri, &["--multifd", channels]);
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let (code, out, log) = destination.end();
        assert_eq!(code, Some(0), "{name}: {out}{log}");
        let report = report(Path::new(&json));
        assert_eq!(report["status"], "completed", "{name}");
        for part in ["run.json", "configuration", "device-state", "vmdesc.json", "ram/pc.ram.ram"] {
            assert!(Path::new(&run).join(part).exists(), "{name}: {part}");
        }
        // The same seed fills the same memory, however it travels.
        let equal = landfall(&["verify", &path("configured"), &run]);
        assert_eq!(equal.status.code(), Some(0), "{name}: {}", text(&equal.stdout));
    }
}

#[test]
fn every_form_of_the_synthetic_source_arrives_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let forms: [(&str, &str, &[&str]); 13] = [
        ("modern", "3", &[]),
        ("7.2", "3", &["--speak", "7.2"]),
        ("8.2", "2", &["--speak", "8.2", "--no-return-path"]),
        ("old machine", "4", &["--speak", "10.0", "-M", "pc-q35-8.0"]),
        ("11.1", "2", &["--speak", "11.1", "--switchover-ack", "--early-sections", "2"]),
        ("zero on main", "2", &["--zero-page-detection", "legacy", "--rounds-per-section", "3"]),
        ("zero in full", "1", &["--zero-page-detection", "none", "--forged-tails", "9"]),
        ("no footers", "0", &["--speak", "7.2", "-M", "pc-i440fx-2.3"]),
        ("snapshot", "0", &["--background-snapshot"]),
        ("advised", "0", &["--postcopy-ram", "--zero-page-detection", "legacy"]),
        ("bitmaps", "2", &["--dirty-bitmaps"]),
        ("disk", "2", &["--block", "--speak", "9.0"]),
        ("compressed", "0", &["--compress", "--speak", "7.2", "--compressible", "0"]),
    ];
    for (name, channels, form) in forms {
        let destination = Destination::start(&["tcp:127.0.0.1:0", "--dump", &path(name)]);
        let rounds: &[&str] = if name == "snapshot" { &["--rounds", "1"] } else { &[] };
        let fixed = ["send", &destination.uri, "--ram", "16M", "--multifd", channels];
        let sent = landfall(&[&fixed[..], rounds, form].concat());
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let (code, _, log) = destination.end();
        assert_eq!(code, Some(0), "{name}: {log}");
        if name != "snapshot" {
            let equal = landfall(&["verify", &path("modern"), &path(name)]);
            assert_eq!(equal.status.code(), Some(0), "{name}: {}", text(&equal.stdout));
        }
    }
}

#[test]
fn one_stream_carries_every_way_to_change_and_compress_pages_and_all_leave_the_same_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let more = ["--multifd", "0", "--xbzrle", "--compress", "--speak", "9.0"];
    let ways = [
        ("file", format!("file:{},offset=4k", at("file")), ",offset=4096"),
        ("exec", format!("exec:cat > {}", at("exec")), ""),
        ("fd", "fd:3".to_owned(), ""),
    ];
    for (name, uri, offset) in &ways {
        // The shell leaves the descriptor open for it.
        let script = format!("\"$0\" \"$@\" 3> {}", at("fd"));
        let sent = Command::new("/bin/sh")
            .args(["-c", &script, PROGRAM, "send", uri, "--ram", "24M"])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let json = at("report.json");
        let from = format!("file:{}{offset}", at(name));
        let received =
            landfall(&["receive", &from, "--dump", &at(&format!("{name}.run")), "--json", &json]);
        assert_eq!(received.status.code(), Some(0), "{name}: {}", text(&received.stderr));
        let report = report(Path::new(&json));
        assert!(report["pages"]["xbzrle-pages"].as_u64() > Some(100), "{name}: {report}");
        let equal = landfall(&["verify", &at("file.run"), &at(&format!("{name}.run"))]);
        assert_eq!(equal.status.code(), Some(0), "{name}: {}", text(&equal.stdout));
    }
}

#[test]
fn memory_that_is_shared_is_announced_and_not_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("run.json").display().to_string();
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--json", &json]);
    let sent = send(&destination.uri, &["--x-ignore-shared"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let (code, _, log) = destination.end();
    assert_eq!(code, Some(0), "{log}");
    let report = report(Path::new(&json));
    let blocks = report["blocks"].as_array().expect("blocks");
    assert_eq!(blocks[0]["unique-pages"], 0, "{report}");
    assert_eq!(blocks[1]["unique-pages"], (16 << 20) / 4096, "{report}");
}

#[test]
fn an_image_arrives_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let content: Vec<u8> = (0..5 << 20).map(|byte: u32| (byte >> 13) as u8).collect();
    std::fs::write(path("image"), content).expect("an image");
    let destination = Destination::start(&["tcp:127.0.0.1:0", "--mem-path", &path("run")]);
    let arguments = ["send", &destination.uri, "--image", &path("image"), "--rounds", "1"];
    let sent = landfall(&arguments);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert_eq!(destination.end().0, Some(0));
    let file = path("run/ram/pc.ram.ram");
    let equal = landfall(&["verify", &path("image"), &file]);
    assert_eq!(equal.status.code(), Some(0), "{}", text(&equal.stdout));
}

#[test]
fn a_guest_saved_to_a_file_is_received_from_it_and_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    for (more, uri) in [("", "file"), (",offset=65536", "file")] {
        let uri = format!("{uri}:{}{more}", at("saved"));
        let saved = send(&uri, &["--mapped-ram"]);
        assert_eq!(saved.status.code(), Some(0), "{}", text(&saved.stderr));
        for options in [&[][..], &["--direct-io", "--readers", "2"], &["--queue-depth", "3"]] {
            let json = at("report.json");
            let received =
                landfall(&[&["receive", &uri, "--json", &json, "--digest"], options].concat());
            assert_eq!(received.status.code(), Some(0), "{}", text(&received.stderr));
            let report = report(Path::new(&json));
            assert_eq!(report["pages"]["unique-pages"], report["pages"]["ram-pages"]);
        }
    }
    let unfit = send("tcp:127.0.0.1:1", &["--mapped-ram"]);
    assert_eq!(unfit.status.code(), Some(2), "{}", text(&unfit.stderr));
}

#[test]
fn a_source_without_a_copy_leaves_the_same_memory_and_says_what_it_cost() {
    let directory = tempfile::tempdir().expect("a directory");
    let received = |name: &str, more: &[&str]| {
        let directory = directory.path().join(name).to_str().expect("text").to_owned();
        let destination = Destination::start(&["tcp:127.0.0.1:0", "--dump", &directory]);
        let sent = send(&destination.uri, more);
        assert_eq!(sent.status.code(), Some(0), "{name}: {}", text(&sent.stderr));
        let said = text(&sent.stdout);
        assert!(said.contains("CPU-s/GiB") && said.contains("GiB per CPU second"), "{said}");
        assert_eq!(destination.end().0, Some(0), "{name}");
        (directory, said)
    };
    let (plain, said) = received("plain", &[]);
    assert!(!said.contains("zero-copy"), "{said}");
    let (without, said) = received("without", &["--zero-copy"]);
    assert!(said.contains("it does not pay here, 4 channels went on without"), "{said}");
    let equal = landfall(&["verify", &plain, &without]);
    assert_eq!(equal.status.code(), Some(0), "{}", text(&equal.stderr));
}
