//! What a machine can check of the rules for sources and documents.
//!
//! Every check is a function from a tree of texts to complaints, so that the
//! last test here can show each of them a bad tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

#[test]
fn unsafe_stands_where_the_register_says_and_nowhere_else() {
    holds(unsafe_outside_the_register);
}

#[test]
fn every_exception_to_the_unsafe_lint_names_an_entry_of_the_register() {
    holds(reasons_without_an_entry);
}

#[test]
fn sources_hold_no_leftovers() {
    holds(leftovers);
}

#[test]
fn the_architecture_names_every_source_file_and_no_other() {
    holds(files_missing_in_the_architecture);
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    holds(orphans);
}

#[test]
fn the_readme_has_at_most_120_lines() {
    holds(long_readme);
}

#[test]
fn documents_stand_alone() {
    holds(words_about_our_own_workplace);
}

#[test]
fn links_in_documents_lead_somewhere() {
    holds(broken_links);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    holds(empty_names);
}

#[test]
fn everything_that_a_test_may_skip_is_in_the_testing_document() {
    holds(unlisted_skips);
}

#[test]
fn the_test_command_runs_every_test_file() {
    holds(tests_that_nobody_runs);
}

/// A rule: complaints about a tree, none if it is kept.
type Check = fn(&Tree) -> Vec<String>;

fn holds(check: Check) {
    let complaints = check(&Tree::of_the_workspace());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Paths from the root of the workspace, and texts; in order of path.
struct Tree(Vec<(String, String)>);

impl Tree {
    fn of_the_workspace() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = Vec::new();
        collect(&root, Path::new(""), &mut files);
        files.sort();
        assert!(files.len() > 100, "{} is no workspace", root.display());
        Self(files)
    }

    fn text(&self, path: &str) -> &str {
        self.0.iter().find(|(found, _)| found == path).map_or("", |(_, text)| text)
    }

    fn has(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.0.iter().any(|(found, _)| found == path || found.starts_with(&inside))
    }

    fn ending_in(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(move |(path, _)| path.ends_with(suffix))
    }
}

fn collect(root: &Path, below: &Path, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(root.join(below)).expect("a folder of the workspace");
    for entry in entries {
        let entry = entry.expect("an entry of it");
        let name = entry.file_name();
        let path = below.join(&name);
        let kind = entry.file_type().expect("its kind");
        let made = ["target", ".git", "corpus", "artifacts"].iter().any(|made| name == *made);
        if kind.is_dir() && !made {
            collect(root, &path, files);
        } else if kind.is_file() && !made {
            // What is no text has nothing to check but its name.
            let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
            files.push((path.to_string_lossy().into_owned(), text));
        }
    }
}

fn unsafe_outside_the_register(tree: &Tree) -> Vec<String> {
    let lines = tree.text("docs/unsafe.md").lines();
    let whole = lines.filter_map(|line| line.strip_prefix('`')?.strip_suffix('`'));
    let named: BTreeSet<&str> = whole.filter(|name| name.ends_with(".rs")).collect();
    let mut complaints = Vec::new();
    for (path, text) in tree.ending_in(".rs") {
        let code = without_strings_and_comments(text);
        let used = words(&code).any(|word| word == "unsafe");
        if used && !named.contains(path) {
            complaints.push(format!("{path}: is not in docs/unsafe.md"));
        } else if !used && named.contains(path) {
            complaints.push(format!("{path}: is in docs/unsafe.md for nothing"));
        }
    }
    let gone = named.iter().filter(|name| !tree.has(name));
    complaints.extend(gone.map(|name| format!("docs/unsafe.md: there is no {name}")));
    complaints
}

fn reasons_without_an_entry(tree: &Tree) -> Vec<String> {
    let entries = anchors(tree.text("docs/unsafe.md"));
    let mut used = BTreeSet::new();
    let mut complaints = Vec::new();
    for (path, text) in tree.ending_in(".rs").filter(|(path, _)| *path != THIS_FILE) {
        for (at, _) in text.match_indices(LINT_LIFTED) {
            let reason = text[at..].split_once(']').map_or("", |(reason, _)| reason);
            let anchor = reason.split_once("docs/unsafe.md#").map_or("", |(_, rest)| rest);
            let anchor = anchor.split_once('"').map_or("", |(anchor, _)| anchor);
            if entries.contains(anchor) {
                used.insert(anchor.to_owned());
            } else {
                complaints.push(format!("{path}: no entry docs/unsafe.md#{anchor}"));
            }
        }
    }
    let is_entry = |name: &&str| !name.contains(' ');
    let names = tree.text("docs/unsafe.md").lines().filter_map(|line| line.strip_prefix("## "));
    let unused = names.filter(is_entry).filter(|name| !used.contains(*name));
    complaints.extend(unused.map(|name| format!("docs/unsafe.md: nothing names #{name}")));
    complaints
}

