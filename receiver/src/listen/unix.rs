//! Listening on unix sockets.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use super::address::UnixAddress;
use super::error::ListenError;
use super::tcp::BACKLOG;

/// The file of a listening socket, removed when this is dropped unless someone
/// has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(why) = std::fs::remove_file(&self.path) {
            tracing::debug!("{} stays: {why}", self.path.display());
        }
    }
}

/// Opens the socket. A socket already at the path is removed, as QEMU does,
/// even one that is listened on; QEMU would remove a file too, we do not.
///
/// # Errors
/// A path too long, something else than a socket there, or the host refuses.
pub(super) fn open(unix: &UnixAddress) -> Result<(OwnedFd, Option<SocketFile>), ListenError> {
    let shown = unix.path.display();
    let bytes = unix.path.as_os_str().as_bytes();
    if bytes.len() > PATH_BYTES_MAX {
        return Err(ListenError::Address(format!("UNIX socket path '{shown}' is too long")));
    }
    let failed =
        |errno| ListenError::environment(format!("Failed to bind socket to {shown}"), errno);
    let address = if unix.abstract_name {
        let mut name = bytes.to_vec();
        if !unix.tight {
            name.resize(PATH_BYTES_MAX, 0);
        }
        UnixAddr::new_abstract(&name)
    } else {
        remove_stale(&unix.path)?;
        UnixAddr::new(&unix.path)
    }
    .map_err(failed)?;

    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    bind(socket.as_raw_fd(), &address).map_err(failed)?;
    let file = if unix.abstract_name { None } else { Some(file_at(&unix.path)?) };
    Backlog::new(BACKLOG).and_then(|backlog| listen(&socket, backlog)).map_err(failed)?;
    Ok((socket, file))
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let refuse = |reason: &str| {
        Err(ListenError::Address(format!("Failed to unlink socket {}: {reason}", path.display())))
    };
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => refuse("Is a directory"),
        Ok(found) if !found.file_type().is_socket() => refuse("it is not a socket"),
        Ok(_) => match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(why) => {
                let what = format!("Failed to unlink socket {}", path.display());
                Err(ListenError::environment(
                    what,
                    Errno::from_raw(why.raw_os_error().unwrap_or(0)),
                ))
            }
        },
    }
}

fn file_at(path: &Path) -> Result<SocketFile, ListenError> {
    let found = std::fs::symlink_metadata(path).map_err(|why| {
        let what = format!("Failed to find socket {}", path.display());
        ListenError::environment(what, Errno::from_raw(why.raw_os_error().unwrap_or(0)))
    })?;
    Ok(SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() })
}

/// `sun_path` is 108 bytes: one is the zero after a path, or before an
/// abstract name (unix(7)).
const PATH_BYTES_MAX: usize = 107;
