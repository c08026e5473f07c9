//! A comparison, tiny: whether it works, not what it finds.

#[path = "../../tests/qemu/found.rs"]
#[allow(dead_code, reason = "not every test looks for the same")]
mod found;
#[path = "../../tests/json_schema/held.rs"]
mod held;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use found::qemu_or_skip;
use held::Held;
use landfall_receiver::receiver::allowed_cpus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// For what takes a second at most.
const LONG: Duration = Duration::from_secs(60);

fn compare(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_landfall");
    Command::new(program).arg("compare").args(arguments).output().expect("landfall starts")
}

/// The one scenario in the JSON on stdout, and everything around it.
fn result(output: &Output) -> (Value, Value) {
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    let mut whole: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    schema().hold(&whole, "what this comparison tells");
    (whole["scenarios"][0].take(), whole)
}

/// A scenario file whose only contenders are these.
fn scenario(directory: &tempfile::TempDir, head: &str, contenders: &str) -> String {
    let text = format!(
        "name = \"mine\"\nabout = \"a test's\"\nchannels = 2\nreaders = 2\nram-mib = [32]\n\
         content = {{ kind = \"random\", zero-percent = 0 }}\n{head}\ncontenders = [{contenders}]\n"
    );
    let path = directory.path().join("mine.toml");
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn a_comparison_without_qemu_runs_the_synthetic_source_and_tells_every_run() {
    let arguments = ["--scenario", "default-memory", "--ram", "32M", "--pairs", "2"];
    let rest = ["--channels", "3", "--json", "-"];
    let output = compare(&[&arguments[..], &rest].concat());
    let (scenario, whole) = result(&output);
    assert_eq!(scenario["scenario"]["name"], "default-memory");
    let contenders = scenario["contenders"].as_array().expect("contenders");
    let names: Vec<_> = contenders.iter().map(|contender| contender["name"].as_str()).collect();
    let name = |memory| Some(format!("landfall, {memory}, 3 channels, 3 readers, 0.03 GiB"));
    assert_eq!(names, [name("thp").as_deref(), name("default").as_deref()]);
    for contender in contenders {
        let runs = contender["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 2);
        for run in runs {
            let figure = |name: &str| run[name].as_f64().expect(name);
            let parts = figure("user-s") + figure("system-s");
            let all = figure("cpu-s");
            assert!(all > 0.0 && figure("wall-s") > 0.0 && figure("startup-cpu-s") > 0.0);
            // The kernel splits by clock ticks of 10 ms.
            assert!((parts - all).abs() <= 0.05, "{run}");
            let pages = &run["received"]["pages"];
            assert_eq!(pages["unique-pages"], pages["ram-pages"]);
            assert!(run["received"]["wire"]["bytes"].as_u64() > Some(32 << 20), "{run}");
            assert!(run["guest-ram"]["page-kib"].as_u64() >= Some(4), "{run}");
        }
        let command = &contender["commands"]["destination"]["command-line"];
        assert!(command.as_array().is_some_and(|words| words.contains(&"receive".into())));
    }
    // Everybody's turn comes once in each round, and the second round goes backwards.
    let order = |at: usize, round: usize| contenders[at]["runs"][round]["order"].as_u64();
    let orders: BTreeSet<_> = (0..2).flat_map(|at| [order(at, 0), order(at, 1)]).collect();
    assert_eq!(orders, (0..4).map(Some).collect());
    assert!((0..2).all(|at| order(at, 0).zip(order(at, 1)).is_some_and(|(a, b)| a + b == 3)));
    assert!(!whole["host-before"]["kernel"].is_null() && !whole["host-after"].is_null());
    assert!(scenario["programs"]["landfall"]["version"].as_str().is_some());
}

#[test]
fn without_qemu_too_a_scenarios_content_is_what_is_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = scenario(&directory, "", "{ receiver = \"landfall\", memory = \"thp\" }");
    let random = fs::read_to_string(&path).expect("a scenario");
    let same_pages = |kind: &str, zero: u8| {
        let content = format!("kind = \"{kind}\", zero-percent = {zero}");
        let text = random.replace("kind = \"random\", zero-percent = 0", &content);
        fs::write(&path, text).expect("written");
        let (scenario, _) = result(&compare(&["--scenario", &path, "--pairs", "1", "--json", "-"]));
        let run = &scenario["contenders"][0]["runs"][0];
        let zero = run["received"]["pages"]["zero-pages"].as_u64().expect("a count");
        (run["guest-ram"]["pages-compared-and-same"].as_u64(), zero)
    };
    // Of words the file is there that they come from; random pages are landfall's own.
    let (same, zero) = same_pages("text", 50);
    assert!(same > Some(100), "{same:?}");
    assert!((3000..5200).contains(&zero), "{zero} of 8192");
    assert_eq!(same_pages("random", 0), (None, 0));
}

#[test]
fn a_real_qemu_is_source_and_destination_and_landfalls_source_is_held_against_it() {
    let Some(qemu) = qemu_or_skip("10.0") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let contenders = "{ receiver = \"qemu\", memory = \"default\" },\
        { receiver = \"landfall\", memory = \"thp\" },\
        { receiver = \"landfall\", memory = \"thp\", source = \"landfall\" }";
    let file = scenario(&directory, "source-prealloc = true", contenders);
    let qemu = qemu.display().to_string();
    let arguments = ["--scenario", &file, "--qemu", &qemu, "--pairs", "2", "--json", "-"];
    let (scenario, _) = result(&compare(&arguments));
    let contenders = scenario["contenders"].as_array().expect("contenders");
    let sources: Vec<_> = contenders.iter().map(|one| one["source"].as_str()).collect();
    assert_eq!(sources, [Some("given"), Some("given"), Some("landfall")]);
    for one in contenders {
        let source = &one["commands"]["source"]["command-line"];
        let words = source.as_array().expect("words").iter().filter_map(Value::as_str);
        let words: Vec<_> = words.collect();
        let is_qemu = words[0] == qemu;
        assert_eq!(is_qemu, one["source"] == "given", "{words:?}");
        assert_eq!(is_qemu, words.iter().any(|word| word.contains("prealloc=on")), "{words:?}");
        for run in one["runs"].as_array().expect("runs") {
            assert!(run["source-cpu-s"].as_f64() > Some(0.0), "{run}");
            // From outside, of memory that is the source's own file.
            let same = &run["guest-ram"]["pages-compared-and-same"];
            assert_eq!(same.as_u64().is_some_and(|pages| pages > 100), is_qemu, "{run}");
            let sent = &run["sent"]["normal-bytes"];
            assert_eq!(sent.as_u64() >= Some(32 << 20), is_qemu, "{run}");
        }
    }
    let places = |ratios: &str| -> Vec<_> {
        let ratios = scenario[ratios].as_array().expect("ratios").iter();
        ratios.map(|one| (one["of"].as_u64(), one["by"].as_u64())).collect()
    };
    assert_eq!(places("ratios"), [(Some(1), Some(0))]);
    assert_eq!(places("source-ratios"), [(Some(2), Some(1))]);
}

#[test]
fn landfalls_source_is_held_against_nothing_without_a_real_one() {
    let output = compare(&["--scenario", "source", "--ram", "32M", "--pairs", "1"]);
    assert_eq!(output.status.code(), Some(3));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("the scenario source needs a real source: --qemu"), "{log}");
}

