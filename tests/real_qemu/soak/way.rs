//! What the stream of a synthetic source goes through.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use landfall_bench::send::Target;

use super::receiver::{Receiver, Settings};
use crate::case::Transport;
use crate::handed_over::inherited;

/// From the source to the receiver. Only where this listens there is a way for channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Listening(Transport),
    /// Two sockets or both ends of a pipe, one handed over to either side.
    Socket,
    Pipe,
    /// A file from this byte on, read when the source has come to its end.
    File {
        offset: u64,
    },
    /// Such a file, which one command writes and another reads.
    Commands,
}

impl Way {
    pub(super) fn by_chance(channels: u8, random: &mut Rng) -> Self {
        if channels > 0 || random.u8(..3) == 0 {
            return Self::Listening(random.choice([Transport::Tcp, Transport::Unix]).unwrap());
        }
        let offset = random.choice([0, 777, 65536]).unwrap();
        random.choice([Self::Socket, Self::Pipe, Self::File { offset }, Self::Commands]).unwrap()
    }

    /// Whether the receiver can answer, and the source break it off other than by its own end.
    pub(super) fn is_connection(self) -> bool {
        matches!(self, Self::Listening(_) | Self::Socket)
    }

    /// The source's end of it. What the receiver need not find whole, it waits for from now on.
    pub(super) fn open(
        self,
        scratch: &Path,
        receiver: &mut Receiver,
        settings: Settings,
    ) -> Result<SourceEnd, String> {
        let failed = |error: io::Error| format!("{self}: {error}");
        let path = saved(scratch);
        let (reads, writes): (OwnedFd, OwnedFd) = match self {
            Self::Listening(transport) => {
                return receiver.listen(transport, settings).map(SourceEnd::Listening);
            }
            Self::Socket => {
                UnixStream::pair().map(|(a, b)| (a.into(), b.into())).map_err(failed)?
            }
            Self::Pipe => io::pipe().map(|(a, b)| (a.into(), b.into())).map_err(failed)?,
            Self::File { .. } | Self::Commands => {
                // A source that is killed at once leaves a file all the same.
                let offset = self.offset();
                File::create(&path).and_then(|file| file.set_len(offset)).map_err(failed)?;
                let is_command = self == Self::Commands;
                return Ok(SourceEnd::Saved { path, offset, is_command });
            }
        };
        receiver.take_descriptor(&reads, settings)?;
        Ok(SourceEnd::Descriptor(writes))
    }

    /// Lets the receiver read what a source has saved that has come to its end.
    pub(super) fn read_saved(
        self,
        scratch: &Path,
        receiver: &mut Receiver,
        settings: Settings,
    ) -> Result<(), String> {
        let path = saved(scratch).display().to_string();
        match self {
            Self::File { offset } => {
                receiver.take(&format!("file:{path},offset={offset}"), settings)
            }
            Self::Commands => receiver.take(&format!("exec:cat {path}"), settings),
            Self::Listening(_) | Self::Socket | Self::Pipe => Ok(()),
        }
    }

    fn offset(self) -> u64 {
        if let Self::File { offset } = self { offset } else { 0 }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(transport) => f.write_str(&format!("{transport:?}").to_lowercase()),
            Self::Socket => f.write_str("fd:SOCKET"),
            Self::Pipe => f.write_str("fd:PIPE"),
            Self::File { offset } => write!(f, "file,offset={offset}"),
            Self::Commands => f.write_str("exec"),
        }
    }
}

/// What a source writes to.
pub(super) enum SourceEnd {
    /// The URI.
    Listening(String),
    Descriptor(OwnedFd),
    Saved {
        path: PathBuf,
        offset: u64,
        is_command: bool,
    },
}

impl SourceEnd {
    /// Where somebody listens for the source.
    pub(super) fn listening(&self) -> Option<&str> {
        if let Self::Listening(uri) = self { Some(uri) } else { None }
    }

    /// For a program that is started before this is dropped.
    pub(super) fn uri(&self) -> Result<String, String> {
        match self {
            Self::Listening(uri) => Ok(uri.clone()),
            Self::Descriptor(writes) => Ok(format!("fd:{}", inherited(writes)?.as_raw_fd())),
            Self::Saved { path, is_command: true, .. } => Ok(format!("exec:{}", writer(path))),
            Self::Saved { path, offset, .. } => {
                Ok(format!("file:{},offset={offset}", path.display()))
            }
        }
    }

    /// For the library.
    pub(super) fn into_target(self) -> Result<Target, String> {
        match self {
            Self::Listening(uri) => uri.parse().map_err(|error| format!("{uri}: {error}")),
            Self::Descriptor(writes) => Ok(Target::stream(writes)),
            Self::Saved { path, is_command: true, .. } => {
                Ok(Target::Command { args: vec!["/bin/sh".into(), "-c".into(), writer(&path)] })
            }
            Self::Saved { path, offset, .. } => Ok(Target::File { path, offset }),
        }
    }
}

fn writer(path: &Path) -> String {
    format!("cat > {}", path.display())
}

/// Where a source saves to.
fn saved(scratch: &Path) -> PathBuf {
    scratch.join("saved")
}