fn leftovers(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let sources = tree.0.iter().filter(|(path, _)| !path.ends_with(".md") && path != THIS_FILE);
    for (path, text) in sources {
        for word in ["FIXME", "TODO", "dbg!(", "todo!(", "unimplemented!("] {
            if path != "Cargo.lock" && text.contains(word) {
                complaints.push(format!("{path}: {word}"));
            }
        }
    }
    complaints
}

fn files_missing_in_the_architecture(tree: &Tree) -> Vec<String> {
    let mut named = BTreeSet::new();
    let mut folder = "";
    for line in tree.text("docs/architecture.md").lines() {
        if let Some(name) = line.strip_prefix('`').and_then(|rest| rest.strip_suffix("/`")) {
            folder = name;
        } else if let Some((name, purpose)) =
            line.strip_prefix("- `").and_then(|rest| rest.split_once("` – "))
            && !purpose.is_empty()
        {
            named.insert(format!("{folder}/{name}"));
        }
    }
    let there: BTreeSet<String> = tree.ending_in(".rs").map(|(path, _)| path.to_owned()).collect();
    let missing = there.difference(&named).map(|path| format!("{path}: is not in the tree"));
    let gone = named.iter().filter(|path| !tree.has(path));
    missing.chain(gone.map(|path| format!("{path}: is in the tree and nowhere else"))).collect()
}

fn orphans(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, _) in tree.ending_in(".rs").filter(|(path, _)| !is_root(path)) {
        let path = Path::new(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (module, home) = match &*stem {
            "mod" => (folder.file_name().unwrap_or_default().to_string_lossy(), folder.parent()),
            _ => (stem.clone(), Some(folder)),
        };
        let declared = format!("mod {module};");
        let by_path = format!("{}.rs\"]", stem);
        let homes = [home, home.and_then(Path::parent)];
        // Shared ones are named with their folder.
        let below = folder.file_name().unwrap_or_default().to_string_lossy();
        let from_afar = format!("/{below}/{by_path}");
        let found = tree.ending_in(".rs").any(|(other, text)| {
            let is_home = homes.contains(&Path::new(other).parent());
            let is_declared = text.contains(&declared) || text.contains(&by_path);
            is_home && is_declared || text.contains(&from_afar)
        });
        if !found {
            complaints.push(format!("{}: no module declares it", path.display()));
        }
    }
    complaints
}

fn long_readme(tree: &Tree) -> Vec<String> {
    match tree.text("README.md").lines().count() {
        1..=README_LINES_MAX => Vec::new(),
        lines => vec![format!("README.md: {lines} lines, 1 to {README_LINES_MAX} allowed")],
    }
}

fn words_about_our_own_workplace(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.0.iter().filter(|(path, _)| path != THIS_FILE) {
        for word in ["../shared", "/work/shared", "/work/main", "/tmp/notes"] {
            if text.contains(word) {
                complaints.push(format!("{path}: {word}"));
            }
        }
    }
    complaints
}

fn broken_links(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.ending_in(".md") {
        for target in links(text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(path).parent().unwrap_or(Path::new(""));
            let file = if file.is_empty() { path.to_owned() } else { joined(folder, file) };
            let leads = tree.has(&file)
                && (anchor.is_empty() || anchors(tree.text(&file)).contains(anchor));
            if !leads {
                complaints.push(format!("{path}: the link {target} leads nowhere"));
            }
        }
    }
    complaints
}

fn empty_names(tree: &Tree) -> Vec<String> {
    let says_nothing = |path: &&str| {
        let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
        ["util", "utils", "common", "helper", "helpers", "manager", "misc"].contains(&&*stem)
    };
    let names = tree.0.iter().map(|(path, _)| path.as_str()).filter(says_nothing);
    names.map(|path| format!("{path}: the name says nothing")).collect()
}

fn unlisted_skips(tree: &Tree) -> Vec<String> {
    let listed: Vec<&str> = quoted(tree.text("docs/testing.md")).collect();
    let skips = tree.ending_in(".rs").filter(|(path, text)| {
        *path != THIS_FILE && (text.contains("\"SKIPPED: ") || text.contains("requirement::skip;"))
    });
    let unlisted = skips.filter(|(path, _)| !listed.contains(path));
    unlisted.map(|(path, _)| format!("{path}: its skip is not in docs/testing.md")).collect()
}

fn tests_that_nobody_runs(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let command = tree.text("tests/run");
    for part in ["cargo test --workspace --all-targets", "cargo test --workspace --doc"] {
        if !command.contains(part) {
            complaints.push(format!("tests/run: no longer has {part}"));
        }
    }
    for (path, text) in tree.ending_in("Cargo.toml") {
        for switch in ["autotests = false", "autobenches = false", "test = false"] {
            if text.contains(switch) {
                complaints.push(format!("{path}: {switch}"));
            }
        }
    }
    // Those outside of the packages have to be named by one.
    let outside = tree.ending_in(".rs").filter(|(path, _)| path.starts_with("tests/"));
    for (path, _) in outside.filter(|(path, _)| is_root(path)) {
        let line = format!("path = \"../{path}\"");
        if !tree.ending_in("Cargo.toml").any(|(_, text)| text.contains(&line)) {
            complaints.push(format!("{path}: no Cargo.toml names it"));
        }
    }
    complaints
}

