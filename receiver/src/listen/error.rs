//! Why nothing could be opened.

use nix::errno::Errno;

/// An address that could not be listened on. The texts begin as QEMU's do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// The address says something that cannot be: a usage error.
    #[error("{0}")]
    Address(String),
    /// The host or the port has no number.
    #[error("address resolution failed for {host}:{port}: {reason}")]
    Resolve {
        /// As given.
        host: String,
        /// As given.
        port: String,
        /// The resolver's words.
        reason: String,
    },
    /// Every port of the range is taken.
    #[error("Failed to find an available port: Address already in use ({address})")]
    PortsTaken {
        /// What was tried.
        address: String,
    },
    /// No descriptor of this name was handed over.
    #[error("File descriptor named '{0}' has not been found")]
    NoDescriptor(String),
    /// The host refused a call.
    #[error("{what}: {}{}", errno.desc(), hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Environment {
        /// What failed, with the address.
        what: String,
        /// The kernel's reason.
        errno: Errno,
        /// What may help.
        hint: Option<&'static str>,
    },
}

impl ListenError {
    /// Whether this host is at fault and not the address: exit code 3, not 1.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        matches!(self, Self::Environment { .. })
    }

    /// Whether the host is out of descriptors or memory (accept(2)): that may
    /// pass.
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        let full = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        matches!(self, Self::Environment { errno, .. } if full.contains(errno))
    }

    pub(super) fn environment(what: impl Into<String>, errno: Errno) -> Self {
        Self::Environment { what: what.into(), errno, hint: None }
    }
}