#[test]
fn both_sides_are_kept_on_the_cpus_that_are_given() {
    let all = allowed_cpus();
    let (source, receiver) = (all[0].to_string(), all[all.len() - 1].to_string());
    let directory = tempfile::tempdir().expect("a directory");
    let head = format!("source-cpus = \"0-1023\"\nreceiver-cpus = \"{receiver}\"");
    let file = scenario(&directory, &head, "{ receiver = \"landfall\", memory = \"thp\" }");
    let program = env!("CARGO_BIN_EXE_landfall");
    let mut child = Command::new(program)
        .args(["compare", "--scenario", &file, "--pairs", "2", "--json", "-"])
        // In place of the file's, which no host can have.
        .args(["--source-cpus", &source])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("landfall starts");
    let mut seen = BTreeSet::new();
    while child.try_wait().expect("it is ours").is_none() {
        seen.extend(cpus_of_children(child.id()));
    }
    let output = child.wait_with_output().expect("ended");
    let (scenario, _) = result(&output);
    let each = |command: &str, cpu: &String| (command.to_owned(), cpu.clone());
    assert_eq!(seen, [each("receive", &receiver), each("send", &source)].into());
    assert_eq!(scenario["scenario"]["source-cpus"], source);
    assert_eq!(scenario["scenario"]["receiver-cpus"], receiver);
    let heading = String::from_utf8_lossy(&output.stderr);
    let told = format!("; source on CPU {source}; receiver on CPU {receiver}");
    assert!(heading.contains(&told), "{heading}");
}

