//! A comparison, tiny: whether it works, not what it finds.

use std::process::{Command, Output};

use serde_json::Value;

fn compare(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_landfall");
    Command::new(program).arg("compare").args(arguments).output().expect("landfall starts")
}

#[test]
fn a_comparison_without_qemu_runs_the_synthetic_source_and_tells_every_run() {
    let output = compare(&[
        "--scenario",
        "default-memory",
        "--ram",
        "32M",
        "--pairs",
        "2",
        "--channels",
        "3",
        "--json",
        "-",
    ]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let result = &results[0];
    assert_eq!((&result["scenario"], &result["channels"]), (&"default-memory".into(), &3.into()));
    let contenders = result["contenders"].as_array().expect("contenders");
    let names: Vec<_> = contenders.iter().map(|contender| contender["name"].as_str()).collect();
    assert_eq!(names, [Some("landfall, default memory")]);
    let runs = contenders[0]["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2);
    for run in runs {
        let figure = |name: &str| run[name].as_f64().expect(name);
        let parts = figure("user-s") + figure("system-s");
        assert!(figure("cpu-s") > 0.0 && figure("wall-s") > 0.0 && figure("startup-cpu-s") > 0.0);
        // The kernel splits by clock ticks of 10 ms.
        assert!((parts - figure("cpu-s")).abs() <= 0.05, "{run}");
    }
}

#[test]
fn an_unknown_scenario_is_told_the_known_ones() {
    let output = compare(&["--scenario", "fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("main-only"));
}
