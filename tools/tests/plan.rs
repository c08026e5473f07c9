//! `landfall plan` as a person runs it.

#[path = "../../tests/json_schema/held.rs"]
mod held;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use held::Held;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall");

fn plan(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("plan").args(arguments).output().expect("landfall starts")
}

fn answer(arguments: &[&str]) -> Value {
    let output = plan(&[arguments, &["--json", "-", "-q"]].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_a_calibration_the_answer_is_a_range() {
    let output = plan(&["--ram", "64G", "--link", "100G", "--dirty-rate", "200M"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}{}", text(&output.stderr));
    for word in ["low cost", "high cost", "total time", "guest's pause", "round by round", "link"] {
        assert!(out.contains(word), "{word} in {out}");
    }
    let answer = answer(&["--ram", "64G", "--link", "100G", "--dirty-rate", "200M"]);
    let cases = answer["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 2);
    for figure in ["/total-time-s", "/downtime-s", "/destination/prefault-cpu-s"] {
        let of = |case: &Value| case.pointer(figure).and_then(Value::as_f64).expect(figure);
        assert!(of(&cases[0]) < of(&cases[1]), "{figure}");
    }
}

#[test]
fn networks_count_in_bits_and_tens_memory_in_bytes_and_twos() {
    let answer = answer(&["--ram", "4T", "--link", "200G", "--dirty-rate", "3G"]);
    let question = &answer["question"];
    assert_eq!(question["link-bits-per-second"], 200_000_000_000_u64);
    assert_eq!(question["ram-bytes"], 4_u64 << 40);
    assert_eq!(question["dirty-bytes-per-second"], 3_u64 << 30);
    assert_eq!(question["working-set-bytes"], 4_u64 << 40);
    assert_eq!(answer["cases"][0]["destination"]["bitmap-bytes"], 256 << 20);
    // 4 TiB and its headers at 200 Gbit/s, less what frames take.
    let total = answer["cases"][0]["total-time-s"].as_f64().expect("a time");
    assert!((187.0..215.0).contains(&total), "{total}");
}

#[test]
fn what_does_not_converge_ends_with_1_and_says_what_would() {
    let output = plan(&["--ram", "16G", "--link", "10G", "--dirty-rate", "20G"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    for word in
        ["does not converge", "downtime-limit over", "if the guest wrote", "Gbit/s of pages"]
    {
        assert!(out.contains(word), "{word} in {out}");
    }
    let answer = answer(&["--ram", "16G", "--link", "10G", "--dirty-rate", "20G"]);
    let case = &answer["cases"][0];
    assert_eq!(case["converges"], false);
    assert!(case.get("downtime-s").is_none(), "no pause that never comes");
    let needed = case["would-converge-at"]["payload-bytes-per-second"].as_f64().expect("a rate");
    assert!(needed > 1.25e9, "{needed}");
}

#[test]
fn what_no_migration_has_is_refused_with_2() {
    for (wrong, word) in [
        (&["--ram", "4X", "--link", "10G"][..], "4X"),
        (&["--ram", "1G", "--link", "fast"], "200G"),
        (&["--ram", "1G", "--link", "10G", "--zero", "101"], "101"),
        (&["--ram", "1G", "--link", "10G", "--channels", "0"], "0"),
        (&["--ram", "1G", "--link", "10G", "--working-set", "2G"], "working set"),
        (&["--ram", "1G", "--link", "10G", "--mtu", "100"], "MTU"),
        (&["--ram", "1G", "--link", "10"], "link"),
        (&["--ram", "1K", "--link", "10G"], "guest RAM"),
        (&["--ram", "1G", "--link", "10G", "--downtime-limit", "2000001"], "downtime limit"),
        (&["--ram", "1G", "--link", "10G", "--calibration", "/not/there"], "/not/there"),
    ] {
        let output = plan(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(text(&output.stderr).contains(word), "{word} in {}", text(&output.stderr));
    }
}

#[test]
fn a_report_of_this_version_calibrates_and_says_what_it_was_taken_for() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = report(scratch.path());
    let path = path.to_str().expect("text");
    let arguments = ["--ram", "1G", "--link", "100G", "--channels", "2", "--calibration", path];
    let output = plan(&arguments);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}{}", text(&output.stderr));
    for word in ["Calibrated by a run of", "over 2 channels", "127.0.0.1", "taken on one host"] {
        assert!(out.contains(word), "{word} in {out}");
    }
    let answer = answer(&arguments);
    assert_eq!(answer["cases"].as_array().map(Vec::len), Some(1), "no range");
    assert_eq!(answer["calibrations"][0]["channels"], 2);
    let cost = answer["cases"][0]["costs"]["cpu-s-per-gib"].as_f64().expect("a cost");
    assert!(cost > 0.0 && cost < 100.0, "{cost}");
}

#[test]
fn a_run_that_the_link_held_back_does_not_tell_how_fast_the_source_is() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = report(scratch.path());
    let path = path.to_str().expect("text");
    let pace = |link: &str| {
        let arguments = ["--ram", "1G", "--link", link, "--channels", "2", "--calibration", path];
        let says = text(&plan(&arguments).stdout).contains("The link held it back");
        let answer = answer(&arguments);
        (answer["cases"][0]["costs"]["ns-per-zero-page"].as_f64().expect("a cost"), says)
    };
    let (as_measured, is_told) = pace("10000G");
    assert!(!is_told, "no run fills ten terabits");
    let (assumed, is_told) = pace("10M");
    assert!(is_told && (assumed - as_measured).abs() > 1e-6, "{assumed} {as_measured}");
}

#[test]
fn a_report_that_is_none_or_lacks_what_is_needed_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let good: Value =
        serde_json::from_slice(&fs::read(report(scratch.path())).expect("a report")).expect("JSON");
    let spoilt = |spoil: &dyn Fn(&mut Value)| {
        let mut report = good.clone();
        spoil(&mut report);
        report.to_string()
    };
    let cases = [
        ("{".to_owned(), "is no report"),
        ("{}".to_owned(), "its schema is not"),
        (spoilt(&|r| r["schema"]["version"] = 2.into()), "version 2"),
        (spoilt(&|r| r["status"] = "failed".into()), "failed, not completed"),
        (spoilt(&|r| r["channels"] = Value::Array(Vec::new())), "without multifd"),
        (
            spoilt(&|r| drop(r["memory"].as_object_mut().expect("an object").remove("backend"))),
            "discard",
        ),
        (
            spoilt(&|r| {
                drop(r["phases"].as_object_mut().expect("an object").remove("ram-done-ns"))
            }),
            "ram-done-ns",
        ),
        (spoilt(&|r| r["pages"]["normal-pages"] = 100.into()), "too short"),
    ];
    for (content, word) in cases {
        let path = scratch.path().join("spoilt.json");
        fs::write(&path, content).expect("written");
        let path = path.to_str().expect("text");
        let output = plan(&["--ram", "1G", "--link", "10G", "--calibration", path]);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.contains(word), "{word} in {log}");
    }
}

#[test]
fn every_answer_fits_the_schema_and_all_of_it_is_used() {
    let scratch = tempfile::tempdir().expect("a folder");
    let path = report(scratch.path());
    let mut over_tls: Value =
        serde_json::from_slice(&fs::read(&path).expect("a report")).expect("JSON");
    over_tls["tls"] = json!({ "version": "TLSv1.3" });
    let tls = scratch.path().join("tls.json");
    fs::write(&tls, over_tls.to_string()).expect("written");
    let [path, tls] = [&path, &tls].map(|path| path.to_str().expect("text"));
    let mut schema = schema();
    let quiet = ["--ram", "64G", "--link", "100G", "--dirty-rate", "200M"];
    let busy = ["--ram", "16G", "--link", "10G", "--dirty-rate", "20G"];
    let still = ["--ram", "4K", "--link", "1T", "--zero", "100", "--accel", "tcg"];
    let limited = ["--ram", "8G", "--link", "100G", "--max-bandwidth", "1G", "--readers", "1"];
    // Nothing but the time it takes to look would let it end.
    let hopeless = [&busy[..], &["--downtime-limit", "0"]].concat();
    for arguments in [&quiet[..], &busy, &still, &limited, &hopeless] {
        schema.hold(&answer(arguments), &format!("{arguments:?}"));
        for calibrations in [&["--calibration", path][..], &["--calibration", tls]] {
            let arguments = [arguments, calibrations].concat();
            schema.hold(&answer(&arguments), &format!("{arguments:?}"));
        }
    }
    let unused = schema.unseen(&[]);
    assert!(unused.is_empty(), "in the schema, but in no answer: {unused:?}");
}

#[test]
fn the_schema_refuses_what_no_answer_has() {
    let schema = schema();
    schema.is_strict("landfall.plan", 1);
    let good = answer(&["--ram", "64G", "--link", "100G"]);
    assert!(schema.fits(&good));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut answer = good.clone();
        change(&mut answer);
        schema.fits(&answer)
    };
    assert!(!changed(&|answer| answer["speed"] = json!(1)));
    assert!(!changed(&|answer| answer["cases"][0]["passes"][0]["speed"] = json!(1)));
    assert!(!changed(&|answer| answer["cases"][0]["total-time-s"] = json!(-1)));
    assert!(!changed(&|answer| answer["cases"][0]["total-time-s"] = Value::Null));
    assert!(!changed(&|answer| answer["cases"][0]["converges"] = json!(false)), "has a pause");
    assert!(!changed(&|answer| answer["cases"] = json!([])));
    assert!(!changed(&|answer| answer["schema"]["version"] = json!(2)));
}

fn schema() -> Held {
    Held::new(include_str!("../../docs/schema/plan.schema.json"))
}

/// The report of a small run.
fn report(scratch: &Path) -> PathBuf {
    let path = scratch.join("run.json");
    let mut destination = Command::new(PROGRAM)
        .args(["receive", "tcp:127.0.0.1:0", "--multifd", "2", "--json"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("landfall starts");
    let mut log = std::io::BufReader::new(destination.stderr.take().expect("a pipe"));
    let uri = loop {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut log, &mut line).expect("text") > 0, "it listens");
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split([';', ',']).next().expect("a place").trim().to_owned();
        }
    };
    // Slow enough to be long enough for a calibration, whatever the machine.
    let send = ["--multifd", "2", "--ram", "80M", "--rounds", "1", "--pace", "400M", "-q"];
    let sent = Command::new(PROGRAM).args(["send", &uri]).args(send).status().expect("it starts");
    assert!(sent.success());
    std::io::copy(&mut log, &mut std::io::sink()).expect("text");
    assert!(destination.wait().expect("it ends").success());
    path
}
