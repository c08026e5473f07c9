//! A panic on a thread of a run: our own bug, which ends the run and nothing else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::error::{Family, RunError};

/// Does `work`, the whole of what the calling thread has to do for its run. The panic hook
/// has printed a panic, and where it was, before it comes here.
///
/// # Errors
/// Those of `work`. Internal: it panicked. Nothing that it changed may be believed then: the
/// run must fail with this.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    // Unwind-safe, since whatever `work` had half done goes with the run.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let said = message(panic.as_ref());
        let text = format!("internal error, a bug in landfall: thread {name} panicked: {said}");
        Err(RunError::new(Family::Internal, text))
    })
}

/// What `panic!` was told, which is one of these unless something else was thrown on purpose.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_thread_and_text() {
        let here = thread::current().name().expect("the harness names it").to_owned();
        for (work, said) in [
            ((|| panic!("plain")) as fn() -> Result<(), RunError>, "plain"),
            (|| panic!("number {}", std::hint::black_box(7)), "number 7"),
            (|| std::panic::panic_any(7), "(no text)"),
        ] {
            let error = caught(work).unwrap_err();
            assert_eq!(error.family, Family::Internal);
            let text = format!("internal error, a bug in landfall: thread {here} panicked: {said}");
            assert_eq!(error.text, text);
        }
    }

    #[test]
    fn what_is_no_panic_goes_through() {
        assert_eq!(caught(|| Ok(3)), Ok(3));
        assert_eq!(caught(|| Err::<(), _>(RunError::stopped())), Err(RunError::stopped()));
    }
}
