//! Commands of the source (record type 08).

use std::fmt;

use super::{Reader, WireError, WireFault};

/// A command's number (`migration/savevm.c`, `enum qemu_vm_cmd`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CommandId(pub u16);

impl CommandId {
    /// The destination may write on the same socket from now on.
    pub const OPEN_RETURN_PATH: Self = Self(1);
    /// To be answered with a PONG.
    pub const PING: Self = Self(2);
    /// Postcopy may come.
    pub const POSTCOPY_ADVISE: Self = Self(3);
    /// Postcopy begins.
    pub const POSTCOPY_LISTEN: Self = Self(4);
    /// The guest may run.
    pub const POSTCOPY_RUN: Self = Self(5);
    /// Pages that will come again.
    pub const POSTCOPY_RAM_DISCARD: Self = Self(6);
    /// A stream within the stream.
    pub const PACKAGED: Self = Self(7);
    /// Continuous replication.
    pub const ENABLE_COLO: Self = Self(8);
    /// A paused postcopy goes on.
    pub const POSTCOPY_RESUME: Self = Self(9);
    /// To be answered with a block's received bitmap.
    pub const RECV_BITMAP: Self = Self(10);
    /// The guest is stopped on the source (10.0 and later).
    pub const SWITCHOVER_START: Self = Self(11);

    /// The name that QEMU gives it, without its prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OPEN_RETURN_PATH => "OPEN_RETURN_PATH",
            Self::PING => "PING",
            Self::POSTCOPY_ADVISE => "POSTCOPY_ADVISE",
            Self::POSTCOPY_LISTEN => "POSTCOPY_LISTEN",
            Self::POSTCOPY_RUN => "POSTCOPY_RUN",
            Self::POSTCOPY_RAM_DISCARD => "POSTCOPY_RAM_DISCARD",
            Self::PACKAGED => "PACKAGED",
            Self::ENABLE_COLO => "ENABLE_COLO",
            Self::POSTCOPY_RESUME => "POSTCOPY_RESUME",
            Self::RECV_BITMAP => "RECV_BITMAP",
            Self::SWITCHOVER_START => "SWITCHOVER_START",
            _ => "unknown command",
        }
    }

    /// The only length that its payload can have; `None` if it varies, or if
    /// the command is unknown.
    pub const fn payload_bytes(self) -> Option<u16> {
        match self {
            Self::PING | Self::PACKAGED => Some(4),
            Self::OPEN_RETURN_PATH
            | Self::POSTCOPY_LISTEN
            | Self::POSTCOPY_RUN
            | Self::ENABLE_COLO
            | Self::POSTCOPY_RESUME
            | Self::SWITCHOVER_START => Some(0),
            _ => None,
        }
    }

    /// True for the numbers that have a meaning in QEMU up to 11.1.
    pub const fn is_known(self) -> bool {
        matches!(self.0, 1..=11)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.0)
    }
}

/// What POSTCOPY_ADVISE says when RAM may be postcopied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostcopyAdvise {
    /// The page sizes of all RAM blocks, OR-ed.
    pub page_bytes_summary: u64,
    /// Size of the target's page.
    pub target_page_bytes: u64,
}

