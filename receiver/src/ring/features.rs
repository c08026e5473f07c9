//! What this kernel's io_uring offers: a probed list, not a version.

use std::fmt;

use io_uring::{IoUring, Probe, opcode};

use crate::error::{Family, RunError};

/// Set-up flags that a reader's ring uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// `IORING_SETUP_SINGLE_ISSUER` (6.0): one thread submits.
    pub single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN` (6.1): completions are worked on when we
    /// wait for them, not in the middle of placing.
    pub defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN` (5.19): no interrupt for completions; what
    /// is used where `defer_taskrun` is missing.
    pub coop_taskrun: bool,
    /// `IORING_RECVSEND_POLL_FIRST` (5.19): a receive may wait before it looks.
    pub poll_first: bool,
}

impl RingFeatures {
    /// Finds what this host has, less what the environment variable
    /// `LANDFALL_RING_MASK` hides: a list of names as [`RingFeatures`] prints
    /// them, separated by commas, or `all`.
    ///
    /// # Errors
    /// Environment: io_uring is missing or forbidden (with the sysctl or
    /// filter that does it), or lacks an operation that nothing can replace.
    pub fn probe() -> Result<Self, RunError> {
        Self::probe_masked(&std::env::var(MASK_VARIABLE).unwrap_or_default())
    }

    /// As [`RingFeatures::probe`], with the mask given.
    pub fn probe_masked(mask: &str) -> Result<Self, RunError> {
        let hidden = |name: &str| mask.split(',').any(|word| word == name || word == "all");
        if let Some(word) =
            mask.split(',').find(|word| !word.is_empty() && *word != "all" && !NAMES.contains(word))
        {
            let text = format!("{MASK_VARIABLE}: unknown feature '{word}', known: {NAMES:?}, all");
            return Err(RunError::new(Family::Environment, text));
        }
        let plain = IoUring::new(PROBE_ENTRIES).map_err(missing)?;
        let mut probe = Probe::new();
        plain.submitter().register_probe(&mut probe).map_err(missing)?;
        // A filter may forbid one call of the three alone.
        plain.submit().map_err(missing)?;
        for (code, name) in REQUIRED {
            if !probe.is_supported(code) {
                let text =
                    format!("this kernel's io_uring lacks {name}: Linux 5.15 or newer needed");
                return Err(RunError::new(Family::Environment, text));
            }
        }
        let mut features = Self::default();
        features.single_issuer = !hidden(NAMES[0]) && features.with(0).builds();
        features.defer_taskrun =
            !hidden(NAMES[1]) && features.single_issuer && features.with(1).builds();
        features.coop_taskrun = !hidden(NAMES[2]) && features.with(2).builds();
        // It came with the same release, and no probe names it.
        features.poll_first = !hidden(NAMES[3]) && Self::default().with(2).builds();
        Ok(features)
    }

    /// A ring of `entries` submissions with these features, for the calling
    /// thread.
    ///
    /// # Errors
    /// Environment, as [`RingFeatures::probe`].
    pub fn build(self, entries: u32) -> Result<IoUring, RunError> {
        self.try_build(entries).map_err(missing)
    }

    fn try_build(self, entries: u32) -> std::io::Result<IoUring> {
        let mut builder = IoUring::builder();
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun();
        } else if self.coop_taskrun {
            builder.setup_coop_taskrun();
        }
        builder.setup_submit_all().build(entries)
    }

    fn with(mut self, index: usize) -> Self {
        match index {
            0 => self.single_issuer = true,
            1 => self.defer_taskrun = true,
            _ => self.coop_taskrun = true,
        }
        self
    }

    fn builds(self) -> bool {
        self.try_build(PROBE_ENTRIES).is_ok()
    }

    /// The names of the features in use.
    pub fn names(self) -> Vec<&'static str> {
        [self.single_issuer, self.defer_taskrun, self.coop_taskrun, self.poll_first]
            .into_iter()
            .zip(NAMES)
            .filter_map(|(on, name)| on.then_some(name))
            .collect()
    }
}

impl fmt::Display for RingFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

fn missing(error: std::io::Error) -> RunError {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let text = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring (ENOSYS): Linux 5.15 or newer with \
                               CONFIG_IO_URING needed, and no seccomp filter that hides it"
            .to_owned(),
        Some(libc::EPERM) => match disabled.as_deref().map(str::trim) {
            Ok(level) if level != "0" => format!(
                "io_uring is forbidden: kernel.io_uring_disabled is {level}; run: sysctl -w \
                 kernel.io_uring_disabled=0"
            ),
            _ => "io_uring is forbidden (EPERM): a seccomp filter or security module of this \
                  container or service refuses it; allow io_uring_setup, io_uring_enter and \
                  io_uring_register"
                .to_owned(),
        },
        Some(libc::ENOMEM) => "no memory for an io_uring (ENOMEM): raise the limit of locked \
                               memory (ulimit -l)"
            .to_owned(),
        _ => format!("io_uring does not work here: {error}"),
    };
    RunError::new(Family::Environment, text)
}

const MASK_VARIABLE: &str = "LANDFALL_RING_MASK";
const NAMES: [&str; 4] = ["single_issuer", "defer_taskrun", "coop_taskrun", "poll_first"];
const PROBE_ENTRIES: u32 = 4;

/// What a reader cannot do without.
const REQUIRED: [(u8, &str); 4] = [
    (opcode::Recv::CODE, "IORING_OP_RECV"),
    (opcode::RecvMsg::CODE, "IORING_OP_RECVMSG"),
    (opcode::Read::CODE, "IORING_OP_READ"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_hides_what_it_names_and_refuses_what_it_does_not_know() {
        let all = RingFeatures::probe_masked("all").unwrap();
        assert_eq!(all.names(), Vec::<&str>::new());
        let some = RingFeatures::probe_masked("defer_taskrun").unwrap();
        assert!(!some.defer_taskrun);
        let error = RingFeatures::probe_masked("turbo").unwrap_err();
        assert!(error.text.contains("'turbo'"), "{error}");
    }
}
