//! The table of `docs/compatibility.md`, and that of bad input in `docs/testing.md`, are
//! true: every row names a test that is there.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_row_of_the_compatibility_table_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/compatibility.md")).expect("the table");
    let complaints = complaints(&text, |path| fs::read_to_string(root.join(path)).ok());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_row_about_bad_input_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/testing.md")).expect("the document");
    let section = text.split("\n## ").find(|section| section.starts_with("Bad input\n"));
    let rows = section.expect("the section").lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    for row in rows.skip(1) {
        let tests: Vec<&str> = row.split('`').filter(|name| name.contains(".rs::")).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let read = |path: PathBuf| fs::read_to_string(root.join(path)).ok();
            assert_eq!(missing(test, &read), None);
            count += 1;
        }
    }
    assert!(count > 20, "{count} tests are few");
}

/// What is wrong with the table in `text`; `read` gives a source file.
fn complaints(text: &str, read: impl Fn(PathBuf) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut rows = 0;
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [form, _, _, _, _, how, shown_by] = cells[..] else {
            if !line.starts_with("|---") {
                complaints.push(format!("no row of seven cells: {line}"));
            }
            continue;
        };
        if form == "form" {
            continue;
        }
        rows += 1;
        let tests: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            complaints.push(format!("{form}: no test"));
        }
        if !HOW.contains(&how) {
            complaints.push(format!("{form}: tested by '{how}', not one of {HOW:?}"));
        }
        if how == HOW[0] && !tests.iter().all(|test| test.starts_with("tests/real_qemu/")) {
            complaints.push(format!("{form}: a real peer is in tests/real_qemu"));
        }
        for test in tests {
            complaints.extend(missing(test, &read).map(|why| format!("{form}: {why}")));
        }
    }
    if rows == 0 {
        complaints.push("there is no row".to_owned());
    }
    complaints
}

/// Why `PATH::NAME` is no test: NAME is a test function there, or in `case.rs` a
/// value of a dimension; `*` is any test of the file.
fn missing(test: &str, read: &impl Fn(PathBuf) -> Option<String>) -> Option<String> {
    let Some((path, name)) = test.split_once("::") else {
        return Some(format!("{test} is no PATH::NAME"));
    };
    let Some(source) = read(PathBuf::from(path)) else {
        return Some(format!("{path} is not there"));
    };
    let is_there = match name {
        "*" => source.contains("#[test]"),
        _ if path.ends_with("/case.rs") => source.contains(&format!("\n    {name},\n")),
        _ => {
            source.contains(&format!("#[test]\nfn {name}()"))
                || source.contains(&format!("#[test]\n    fn {name}()"))
        }
    };
    (!is_there).then(|| format!("{test} is no test"))
}

/// The ways in which a row can be known to be true.
const HOW: [&str; 3] = ["real peer", "independent encoder", "from source, unverified"];

#[test]
fn a_row_that_promises_too_much_is_found() {
    let row = |how: &str, test: &str| format!("| x | ✓ | ✓ | ✓ | ✓ | {how} | `{test}` |\n");
    let read = |path: PathBuf| {
        (path == Path::new("tests/real_qemu/a.rs")).then(|| "#[test]\nfn b() {}".to_owned())
    };
    assert_eq!(complaints(&row("real peer", "tests/real_qemu/a.rs::b"), read).len(), 0);
    assert_eq!(complaints(&row("real peer", "tests/real_qemu/a.rs::c"), read).len(), 1);
    assert_eq!(complaints(&row("real peer", "bench/a.rs::b"), read).len(), 2);
    assert_eq!(complaints(&row("hearsay", "tests/real_qemu/a.rs::b"), read).len(), 1);
    assert_eq!(complaints("| x | y |\n", read).len(), 2);
    assert_eq!(complaints("", read).len(), 1);
}
