//! The table from which the library refuses bad requests before a handler sees them.

/// One command a handler offers, as QAPI's schema would describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    /// Its name on the wire.
    pub name: &'static str,
    /// May it run out of band, through `exec-oob`? QAPI's `allow-oob`.
    pub oob: bool,
    /// Its arguments. They are checked in this order, so it decides which of two mistakes is named.
    pub arguments: &'static [ArgumentInfo],
    /// Does it take members that `arguments` does not name? QAPI's `gen: false`, as of `object-add`.
    pub open: bool,
}

impl CommandInfo {
    /// A command that runs in band and takes these arguments and no others.
    pub const fn new(name: &'static str, arguments: &'static [ArgumentInfo]) -> Self {
        Self { name, oob: false, arguments, open: false }
    }

    /// The same command, allowed out of band.
    ///
    /// Such a command runs on the thread that reads the monitor, so it must not block.
    #[must_use]
    pub const fn allow_oob(mut self) -> Self {
        self.oob = true;
        self
    }

    /// The same command, taking any further arguments unchecked.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.open = true;
        self
    }
}

/// One argument of a command, or one member of an object inside an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentInfo {
    /// Its name on the wire.
    pub name: &'static str,
    /// Is its absence an error?
    pub required: bool,
    /// What it may be.
    pub kind: ArgumentKind,
}

impl ArgumentInfo {
    /// An argument that must be there.
    pub const fn required(name: &'static str, kind: ArgumentKind) -> Self {
        Self { name, required: true, kind }
    }

    /// An argument that may be left out.
    pub const fn optional(name: &'static str, kind: ArgumentKind) -> Self {
        Self { name, required: false, kind }
    }
}

/// What an argument may be; each kind refuses with the text of QEMU's input visitor
/// (`qapi/qobject-input-visitor.c`, `qapi/qapi-visit-core.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    /// Anything at all; the handler checks.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A string.
    String,
    /// A string or `null`; QAPI `StrOrNull`.
    StrOrNull,
    /// One of these strings; a QAPI enum.
    Enum(&'static [&'static str]),
    /// An integer of 64 bits with sign; QAPI `int`.
    Int,
    /// An integer from 0 to 255; QAPI `uint8`.
    Uint8,
    /// An integer from 0 to 65535; QAPI `uint16`.
    Uint16,
    /// An integer from 0 to 4294967295; QAPI `uint32`.
    Uint32,
    /// An integer of 64 bits; QAPI `uint64`, `size`. Like QEMU it lets negative numbers through,
    /// which QEMU then takes modulo 2^64.
    Uint64,
    /// Any number; QAPI `number`.
    Number,
    /// An array whose elements are all of one kind.
    Array(&'static ArgumentKind),
    /// An object with these members and no others.
    Object(&'static [ArgumentInfo]),
    /// An object whose members the handler checks.
    OpenObject,
}
