//! 2 MiB pages for the runs that want them, given back whatever happens.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The host's number of 2 MiB pages, raised. A child of its own session holds
/// the old number and writes it back when its standard input closes: when this
/// value is dropped, and also when the test is killed.
pub(crate) struct HugepageLoan {
    restorer: Child,
    line: Option<ChildStdin>,
}

impl HugepageLoan {
    /// Sees to `pages` free pages. `Ok(None)`: they were there already.
    pub(crate) fn take(pages: u64) -> Result<Option<Self>, String> {
        let free = read_number(FREE)?;
        if free >= pages {
            return Ok(None);
        }
        let before = read_number(TOTAL)?;
        let mut restorer = Command::new("sh")
            .args(["-c", &format!("echo ready; cat >/dev/null; echo {before} >{TOTAL}")])
            .process_group(0) // an interrupt from the terminal must not reach it
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        // From here on the child restores, so nothing is changed before it runs.
        let line = restorer.stdin.take();
        let mut ready = [0; 6];
        let mut output = restorer.stdout.take().expect("its output is piped");
        output.read_exact(&mut ready).map_err(|error| format!("sh: {error}"))?;
        let loan = Self { restorer, line };
        let wanted = before + pages - free;
        fs::write(TOTAL, wanted.to_string())
            .map_err(|error| format!("cannot reserve hugepages: {TOTAL}: {error}"))?;
        let free = read_number(FREE)?;
        if free < pages {
            return Err(format!(
                "{free} free 2 MiB pages after asking for {wanted}, {pages} needed"
            ));
        }
        Ok(Some(loan))
    }
}

impl Drop for HugepageLoan {
    fn drop(&mut self) {
        drop(self.line.take());
        // Fails only if somebody else has waited for it.
        let _ = self.restorer.wait();
    }
}

fn read_number(path: &str) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|error| format!("{path}: {error}"))
}

const TOTAL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
