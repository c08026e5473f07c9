//! A loopback of a known rate, in a network namespace of its own.

use std::path::Path;
use std::process::{Command, Stdio};

/// A namespace whose loopback passes so many bits per second; gone when dropped.
pub(crate) struct Link(String);

impl Link {
    /// Takes root, `ip` and `tc`.
    pub(crate) fn of(bits_per_second: u64) -> Result<Self, String> {
        let name = format!("landfall-plan-{}", std::process::id());
        let run = |program: &str, arguments: &str| {
            let words = arguments.split_whitespace();
            let output = Command::new(program)
                .args(words)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("{program}: {error}"))?;
            if output.status.success() {
                Ok(())
            } else {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(format!("{program} {arguments}: {text}"))
            }
        };
        run("ip", &format!("netns add {name}"))?;
        let link = Self(name.clone());
        run("ip", &format!("-n {name} link set lo up"))?;
        let shape = format!("tbf rate {bits_per_second}bit burst 256kb latency 20ms");
        run("tc", &format!("-n {name} qdisc add dev lo root {shape}"))?;
        Ok(link)
    }

    /// A command line that runs in there.
    pub(crate) fn enter(
        &self,
        program: &Path,
        arguments: Vec<String>,
    ) -> (&'static str, Vec<String>) {
        let fixed = ["netns".to_owned(), "exec".to_owned(), self.0.clone()];
        let program = program.display().to_string();
        ("ip", fixed.into_iter().chain([program]).chain(arguments).collect())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
