//! `exec:` and `file:`: one stream that is no socket.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::error::ListenError;
use super::fdsets::FdSets;

/// A command at the other end of the stream; ended and reaped when dropped.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its output has been read or given up by now: it has nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `args` and returns what its standard output is read from and its standard input
/// written to: the return path goes there (`migration/exec.c`, `exec_start_incoming_migration`).
/// A socket, as of every other source with a return path.
///
/// # Errors
/// The program cannot be started.
pub(super) fn start(args: &[String]) -> Result<(OwnedFd, Running), ListenError> {
    let [program, rest @ ..] = args else {
        return Err(ListenError::Address("exec needs a program".into()));
    };
    let started = UnixStream::pair().and_then(|(ours, theirs)| {
        let input = Stdio::from(OwnedFd::from(theirs.try_clone()?));
        let output = Stdio::from(OwnedFd::from(theirs));
        let child = Command::new(program).args(rest).stdin(input).stdout(output).spawn()?;
        Ok((OwnedFd::from(ours), Running(child)))
    });
    started.map_err(|why| {
        ListenError::environment(format!("Could not run '{program}'"), errno_of(&why))
    })
}

/// Opens a file to be read from `offset`, or takes it from the set that `path` names;
/// without an offset that is read from where it stands.
///
/// # Errors
/// It cannot be opened, or has no place to read from at `offset`.
pub(super) fn open_file(path: &Path, offset: u64, fdsets: &FdSets) -> Result<OwnedFd, ListenError> {
    let refused = |why: &std::io::Error| {
        let text = format!("Could not open '{}'", path.display());
        match errno_of(why) {
            errno @ (Errno::ENOENT | Errno::EISDIR | Errno::EINVAL | Errno::ESPIPE) => {
                ListenError::Address(format!("{text}: {}", errno.desc()))
            }
            errno => ListenError::environment(text, errno),
        }
    };
    let mut file = match fdsets.open(path, OFlag::O_RDONLY) {
        Some(of_set) => of_set.map(File::from).map_err(ListenError::Address)?,
        None => File::open(path).map_err(|why| refused(&why))?,
    };
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(refused(&std::io::Error::from(Errno::EISDIR)));
    }
    if offset != 0 {
        file.seek(SeekFrom::Start(offset)).map_err(|why| refused(&why))?;
    }
    Ok(file.into())
}

fn errno_of(why: &std::io::Error) -> Errno {
    Errno::from_raw(why.raw_os_error().unwrap_or(libc::EIO))
}