/// Whether cargo compiles the file by itself, not as a module of another.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        [.., "src", "lib.rs" | "main.rs"] | [.., "tests" | "benches", _, "main.rs"] => true,
        [.., "examples", _] | ["fuzz", "targets", _] => true,
        [.., "tests" | "benches", _] => !parts.contains(&"src"),
        _ => false,
    }
}

/// What stands between backticks, line by line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

/// The anchors of a document's headings, as they are shown on the web.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let kept = |letter: &char| letter.is_alphanumeric() || "-_ ".contains(*letter);
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|line| line.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// Targets of links to files, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        for piece in line.split('`').step_by(2).filter(|_| !in_code) {
            let targets = piece.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(targets.filter(|target| !target.contains("://")));
        }
    }
    found
}

fn joined(folder: &Path, link: &str) -> String {
    let mut path = PathBuf::new();
    for part in folder.join(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path.to_string_lossy().into_owned()
}

/// The code alone: comments and the insides of strings become blanks.
fn without_strings_and_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            let hashes = rest[1..].chars().take_while(|letter| *letter == '#').count();
            let opening = 1 + hashes;
            let end = format!("\"{}", "#".repeat(hashes));
            match rest[opening..].strip_prefix('"').map(|inside| inside.find(&end)) {
                Some(Some(at)) => opening + 1 + at + end.len(),
                _ => 0,
            }
        } else if rest.starts_with('"') {
            end_of_string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find("'").map_or(0, |at| at + 2)
        } else {
            0
        };
        if skipped == 0 {
            code.push(letter);
            rest = &rest[letter.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// Bytes of the string at the front, both quotes included.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

const README_LINES_MAX: usize = 120;
/// This file names what it forbids.
const THIS_FILE: &str = "tests/tidy.rs";
const LINT_LIFTED: &str = "unsafe_code,";

/// The canary: a check that finds nothing here would find nothing anywhere.
#[test]
fn every_check_finds_the_fault_it_is_for() {
    let register = ("docs/unsafe.md", "# Register\n## span\n`a/src/span.rs`\n");
    let span = ("a/src/span.rs", "unsafe { *pointer }");
    let good_command =
        ("tests/run", "cargo test --workspace --all-targets\ncargo test --workspace --doc");
    let cases: [(Check, &[(&str, &str)]); 17] = [
        (unsafe_outside_the_register, &[register, span, ("a/src/new.rs", "unsafe fn f() {}")]),
        (unsafe_outside_the_register, &[register, ("a/src/span.rs", "// unsafe\n\"unsafe\"")]),
        (unsafe_outside_the_register, &[register]),
        (reasons_without_an_entry, &[register, ("a/src/lib.rs", LIFTED_FOR_NOBODY)]),
        (leftovers, &[("a/src/lib.rs", "let x = dbg!(1);")]),
        (leftovers, &[("tests/run", "# TODO: the rest")]),
        (files_missing_in_the_architecture, &[span]),
        (files_missing_in_the_architecture, &[("docs/architecture.md", "`a/`\n- `x.rs` – Gone.")]),
        (orphans, &[("a/src/lib.rs", "mod other;"), span]),
        (long_readme, &[("README.md", &"line\n".repeat(121))]),
        (words_about_our_own_workplace, &[("docs/README.md", "see ../shared/design.md")]),
        (broken_links, &[("docs/README.md", "[to](../gone.md)")]),
        (broken_links, &[("docs/README.md", "# Here\n[to](README.md#there)")]),
        (empty_names, &[("a/src/utils.rs", "")]),
        (unlisted_skips, &[("a/src/tests.rs", "println!(\"SKIPPED: no vsock\")")]),
        (tests_that_nobody_runs, &[good_command, ("tests/tidy.rs", "")]),
        (tests_that_nobody_runs, &[("tests/run", "cargo test -p one")]),
    ];
    for (index, (check, files)) in cases.into_iter().enumerate() {
        let file = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        let tree = Tree(files.iter().map(file).collect());
        assert!(!check(&tree).is_empty(), "case {index} is not found");
    }
}

#[test]
fn code_is_what_is_left_without_strings_and_comments() {
    let text = "a \"b \\\" // c\" d // e\nr#\"f \" g\"# h '\"' i \"j\" 'k r#type";
    let code = without_strings_and_comments(text);
    assert_eq!(words(&code).filter(|word| !word.is_empty()).collect::<String>(), "adhikrtype");
}

const LIFTED_FOR_NOBODY: &str =
    "#[allow(unsafe_code, reason = \"because: docs/unsafe.md#nobody\")]\nmod span;";
