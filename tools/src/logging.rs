//! The log on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Warnings, and more with each `-v`; `RUST_LOG` overrides.
pub(crate) fn start(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // They would be told on the same standard error, or end the thread that logs.
        .log_internal_errors(false)
        .init();
}
