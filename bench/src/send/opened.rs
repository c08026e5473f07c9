//! What main is written to: a connection, or a stream that no channel can be beside and that may
//! have no way back.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    sys::socket::{getsockopt, sockopt::SockType},
};

/// A stream, open for writing.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    /// It can be read from as well, and is written to by socket calls.
    pub(super) is_socket: bool,
    /// The command whose standard input it is.
    pub(super) command: Option<Running>,
}

impl Opened {
    /// A connection, or a descriptor of whatever kind.
    pub(super) fn of(fd: OwnedFd) -> Self {
        if getsockopt(&fd, SockType).is_ok() {
            return Self { fd, is_socket: true, command: None };
        }
        // A stop must not wait for whoever reads a pipe. Whoever else has this descriptor would be
        // told to come again too, so it is opened once more; where that cannot be, a stop waits.
        let own = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        match own {
            Ok(own) if is_pipe(&own) => Self { fd: own.into(), is_socket: false, command: None },
            _ => Self { fd, is_socket: false, command: None },
        }
    }

    /// A file from `offset` on: what stands before is kept, what stood behind is not.
    pub(super) fn file(path: &Path, offset: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        if file.metadata()?.is_file() {
            file.set_len(offset)?;
        }
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(Self { fd: file.into(), is_socket: false, command: None })
    }

    /// A command's standard input. What it says on its standard output nobody reads.
    pub(super) fn command(args: &[String]) -> io::Result<Self> {
        let [program, rest @ ..] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
        let command =
            Command::new(program).args(rest).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = command?;
        let fd = OwnedFd::from(child.stdin.take().expect("standard input is piped"));
        let command = Some(Running(child));
        // Only this end of the pipe.
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK))?;
        Ok(Self { fd, is_socket: false, command })
    }
}

/// A command that reads the stream; ended and reaped when dropped.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// How it ended, once it has closed its standard input; `None` of one that goes on without.
    pub(super) fn ended_soon(&mut self) -> Option<ExitStatus> {
        let begin = Instant::now();
        loop {
            match self.ended() {
                Ok(None) if begin.elapsed() < SOON => thread::sleep(TICK),
                ended => return ended.ok().flatten(),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_pipe(file: &File) -> bool {
    file.metadata().is_ok_and(|found| found.file_type().is_fifo())
}

/// How long a command is waited for that reads no more.
const SOON: Duration = Duration::from_secs(1);
/// How often it is asked meanwhile whether it has ended.
const TICK: Duration = Duration::from_millis(2);
