//! Signals: SIGINT, SIGTERM and SIGHUP end a run as an operator does, SIGXFSZ ends nothing.

use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::Failure;

/// Calls `stop` on a thread of its own at the first signal; at the second the
/// process dies of it.
pub(crate) fn on_signal(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Failure::host(error.to_string()))?;
    thread::spawn(move || {
        let mut first = Some(stop);
        for signal in signals.forever() {
            match first.take() {
                Some(stop) => {
                    // The wait for the end must not keep a second signal out.
                    thread::spawn(stop);
                }
                None => {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        }
    });
    Ok(())
}

/// A file that would grow beyond `ulimit -f` is an error of who writes it, as on a full disk, not
/// the end of the process.
pub(crate) fn outlive_file_limits() -> Result<(), Failure> {
    // Whatever handles the signal keeps it from killing, and the write fails with EFBIG. Not so
    // SIG_IGN: programs that are started would inherit it.
    signal_hook::flag::register(SIGXFSZ, Arc::default())
        .map(drop)
        .map_err(|error| Failure::host(error.to_string()))
}