/// One command with its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// See [`CommandId::OPEN_RETURN_PATH`].
    OpenReturnPath,
    /// The value must come back in a PONG.
    Ping(u32),
    /// `None` (no payload) if only dirty bitmaps may be postcopied.
    PostcopyAdvise(Option<PostcopyAdvise>),
    /// See [`CommandId::POSTCOPY_LISTEN`].
    PostcopyListen,
    /// See [`CommandId::POSTCOPY_RUN`].
    PostcopyRun,
    /// The payload, unparsed: postcopy is not spoken here.
    PostcopyRamDiscard(&'a [u8]),
    /// How many bytes of a nested stream follow the command.
    Packaged(u32),
    /// See [`CommandId::ENABLE_COLO`].
    EnableColo,
    /// See [`CommandId::POSTCOPY_RESUME`].
    PostcopyResume,
    /// The block whose bitmap is wanted.
    RecvBitmap(&'a str),
    /// See [`CommandId::SWITCHOVER_START`].
    SwitchoverStart,
}

impl<'a> Command<'a> {
    /// Takes number, length and payload off `reader` (the type byte 08 is
    /// taken already). Number and length are judged before the payload is
    /// there.
    pub fn parse(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let at = reader.at();
        let id = CommandId(reader.be16("command")?);
        if !id.is_known() {
            let fault = WireFault::Unknown { found: id.0.into() };
            return Err(reader.fault_at("command", at, fault));
        }
        let at = reader.at();
        let length = reader.be16("command length")?;
        let wrong = |expected: u16| {
            let fault = WireFault::Mismatch { found: length.into(), expected: expected.into() };
            WireError { field: "command length", at, fault }
        };
        if let Some(expected) = id.payload_bytes()
            && length != expected
        {
            return Err(wrong(expected));
        }
        if id == CommandId::POSTCOPY_ADVISE && length != 0 && length != ADVISE_BYTES {
            return Err(wrong(ADVISE_BYTES));
        }
        let payload_at = reader.at();
        let payload = reader.bytes("command payload", usize::from(length))?;
        let mut inner = Reader::new(payload);
        let command = match id {
            CommandId::OPEN_RETURN_PATH => Self::OpenReturnPath,
            CommandId::PING => Self::Ping(inner.be32("ping value")?),
            CommandId::POSTCOPY_ADVISE if length == 0 => Self::PostcopyAdvise(None),
            CommandId::POSTCOPY_ADVISE => Self::PostcopyAdvise(Some(PostcopyAdvise {
                page_bytes_summary: inner.be64("page size summary")?,
                target_page_bytes: inner.be64("target page size")?,
            })),
            CommandId::POSTCOPY_LISTEN => Self::PostcopyListen,
            CommandId::POSTCOPY_RUN => Self::PostcopyRun,
            CommandId::POSTCOPY_RAM_DISCARD => Self::PostcopyRamDiscard(payload),
            CommandId::PACKAGED => Self::Packaged(inner.be32("package length")?),
            CommandId::ENABLE_COLO => Self::EnableColo,
            CommandId::POSTCOPY_RESUME => Self::PostcopyResume,
            CommandId::RECV_BITMAP => {
                // A cut name is no reason to wait: the length field bounds it.
                let needed = payload.first().map_or(1, |&name| u16::from(name).saturating_add(1));
                if length != needed {
                    return Err(wrong(needed));
                }
                let name = inner.cstr("block name").map_err(|error| {
                    let at = payload_at.saturating_add(error.at);
                    WireError { at, ..error }
                })?;
                Self::RecvBitmap(name)
            }
            _ => Self::SwitchoverStart,
        };
        Ok(command)
    }

    /// The command's number.
    pub const fn id(&self) -> CommandId {
        match self {
            Self::OpenReturnPath => CommandId::OPEN_RETURN_PATH,
            Self::Ping(_) => CommandId::PING,
            Self::PostcopyAdvise(_) => CommandId::POSTCOPY_ADVISE,
            Self::PostcopyListen => CommandId::POSTCOPY_LISTEN,
            Self::PostcopyRun => CommandId::POSTCOPY_RUN,
            Self::PostcopyRamDiscard(_) => CommandId::POSTCOPY_RAM_DISCARD,
            Self::Packaged(_) => CommandId::PACKAGED,
            Self::EnableColo => CommandId::ENABLE_COLO,
            Self::PostcopyResume => CommandId::POSTCOPY_RESUME,
            Self::RecvBitmap(_) => CommandId::RECV_BITMAP,
            Self::SwitchoverStart => CommandId::SWITCHOVER_START,
        }
    }
}

const ADVISE_BYTES: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Command<'_>, WireError> {
        Command::parse(&mut Reader::new(bytes))
    }

    #[test]
    fn the_observed_commands_parse() {
        assert_eq!(parse(&[0, 1, 0, 0]), Ok(Command::OpenReturnPath));
        assert_eq!(parse(&[0, 2, 0, 4, 0, 0, 0, 1]), Ok(Command::Ping(1)));
        assert_eq!(parse(&[0, 0x0b, 0, 0]), Ok(Command::SwitchoverStart));
        let mut advise = vec![0, 3, 0, 0x10];
        advise.extend(0x20_1000u64.to_be_bytes());
        advise.extend(0x1000u64.to_be_bytes());
        let expected = PostcopyAdvise { page_bytes_summary: 0x20_1000, target_page_bytes: 0x1000 };
        assert_eq!(parse(&advise), Ok(Command::PostcopyAdvise(Some(expected))));
        for cut in 0..advise.len() {
            assert!(parse(&advise[..cut]).unwrap_err().is_short(), "cut at {cut}");
        }
        assert_eq!(parse(&[0, 3, 0, 0]), Ok(Command::PostcopyAdvise(None)));
        assert_eq!(parse(&[0, 10, 0, 4, 3, b'm', b'e', b'm']), Ok(Command::RecvBitmap("mem")));
    }

    #[test]
    fn unknown_numbers_and_wrong_lengths_are_refused_before_the_payload_is_there() {
        for id in [0u16, 12, 0xffff] {
            let [high, low] = id.to_be_bytes();
            let error = parse(&[high, low]).unwrap_err();
            assert_eq!(error.fault, WireFault::Unknown { found: id.into() });
        }
        for (id, length) in [(1, 1), (2, 3), (2, 5), (3, 8), (4, 1), (7, 0), (11, 2)] {
            let error = parse(&[0, id, 0, length]).unwrap_err();
            assert!(matches!(error.fault, WireFault::Mismatch { .. }), "{id} {length}: {error}");
        }
    }

    #[test]
    fn a_block_name_that_leaves_its_command_is_refused() {
        assert!(!parse(&[0, 10, 0, 2, 3, b'm', b'e', b'm']).unwrap_err().is_short());
        assert!(!parse(&[0, 10, 0, 5, 3, b'm', b'e', b'm', 0]).unwrap_err().is_short());
        let error = parse(&[0, 10, 0, 3, 4, b'm', b'e']).unwrap_err();
        assert_eq!(error.to_string(), "command length is 0x3, must be 0x5");
        let error = parse(&[0, 10, 0, 2, 1, 0xff]).unwrap_err();
        assert_eq!((error.field, error.at), ("block name", 5));
    }
}
