//! 2 MiB pages for the runs that want them, given back whatever happens.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// The host's number of 2 MiB pages, raised. A child in a process group of its
/// own does it, and takes off again what it has added when its standard input
/// closes: when this value is dropped, and also when the test is killed.
///
/// One loan at a time on a host: the next waits for a lock.
pub(crate) struct HugepageLoan {
    lender: Child,
    line: Option<ChildStdin>,
    /// Dropped last: the next loan begins when the pages are back.
    _lock: Flock<File>,
}

impl HugepageLoan {
    /// Raises the number by `pages`; or finds as many free where it must not be
    /// raised.
    pub(crate) fn take(pages: u64) -> Result<Self, String> {
        let lock = lock()?;
        let mut lender = Command::new("sh")
            .args(["-c", SCRIPT, "lender", TOTAL, &pages.to_string()])
            .process_group(0) // an interrupt from the terminal must not reach it
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let line = lender.stdin.take();
        let output = lender.stdout.take().expect("its output is piped");
        let loan = Self { lender, line, _lock: lock };
        let mut done = String::new();
        BufReader::new(output).read_line(&mut done).map_err(|error| format!("sh: {error}"))?;
        let free = fs::read_to_string(FREE).map_err(|error| format!("{FREE}: {error}"))?;
        let free: u64 = free.trim().parse().map_err(|error| format!("{FREE}: {error}"))?;
        if free < pages {
            return Err(format!("{free} free 2 MiB pages, {pages} needed; run: echo N > {TOTAL}"));
        }
        Ok(loan)
    }
}

impl Drop for HugepageLoan {
    fn drop(&mut self) {
        drop(self.line.take());
        // Fails only if somebody else has waited for it.
        let _ = self.lender.wait();
    }
}

fn lock() -> Result<Flock<File>, String> {
    let path = env::temp_dir().join("landfall-hugepages.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| format!("{}: {error}", path.display()))
}

/// $1 is the file of the number, $2 how many to add. A host that is short of
/// memory adds fewer, one that forbids it none; only those are taken off.
const SCRIPT: &str = r#"
    before=$(cat "$1")
    echo $((before + $2)) >"$1"
    added=$(($(cat "$1") - before))
    echo "$added"
    cat >/dev/null
    [ "$added" -eq 0 ] || echo $(($(cat "$1") - added)) >"$1"
"#;
const TOTAL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