/// For each thread of the processes that `id` has started: landfall's command, and the CPUs that the
/// kernel lets it use.
fn cpus_of_children(id: u32) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    // Whatever has ended meanwhile is left out.
    let children = |thread: PathBuf| fs::read_to_string(thread.join("children")).ok();
    let threads = |id: &str| {
        let entries = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let started: Vec<String> = threads(&id.to_string()).into_iter().filter_map(children).collect();
    for child in started.iter().flat_map(|text| text.split_whitespace()) {
        let words = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        // Also what has not begun yet to be another program, and those that are asked for a version.
        let Some(command @ ("receive" | "send")) = words.split('\0').nth(1) else { continue };
        for thread in threads(child) {
            let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            all.extend(list.map(|list| (command.to_owned(), list.trim().to_owned())));
        }
    }
    all
}

#[test]
fn cpus_that_are_no_list_or_not_there_are_refused_by_name() {
    let output = compare(&["--receiver-cpus", "0-,1"]);
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("--receiver-cpus") && log.contains("'' is no CPU"), "{log}");

    let directory = tempfile::tempdir().expect("a directory");
    let contender = "{ receiver = \"landfall\", memory = \"thp\" }";
    let file = scenario(&directory, "source-cpus = \"3-1\"", contender);
    let output = compare(&["--scenario", &file]);
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("line 7") && log.contains("'3-1' is no range"), "{log}");

    if !allowed_cpus().contains(&1023) {
        let there = allowed_cpus()[0];
        let output = compare(&["--scenario", "random", "--source-cpus", &format!("{there},1023")]);
        assert_eq!(output.status.code(), Some(3));
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("source-cpus: CPU 1023 is not there"), "{log}");
    }
}

#[test]
fn a_place_that_the_record_cannot_go_to_is_refused_before_anything_runs() {
    let arguments = ["--scenario", "default-memory", "--ram", "32M", "--pairs", "1"];
    let output = compare(&[&arguments[..], &["--json", "/nonexistent/x.json"]].concat());
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert_eq!(log.lines().count(), 1, "nothing ran: {log}");
    assert!(log.contains("/nonexistent/x.json: No such file"), "{log}");
}

#[test]
fn a_scratch_directory_that_is_not_there_is_refused_and_not_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing").display().to_string();
    let output = compare(&["--scenario", "default-memory", "--scratch", &missing]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains(&format!("--scratch {missing}: there is no such directory")), "{log}");
    assert!(!Path::new(&missing).exists());
}

#[test]
fn a_destination_that_dies_at_its_start_is_told_by_its_end_and_its_log() {
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: u64 = free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    // More than the host has.
    let ram = format!("{}M", 2 * free + 64);
    let directory = tempfile::tempdir().expect("a directory");
    let file = scenario(&directory, "", "{ receiver = \"landfall\", memory = \"hugepages\" }");
    for _ in 0..5 {
        let output = compare(&["--scenario", &file, "--ram", &ram, "--pairs", "1"]);
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{log}");
        assert!(log.contains("landfall ended with exit status 3: "), "{log}");
        assert!(log.contains("hugepages: "), "{log}");
        assert!(log.contains("; --scenario default-memory needs none"), "{log}");
    }
}

