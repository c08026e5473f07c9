//! Signals: SIGINT, SIGTERM and SIGHUP end a run as an operator does, SIGXFSZ ends nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::Failure;

/// Calls `stop` on a thread of its own at the first signal; at the second the
/// process dies of it.
pub(crate) fn on_signal(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    Starting::new(())?.on_signal(stop);
    Ok(())
}

/// Signals while a command starts, when there is nothing yet that could be stopped: the first ends
/// the process, without what must not be left behind.
pub(crate) struct Starting<T>(Arc<Mutex<Meaning<T>>>);

/// What the next signal does.
struct Meaning<T> {
    /// Dropped before the process dies of a signal.
    opened: Option<T>,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl<T: Send + 'static> Starting<T> {
    /// From now on a signal drops `opened`, then the process dies of it.
    pub(crate) fn new(opened: T) -> Result<Self, Failure> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::host(error.to_string()))?;
        let meaning = Arc::new(Mutex::new(Meaning { opened: Some(opened), stop: None }));
        let shared = Arc::clone(&meaning);
        thread::spawn(move || {
            let mut stopped: Option<Instant> = None;
            for signal in signals.forever() {
                if stopped.is_some_and(|first| first.elapsed() < ECHO_MAX) {
                    continue;
                }
                let mut meaning = lock(&shared);
                if let Some(stop) = meaning.stop.take() {
                    stopped = Some(Instant::now());
                    // The wait for the end must not keep a second signal out.
                    thread::spawn(stop);
                    continue;
                }
                // Locked until the end: the start does not go on without what is dropped here.
                drop(meaning.opened.take());
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
        Ok(Self(meaning))
    }

    /// Ends the start, and gives back what was opened: from now on the first signal calls `stop` on
    /// a thread of its own, and at the second the process dies of it.
    pub(crate) fn on_signal(self, stop: impl FnOnce() + Send + 'static) -> T {
        let mut meaning = lock(&self.0);
        meaning.stop = Some(Box::new(stop));
        meaning.opened.take().expect("who else takes it ends the process")
    }
}

impl<T> Drop for Starting<T> {
    fn drop(&mut self) {
        // A start that failed leaves nothing behind either; the thread would keep it.
        drop(lock(&self.0).opened.take());
    }
}

fn lock<T>(meaning: &Mutex<Meaning<T>>) -> MutexGuard<'_, Meaning<T>> {
    meaning.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A signal so soon behind the first is the same wish: timeout(1) signals its child and then the
/// process group that the child is in, and no person presses ^C twice as fast.
const ECHO_MAX: Duration = Duration::from_millis(200);
