//! Page faults, as the kernel counts them.

use nix::sys::resource::{UsageWho, getrusage};

/// Page faults of a thread or process since it began (`getrusage(2)`: `ru_minflt`, `ru_majflt`).
/// Faults that a system call takes on the caller's behalf (prefaulting, receiving into a page never
/// touched) count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageFaults {
    /// Faults served without I/O.
    pub minor: u64,
    /// Faults that waited for I/O.
    pub major: u64,
}

impl PageFaults {
    /// The whole process, all threads that ever ran.
    pub fn of_process() -> Self {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    /// The calling thread.
    pub fn of_thread() -> Self {
        Self::of(UsageWho::RUSAGE_THREAD)
    }

    /// What came on top since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            minor: self.minor.saturating_sub(earlier.minor),
            major: self.major.saturating_sub(earlier.major),
        }
    }

    fn of(who: UsageWho) -> Self {
        // getrusage fails only for an unknown `who` or a bad pointer; both would be our bug.
        let usage = getrusage(who).expect("getrusage knows its own constants");
        Self {
            minor: u64::try_from(usage.minor_page_faults()).unwrap_or(0),
            major: u64::try_from(usage.major_page_faults()).unwrap_or(0),
        }
    }
}