#[test]
fn a_scenario_file_is_run_and_its_sizes_give_a_slope() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = scenario(&directory, "", "{ receiver = \"landfall\", memory = \"thp\" }");
    let sizes = ["--ram", "32M,48M,64M", "--pairs", "1", "--json", "-"];
    let output = compare(&[&["--scenario", &file][..], &sizes].concat());
    let (scenario, _) = result(&output);
    assert_eq!(scenario["contenders"].as_array().map(Vec::len), Some(3));
    // The two larger against the smallest.
    let pairs: Vec<_> = scenario["ratios"].as_array().expect("ratios").iter().collect();
    assert_eq!(pairs.iter().map(|pair| &pair["by"]).collect::<Vec<_>>(), [&0, &0]);
    assert_eq!(scenario["slopes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn tls_without_certificates_makes_them_and_tells_the_suite() {
    let directory = tempfile::tempdir().expect("a directory");
    let contender = "{ receiver = \"landfall\", memory = \"thp\" }";
    let file = scenario(&directory, "tls = true", contender);
    let output = compare(&["--scenario", &file, "--pairs", "1", "--json", "-"]);
    let (scenario, _) = result(&output);
    let suite = scenario["cipher-suites"]["landfall"].as_str();
    assert!(suite.is_some_and(|suite| suite.starts_with("TLS13_")), "{suite:?}");
    let heading = String::from_utf8_lossy(&output.stderr);
    assert!(heading.contains(suite.expect("there is one")), "{heading}");
}

#[test]
fn a_run_that_fails_ends_the_comparison_with_its_log() {
    let directory = tempfile::tempdir().expect("a directory");
    // The synthetic source is told of `compression` only: here it sends pages as they are.
    let head = "parameters = { multifd-compression = \"zlib\" }";
    let contender = "{ receiver = \"landfall\", memory = \"thp\" }";
    let output = compare(&["--scenario", &scenario(&directory, head, contender), "--pairs", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("failed: ") && log.contains(" logged"), "{log}");
}

#[test]
fn a_signal_ends_the_comparison_and_all_that_it_has_started() {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_landfall"))
        .args(["compare", "--scenario", "default-memory", "--ram", "32M", "--pairs", "1000"])
        .args(["--scratch".as_ref(), scratch.path().as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("landfall starts");
    let begin = Instant::now();
    while cpus_of_children(child.id()).is_empty() {
        assert!(begin.elapsed() < LONG, "nobody was started");
        thread::sleep(Duration::from_millis(5));
    }
    let id = Pid::from_raw(i32::try_from(child.id()).expect("a process"));
    kill(id, Signal::SIGTERM).expect("it is ours");
    while child.try_wait().expect("it is ours").is_none() {
        assert!(begin.elapsed() < LONG, "it goes on");
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("ended");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("stopped by a signal"), "{log}");
    // Its children had their sockets and logs here.
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    let own = scratch.path().display().to_string();
    let processes = fs::read_dir("/proc").expect("procfs").flatten();
    let words = processes.map(|one| fs::read(one.path().join("cmdline")).unwrap_or_default());
    let left: Vec<_> = words
        .map(|words| String::from_utf8_lossy(&words).into_owned())
        .filter(|w| w.contains(&own))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn numbers_that_no_comparison_has_are_refused() {
    for wrong in [["--pairs", "0"], ["--pairs", "1001"], ["--ram", "16M"]] {
        let output = compare(&[&["--scenario", "default-memory"][..], &wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("1000") || log.contains("at least 32"), "{log}");
    }
}

#[test]
fn a_scenario_that_is_wrong_is_refused_with_its_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = scenario(&directory, "chanels = 3", "");
    let output = compare(&["--scenario", &file]);
    assert_eq!(output.status.code(), Some(2));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("line 7") && log.contains("chanels"), "{log}");
}

#[test]
fn an_unknown_scenario_is_told_the_known_ones_and_they_are_files() {
    let output = compare(&["--scenario", "fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("main-only"));
    let listed = compare(&["--list", "-v"]);
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(text.contains("name = \"xbzrle\"") && text.contains("dirties-mib = "), "{text}");
}

fn schema() -> Held {
    Held::new(include_str!("../../docs/schema/compare.schema.json"))
}

#[test]
fn every_record_fits_the_schema_and_all_of_it_is_used() {
    let mut schema = schema();
    schema.is_strict("landfall.compare", 1);
    let records = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/records");
    let json_in = |directory: &Path| -> Vec<_> {
        let entries = fs::read_dir(directory).expect("a folder").flatten();
        entries.map(|entry| entry.path()).collect()
    };
    for path in json_in(Path::new(records)).iter().flat_map(|day| json_in(day)) {
        if path.extension().is_some_and(|end| end == "json") {
            let text = fs::read(&path).expect("a record");
            schema.hold(&serde_json::from_slice(&text).expect("JSON"), &path.display().to_string());
        }
    }
    let unused = schema.unseen(&[]);
    assert!(unused.is_empty(), "in the schema, but in no record: {unused:?}");
}

#[test]
fn the_schema_refuses_what_no_comparison_tells() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/records/2026-11-27/random.json");
    let good: Value = serde_json::from_slice(&fs::read(path).expect("a record")).expect("JSON");
    let changed = |place: &str, value: Value| {
        let mut whole = good.clone();
        *whole.pointer_mut(place).expect("it is there") = value;
        schema().fits(&whole)
    };
    let scenario = "/scenarios/0";
    assert!(changed(&format!("{scenario}/pairs"), json!(3)));
    assert!(!changed(&format!("{scenario}/pairs"), json!(0)));
    assert!(!changed(&format!("{scenario}/contenders/0/receiver"), json!("iperf3")));
    assert!(!changed(&format!("{scenario}/contenders/0/runs/0/wall-s"), json!(-1.0)));
    assert!(!changed(&format!("{scenario}/ratios/0/cpu/interval-95"), json!([1.0])));
    assert!(!changed("/schema/version", json!(2)));
}
