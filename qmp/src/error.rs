//! What a command can fail with, in QMP's words.

/// The class of a QMP error, for programs; QAPI `QapiErrorClass` (`qapi/error.json`).
///
/// QEMU says `GenericError` unless a client must be able to tell the case apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Any failure that needs no class of its own.
    GenericError,
    /// The command does not exist, or not in the present mode of the session.
    CommandNotFound,
    /// A device is there but not active.
    DeviceNotActive,
    /// The device named does not exist.
    DeviceNotFound,
    /// The host's KVM lacks a capability.
    KVMMissingCap,
}

impl ErrorClass {
    /// The spelling on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::KVMMissingCap => "KVMMissingCap",
        }
    }
}

/// An error reply: a class for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{desc}")]
pub struct QmpError {
    /// What programs may look at.
    pub class: ErrorClass,
    /// What people read. Some harnesses compare it literally.
    pub desc: String,
}

impl QmpError {
    /// A `GenericError` with this description.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self { class: ErrorClass::GenericError, desc: desc.into() }
    }

    /// A `CommandNotFound` with this description.
    pub fn command_not_found(desc: impl Into<String>) -> Self {
        Self { class: ErrorClass::CommandNotFound, desc: desc.into() }
    }
}
